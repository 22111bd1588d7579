"""pull, images, rmi, and image import | ls | rm."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from corectl import output
from corectl.each import each
from corectl.session import Session

if TYPE_CHECKING:
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

__all__ = ["import_", "ls", "pull", "rm"]

platform_option = click.option("--platform", default="", help="os/arch[/variant] of the image.")
snapshotter_option = click.option("--snapshotter", default="", help="Snapshotter to unpack with.")


@click.command()
@click.argument("reference", metavar="IMAGE")
@platform_option
@snapshotter_option
@click.option("-u", "--user", default="", metavar="NAME[:PASSWORD]", help="Registry login.")
@click.option("-q", "--quiet", is_flag=True, help="Only the name at the end.")
@click.pass_obj
def pull(
    session: Session, reference: str, platform: str, snapshotter: str, user: str, quiet: bool
) -> None:
    """Fetch an image from a registry and unpack it."""
    from corectl import progress
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    name, colon, password = user.partition(":")
    if name and not colon:
        password = click.prompt("Password", hide_input=True, err=True)
    request = pb.PullRequest(
        reference=reference,
        platform=platform,
        snapshotter=snapshotter,
        username=name,
        password=password,
    )
    for image in progress.show(session.workloads.pull(request), quiet=quiet):
        click.echo(image.name)


@click.command("import")
@click.argument("file", metavar="FILE|-", type=click.Path(allow_dash=True))
@click.option("--name", default="", help="Name for the image, in place of what the archive says.")
@platform_option
@snapshotter_option
@click.option("-q", "--quiet", is_flag=True, help="Only the names at the end.")
@click.pass_obj
def import_(
    session: Session, file: str, name: str, platform: str, snapshotter: str, quiet: bool
) -> None:
    """Load an OCI layout or docker-archive tar from FILE or standard input."""
    from corectl import progress
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    options = pb.ImportOptions(name=name, platform=platform, snapshotter=snapshotter, source=file)
    with _archive(file) as archive:
        steps = session.workloads.import_archive(archive, options)
        for image in progress.show(steps, quiet=quiet):
            click.echo(image.name)


def _archive(file: str) -> BinaryIO:
    if file != "-":
        return open(file, "rb", buffering=0)
    if sys.stdin.isatty():
        raise click.UsageError("standard input is a terminal, not an archive")
    return open(0, "rb", buffering=0, closefd=False)


@click.command()
@click.option("-q", "--quiet", is_flag=True, help="Only names.")
@output.choice
@click.pass_obj
def ls(session: Session, quiet: bool, form: str) -> None:
    """List images."""
    images = sorted(session.workloads.images(), key=lambda image: image.name)
    if quiet:
        for image in images:
            click.echo(image.name)
    elif form == "json":
        output.as_json([_as_dict(image) for image in images])
    else:
        rows = [
            (
                i.name,
                output.digest(i.config_digest),
                _ago(i.created_at.seconds),
                output.size(i.size),
            )
            for i in images
        ]
        output.table(("NAME", "ID", "CREATED", "SIZE"), rows)


def _ago(seconds: int) -> str:
    age = output.age(seconds)
    return f"{age} ago" if age else "-"


def _as_dict(image: pb.Image) -> dict[str, Any]:
    return {
        "name": image.name,
        "digest": image.target.digest,
        "media_type": image.target.media_type,
        "id": image.config_digest,
        "created_at": output.iso(image.created_at.seconds, image.created_at.nanos),
        "size": image.size,
        "labels": dict(image.labels),
    }


@click.command()
@click.argument("references", metavar="IMAGE...", nargs=-1, required=True)
@click.option("-f", "--force", is_flag=True, help="Also when containers were made from it.")
@click.pass_obj
def rm(session: Session, references: tuple[str, ...], force: bool) -> int:
    """Remove images, with all content that nothing else needs."""
    workloads = session.workloads

    def remove(reference: str) -> None:
        for name in workloads.remove_image(reference, force=force):
            click.echo(f"untagged: {name}")

    return each(session, references, remove)
