"""run, create and start."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from corectl.options import ContainerCommand, container_config, container_options
from corectl.report import say
from corectl.session import Session
from cored.errors import (
    Cancelled,
    CoredError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unimplemented,
)

if TYPE_CHECKING:
    from corectl.fifos import Fifos
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

__all__ = ["check_terminal", "create", "exit_code", "join", "run", "start"]

_STREAMS = ("stdin", "stdout", "stderr")
_OURS, _CANNOT_RUN, _NOT_THERE = 125, 126, 127
_STOP_AT_IMAGE = {"allow_interspersed_args": False}


def exit_code(error: Exception) -> int:
    """docker's codes for a container that did not start: by what the OCI runtime said of it."""
    text = str(error).lower()
    if not isinstance(error, CoredError) or not re.search(r"\bexec(utable)?\b", text):
        return _OURS
    if "not found" in text or "no such file" in text:
        return _NOT_THERE
    # crun says "not permitted" of a directory
    if re.search(r"permission denied|not permitted|is a directory|exec format error", text):
        return _CANNOT_RUN
    return _OURS


@click.command(cls=ContainerCommand, context_settings=_STOP_AT_IMAGE)
@click.option("-d", "--detach", is_flag=True, help="Print the id and leave it alone.")
@click.option(
    "-a", "--attach", "streams", multiple=True, metavar="STREAM", help="stdin, stdout, stderr."
)
@click.option("--sig-proxy/--no-sig-proxy", default=True, help="Pass signals on.")
@click.option("--detach-keys", default="", metavar="KEYS", help="Leave it with these keys.")
@container_options
@click.pass_obj
def run(
    session: Session,
    /,
    detach: bool,
    streams: tuple[str, ...],
    sig_proxy: bool,
    detach_keys: str,
    pull: str,
    quiet: bool,
    **options: Any,
) -> int:
    """Make a container and run it; exits with its exit code.

    125 is an error of ours, 126 a command that cannot be run, 127 one that is not there.
    """
    session.failure = exit_code
    config = _config(session, options)
    if unknown := {name.lower() for name in streams} - {"stdin", "stdout", "stderr"}:
        raise click.UsageError(f"--attach: there is no stream {min(unknown)}")
    cidfile = _cidfile(options["cidfile"])
    if detach:
        made = _create(session, config, pull, None, quiet)
        _written(cidfile, made.id)
        pid = _start_or_remove(session, config, made.id)
        _written(options["pidfile"], str(pid))
        click.echo(made.id)
        return 0
    config.attached.extend(_attached(config.open_stdin, streams))
    session.failure = lambda error: 1
    raw = check_terminal(terminal=config.terminal, interactive=config.open_stdin)
    session.failure = exit_code
    # all that the foreground needs, and the background does not
    from corectl.attachment import Attachment
    from corectl.keys import DetachKeys
    from corectl.pipes import pipes

    keys = DetachKeys(detach_keys) if raw else None
    with pipes(session, stdin=config.open_stdin, terminal=config.terminal) as ends:
        made = _create(session, config, pull, ends.stdio, quiet)
        _written(cidfile, made.id)
        attachment = Attachment(
            session.workloads, made.id, made.name, _chosen(ends.ours, streams),
            terminal=config.terminal, raw=raw, keys=keys, proxy=sig_proxy, remote=session.remote,
        )  # fmt: skip
        ends.watch(attachment.cut)

        def begin() -> int:
            pid = _start_or_remove(session, config, made.id)
            _written(options["pidfile"], str(pid))
            return pid

        code = attachment.run(begin, wait_first=True)
        if attachment.detached:
            ends.kept = True  # the pipes are for who comes next; the daemon removes them
            click.echo("read escape sequence", err=True)
        elif code:
            from corectl.commands.why import tell_briefly

            tell_briefly(session, made.id)
        return code


def _config(session: Session, options: Mapping[str, Any]) -> pb.ContainerConfig:
    if session.remote:
        from corectl.mounts import relative

        if text := relative(options):
            session.only_here(
                f"mount '{text}': its source is on this machine",
                "name a path of the daemon's host, or copy files with corectl cp",
            )
    return container_config(options)


def _attached(stdin: bool, streams: Sequence[str]) -> list[str]:
    """Which streams, by docker's rules."""
    names = [name.lower() for name in streams]
    return [one for one in _STREAMS if one in names] or list(_STREAMS[0 if stdin else 1 :])


def _chosen(fifos: Fifos, streams: Sequence[str]) -> Fifos:
    """Only the streams that are named, or all."""
    from corectl.fifos import Fifos

    if not streams:
        return fifos
    names = {name.lower() for name in streams}
    kept = [getattr(fifos, name) if name in names else "" for name in _STREAMS]
    return Fifos(fifos.directory, *kept)


def _cidfile(path: str) -> str:
    """The path itself; InvalidArgument when there is something."""
    if path and Path(path).exists():
        raise InvalidArgument(f"--cidfile '{path}': is there already", hint="remove it first")
    return path


def _written(path: str, text: str) -> None:
    if path:
        Path(path).write_text(text)


@click.command(cls=ContainerCommand, context_settings=_STOP_AT_IMAGE)
@container_options
@click.pass_obj
def create(session: Session, /, pull: str, quiet: bool, **options: Any) -> None:
    """Make a container without starting it; prints its id.

    125 is a wrong usage, 1 what the daemon refuses.
    """
    cidfile = _cidfile(options["cidfile"])
    usual, session.failure = session.failure, exit_code
    config = _config(session, options)
    session.failure = usual
    config.attached.extend(_attached(config.open_stdin, ()))
    made = _create(session, config, pull, None, quiet)
    _written(cidfile, made.id)
    click.echo(made.id)


@click.command()
@click.argument("containers", metavar="CONTAINER...", nargs=-1, required=True)
@click.option("-a", "--attach", is_flag=True, help="Show its output; exit with its exit code.")
@click.option("-i", "--interactive", is_flag=True, help="Attach standard input, too.")
@click.option("--sig-proxy/--no-sig-proxy", default=True, help="Pass signals on.")
@click.option("--detach-keys", default="", metavar="KEYS", help="Leave it with these keys.")
@click.pass_obj
def start(
    session: Session,
    containers: tuple[str, ...],
    attach: bool,
    interactive: bool,
    sig_proxy: bool,
    detach_keys: str,
) -> int:
    """Start containers that do not run."""
    if not (attach or interactive):
        from corectl.each import each

        def begin(container: str) -> None:
            try:
                session.workloads.start(container)
            except FailedPrecondition:
                # as docker has it: one that runs is no failure
                if session.workloads.inspect(container).container.status != "running":
                    raise
            click.echo(container)

        return each(session, containers, begin)
    if len(containers) > 1:
        raise click.UsageError("only one container can be attached")
    return _start_attached(session, containers[0], interactive, detach_keys, sig_proxy)


def _start_attached(
    session: Session, container: str, interactive: bool, keys: str, proxy: bool
) -> int:
    from corectl.attachment import Attachment
    from corectl.keys import DetachKeys
    from corectl.pipes import pipes

    workloads = session.workloads
    found = workloads.inspect(container)
    if found.container.status == "running":
        raise InvalidArgument(f"container '{container}': runs already", hint="see corectl logs -f")
    terminal = found.config.terminal
    raw = check_terminal(terminal=terminal, interactive=interactive)
    with pipes(session, stdin=interactive, terminal=terminal) as ends:
        attachment = Attachment(
            workloads, found.container.id, found.container.name, ends.ours, terminal=terminal,
            raw=raw, keys=DetachKeys(keys) if raw else None, proxy=proxy, remote=session.remote,
        )  # fmt: skip
        ends.watch(attachment.cut)
        code = attachment.run(
            lambda: workloads.start(found.container.id, ends.stdio), wait_first=False
        )
        if attachment.detached:
            ends.kept = True
            click.echo("read escape sequence", err=True)
        return code


def join(session: Session, container: str, *, stdin: bool, proxy: bool, keys: str) -> int:
    """Attach to a running container, beside whoever else is; its exit code."""
    from corectl.attachment import Attachment
    from corectl.keys import DetachKeys
    from corectl.pipes import pipes

    workloads = session.workloads
    found = workloads.inspect(container).container
    there = workloads.attach(container)
    stdin = stdin and bool(there.stdin)
    raw = check_terminal(terminal=there.terminal, interactive=stdin)
    try:
        with pipes(session, stdin=stdin, terminal=there.terminal, container=found.id) as ends:
            ours = ends.ours
            if stdin and not session.remote:
                ours = replace(ours, stdin=there.stdin)
            attachment = Attachment(
                workloads, found.id, found.name, ours, terminal=there.terminal, raw=raw,
                keys=DetachKeys(keys) if raw else None, proxy=proxy, remote=session.remote,
            )  # fmt: skip
            ends.watch(attachment.cut)

            def begin() -> int:
                if not session.remote:
                    workloads.attach(found.id, ends.stdout, ends.stderr)
                return found.pid

            code = attachment.run(begin, wait_first=True, input_first=False)
    except Unimplemented:
        click.echo(f"corectl: {found.name}: nobody can join its streams; its log follows", err=True)
        return _followed(session, found.id)
    if attachment.detached and raw:
        click.echo("read escape sequence", err=True)
    return code


def _followed(session: Session, id: str) -> int:
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    pending = session.workloads.wait(id)
    request = pb.LogsRequest(container=id, follow=True, tail=0)
    for record in session.workloads.logs(request):
        stream = sys.stderr.buffer if record.stream == "stderr" else sys.stdout.buffer
        stream.write(record.data)
        stream.flush()
    return pending.result().exit_status


def check_terminal(*, terminal: bool, interactive: bool) -> bool:
    """Whether our terminal becomes the container's."""
    if terminal and interactive and not sys.stdin.isatty():
        raise InvalidArgument(
            "--tty: standard input is not a terminal", hint="leave -t away, or run in a terminal"
        )
    return terminal and interactive


def _create(
    session: Session, config: pb.ContainerConfig, pull: str, stdio: pb.Stdio | None, quiet: bool
) -> pb.CreateResponse:
    """Make the container, fetching its image first when it is not there (or always)."""
    if pull == "always":
        _pull(session, config, quiet)
    try:
        made = session.workloads.create(config, stdio)
    except NotFound as error:
        if pull != "missing" or not error.message.startswith("image"):
            raise
        if not quiet:
            say(f"image '{config.image}': not here: pulling it")
        _pull(session, config, quiet)
        made = session.workloads.create(config, stdio)
    for warning in made.warnings:
        click.echo(f"corectl: {made.name}: {warning}", err=True)
    return made


def _pull(session: Session, config: pb.ContainerConfig, quiet: bool) -> None:
    from corectl import progress
    from corectl.credentials import auths_for
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    request = pb.PullRequest(
        reference=config.image,
        platform=config.platform,
        snapshotter=config.snapshotter,
        auths=auths_for([config.image]),
    )
    for _ in progress.show(session.workloads.pull(request), quiet=quiet):
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
