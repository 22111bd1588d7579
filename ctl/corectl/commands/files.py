"""cp, diff, export and commit."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

import click

from corectl.session import Session
from cored.errors import InvalidArgument

__all__ = ["commit", "cp", "diff", "export"]


@click.command()
@click.option("-a", "--archive", is_flag=True, help="Keep owners.")
@click.option("-L", "--follow-link", is_flag=True, help="Copy what a link in SOURCE leads to.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing.")
@click.argument("source")
@click.argument("target")
@click.pass_obj
def cp(
    session: Session, archive: bool, follow_link: bool, quiet: bool, source: str, target: str
) -> None:
    """Copy files between a container (CONTAINER:PATH) and here; - is a tar."""
    from corectl import copying

    ours, theirs = copying.place(source), copying.place(target)
    if (ours is None) == (theirs is None):
        raise click.UsageError("one of SOURCE and TARGET must be CONTAINER:PATH")
    if ours is not None:
        copying.from_container(session, *ours, target, follow=follow_link, owners=archive)
    elif theirs is not None:
        copying.into_container(session, source, *theirs, follow=follow_link, owners=archive)
    if not quiet and "-" not in (source, target) and sys.stderr.isatty():
        click.echo(f"Successfully copied to {target}", err=True)


@click.command()
@click.argument("container")
@click.pass_obj
def diff(session: Session, container: str) -> None:
    """Show what a container has added, changed and deleted of its image."""
    for change in session.workloads.changes(container):
        click.echo(f"{change.kind} {change.path}")


@click.command()
@click.argument("container")
@click.option("-o", "--output", default="", metavar="FILE", help="In place of standard output.")
@click.pass_obj
def export(session: Session, container: str, output: str) -> None:
    """Write a container's filesystem as a tar."""
    if not output and sys.stdout.isatty():
        raise InvalidArgument("export: a tar is nothing for a terminal", hint="-o FILE, or |")
    pieces = session.workloads.export_container(container)
    first = next(pieces, b"")
    # standard output is not ours to close
    with Path(output).open("wb") if output else nullcontext(sys.stdout.buffer) as file:
        file.write(first)
        for piece in pieces:
            file.write(piece)


@click.command()
@click.argument("container")
@click.argument("reference", metavar="[NAME[:TAG]]", required=False, default="")
@click.option("-a", "--author", default="", help="Who made it.")
@click.option("-m", "--message", default="", help="Why.")
@click.option("-c", "--change", "changes", multiple=True, metavar="INSTRUCTION", help="As CMD ls.")
@click.option("-p", "--pause/--no-pause", default=True, help="Pause it meanwhile.")
@click.pass_obj
def commit(
    session: Session,
    container: str,
    reference: str,
    author: str,
    message: str,
    changes: tuple[str, ...],
    pause: bool,
) -> None:
    """Make an image of what a container has become; prints its id."""
    from cored._pb.cored.workloads.v1 import volumes_pb2 as pb

    made = session.workloads.commit(
        pb.CommitRequest(
            container=container,
            reference=reference,
            author=author,
            message=message,
            changes=changes,
            pause=pause,
        )
    )
    click.echo(made.id)
