"""exec and attach."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from corectl.commands.containers import check_terminal, exit_code, join
from corectl.session import Session

if TYPE_CHECKING:
    from corectl.keys import DetachKeys
    from corectl.pipes import Pipes
    from cored._pb.cored.workloads.v1 import processes_pb2

__all__ = ["attach", "exec_"]

_OURS = 125


def _exec_code(error: Exception) -> int:
    """126 and 127 as for run; what has nothing to do with the command is 1."""
    code = exit_code(error)
    return 1 if code == _OURS else code


@click.command("exec", context_settings={"allow_interspersed_args": False})
@click.option("-d", "--detach", is_flag=True, help="Leave it alone.")
@click.option("-i", "--interactive", is_flag=True, help="Attach standard input.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal.")
@click.option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Environment variable.")
@click.option("--env-file", multiple=True, metavar="FILE", help="Lines of NAME=VALUE.")
@click.option("-u", "--user", default="", metavar="UID[:GID]", help="User, by number or name.")
@click.option("-w", "--workdir", default="", help="Working directory.")
@click.option("--privileged", is_flag=True, help="All capabilities.")
@click.option("--detach-keys", default="", metavar="KEYS", help="Leave it with these keys.")
@click.argument("container")
@click.argument("args", metavar="COMMAND [ARG]...", nargs=-1, type=click.UNPROCESSED, required=True)
@click.pass_obj
def exec_(
    session: Session,
    detach: bool,
    interactive: bool,
    tty: bool,
    env: tuple[str, ...],
    env_file: tuple[str, ...],
    user: str,
    workdir: str,
    privileged: bool,
    detach_keys: str,
    container: str,
    args: tuple[str, ...],
) -> int:
    """Run a command in a running container; exits with its exit code.

    126 is a command that cannot be run, 127 one that is not there.
    """
    from corectl import files
    from corectl.options import environment
    from cored._pb.cored.workloads.v1 import processes_pb2

    session.failure = _exec_code
    request = processes_pb2.ExecRequest(
        container=container,
        args=args,
        env=[*files.environment(env_file), *environment(env, os.environ)],
        working_directory=workdir,
        user=user,
        terminal=tty,
        privileged=privileged,
    )
    if detach:
        session.workloads.exec(request)
        return 0
    raw = check_terminal(terminal=tty, interactive=interactive)
    from corectl.keys import DetachKeys
    from corectl.pipes import pipes

    keys = DetachKeys(detach_keys) if raw else None
    with pipes(session, stdin=interactive, terminal=tty, drop=True) as ends:
        return _joined(session, request, ends, raw, keys)


def _joined(
    session: Session,
    request: processes_pb2.ExecRequest,
    ends: Pipes,
    raw: bool,
    keys: DetachKeys | None,
) -> int:
    from corectl.attachment import ExecAttachment

    request.stdin, request.stdout, request.stderr = ends.stdin, ends.stdout, ends.stderr
    attachment = ExecAttachment(
        session.workloads,
        request.container,
        request.container,
        ends.ours,
        terminal=request.terminal,
        raw=raw,
        keys=keys,
        remote=session.remote,
    )
    ends.watch(attachment.cut)
    return attachment.run(lambda: attachment.begin(request), wait_first=False)


@click.command()
@click.option("--no-stdin", is_flag=True, help="Only look.")
@click.option("--sig-proxy/--no-sig-proxy", default=True, help="Pass signals on.")
@click.option("--detach-keys", default="", metavar="KEYS", help="Leave it with these keys.")
@click.argument("container")
@click.pass_obj
def attach(
    session: Session, no_stdin: bool, sig_proxy: bool, detach_keys: str, container: str
) -> int:
    """Join a running container's streams; exits with its exit code.

    ctrl-p ctrl-q leaves a container with a terminal to itself.
    """
    return join(session, container, stdin=not no_stdin, proxy=sig_proxy, keys=detach_keys)
