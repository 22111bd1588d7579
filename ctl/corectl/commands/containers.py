"""run, create and start."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import click

from corectl.options import container_config, container_options
from corectl.session import Session
from cored.errors import Cancelled, CoredError, InvalidArgument, NotFound, Unavailable

if TYPE_CHECKING:
    from corectl.fifos import Fifos
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

__all__ = ["create", "exit_code", "run", "start"]

_OURS, _CANNOT_RUN, _NOT_THERE = 125, 126, 127
_STOP_AT_IMAGE = {"allow_interspersed_args": False}


def exit_code(error: Exception) -> int:
    """docker's codes for a container that did not start: by what the OCI runtime said of it."""
    text = str(error).lower()
    if not isinstance(error, CoredError) or not re.search(r"\bexec(utable)?\b", text):
        return _OURS
    if "not found" in text or "no such file" in text:
        return _NOT_THERE
    if re.search(r"permission denied|is a directory|exec format error", text):
        return _CANNOT_RUN
    return _OURS


@click.command(context_settings=_STOP_AT_IMAGE)
@click.option("-d", "--detach", is_flag=True, help="Print the id and leave it alone.")
@container_options
@click.pass_obj
def run(session: Session, /, detach: bool, pull: str, **options: Any) -> int:
    """Make a container and run it; exits with its exit code.

    125 is an error of ours, 126 a command that cannot be run, 127 one that is not there.
    """
    session.failure = exit_code
    config = container_config(options)
    if detach:
        made = _create(session, config, pull, None)
        _start_or_remove(session, config, made.id)
        click.echo(made.id)
        return 0
    raw = _check_terminal(terminal=config.terminal, interactive=config.open_stdin)
    # all that the foreground needs, and the background does not
    from corectl.attachment import Attachment
    from corectl.fifos import Fifos

    with Fifos.make(stdin=config.open_stdin, terminal=config.terminal) as fifos:
        made = _create(session, config, pull, fifos)
        attachment = Attachment(
            session.workloads, made.id, made.name, fifos, terminal=config.terminal, raw=raw
        )
        return attachment.run(lambda: _start_or_remove(session, config, made.id), wait_first=True)


@click.command(context_settings=_STOP_AT_IMAGE)
@container_options
@click.pass_obj
def create(session: Session, /, pull: str, **options: Any) -> None:
    """Make a container without starting it; prints its id."""
    click.echo(_create(session, container_config(options), pull, None).id)


@click.command()
@click.argument("containers", metavar="CONTAINER...", nargs=-1, required=True)
@click.option("-a", "--attach", is_flag=True, help="Show its output; exit with its exit code.")
@click.option("-i", "--interactive", is_flag=True, help="Attach standard input, too.")
@click.pass_obj
def start(session: Session, containers: tuple[str, ...], attach: bool, interactive: bool) -> int:
    """Start containers that do not run."""
    if not (attach or interactive):
        from corectl.each import each

        def begin(container: str) -> None:
            session.workloads.start(container)
            click.echo(container)

        return each(session, containers, begin)
    if len(containers) > 1:
        raise click.UsageError("only one container can be attached")
    return _start_attached(session, containers[0], interactive)


def _start_attached(session: Session, container: str, interactive: bool) -> int:
    from corectl.attachment import Attachment
    from corectl.fifos import Fifos

    workloads = session.workloads
    found = workloads.inspect(container)
    if found.container.status == "running":
        raise InvalidArgument(f"container '{container}': runs already", hint="see corectl logs -f")
    terminal = found.config.terminal
    raw = _check_terminal(terminal=terminal, interactive=interactive)
    with Fifos.make(stdin=interactive, terminal=terminal) as fifos:
        attachment = Attachment(
            workloads, found.container.id, found.container.name, fifos, terminal=terminal, raw=raw
        )
        return attachment.run(
            lambda: workloads.start(found.container.id, _stdio(fifos)), wait_first=False
        )


def _check_terminal(*, terminal: bool, interactive: bool) -> bool:
    """Whether our terminal becomes the container's."""
    if terminal and interactive and not sys.stdin.isatty():
        raise InvalidArgument(
            "--tty: standard input is not a terminal", hint="leave -t away, or run in a terminal"
        )
    return terminal and interactive


def _create(
    session: Session, config: pb.ContainerConfig, pull: str, fifos: Fifos | None
) -> pb.CreateResponse:
    """Make the container, fetching its image first when it is not there (or always)."""
    stdio = None if fifos is None else _stdio(fifos)
    if pull == "always":
        _pull(session, config)
    try:
        made = session.workloads.create(config, stdio)
    except NotFound as error:
        if pull != "missing" or not error.message.startswith("image"):
            raise
        _pull(session, config)
        made = session.workloads.create(config, stdio)
    for warning in made.warnings:
        click.echo(f"corectl: {made.name}: {warning}", err=True)
    return made


def _pull(session: Session, config: pb.ContainerConfig) -> None:
    from corectl import progress
    from corectl.credentials import auths_for
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    request = pb.PullRequest(
        reference=config.image,
        platform=config.platform,
        snapshotter=config.snapshotter,
        auths=auths_for([config.image]),
    )
    for _ in progress.show(session.workloads.pull(request)):
        continue


def _start_or_remove(session: Session, config: pb.ContainerConfig, container: str) -> int:
    """Start it; one that removes itself must not stay when it cannot run."""
    try:
        return session.workloads.start(container)
    except (Unavailable, Cancelled):
        # how far it got is not known: the next daemon decides
        raise
    except CoredError:
        if config.auto_remove:
            _remove(session, container)
        raise


def _remove(session: Session, container: str) -> None:
    try:
        session.workloads.remove(container, force=True)
    except NotFound:
        return


def _stdio(fifos: Fifos) -> pb.Stdio:
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    return pb.Stdio(stdin=fifos.stdin, stdout=fifos.stdout, stderr=fifos.stderr)
