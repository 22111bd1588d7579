"""stop, kill, rm, wait, restart, pause, unpause, rename, update and prune."""

from __future__ import annotations

import signal as signals
from typing import Any

import click

from corectl.care import patience
from corectl.each import each
from corectl.session import Session

__all__ = [
    "kill",
    "pause",
    "prune",
    "rename",
    "restart",
    "rm",
    "signal_number",
    "stop",
    "unpause",
    "update",
    "wait",
]

containers_argument = click.argument("containers", metavar="CONTAINER...", nargs=-1, required=True)


def signal_number(text: str) -> int:
    """TERM, SIGTERM, sigterm or 15. BadParameter."""
    if text.isdecimal() and 0 < int(text) < signals.NSIG:
        return int(text)
    name = text.upper().removeprefix("SIG")
    try:
        return int(signals.Signals[f"SIG{name}"])
    except KeyError:
        raise click.BadParameter(f"'{text}' is not a signal", param_hint="--signal") from None


@click.command()
@containers_argument
@click.option("-s", "--signal", default="KILL", show_default=True, help="Name or number.")
@click.pass_obj
def kill(session: Session, containers: tuple[str, ...], signal: str) -> int:
    """Send containers a signal."""
    number, workloads = signal_number(signal), session.workloads

    def act(container: str) -> None:
        workloads.kill(container, number)
        click.echo(container)

    return each(session, containers, act)


def _patience(command: Any) -> Any:
    """Decorate with what stop and restart have in common."""
    signal = click.option("-s", "--signal", default="", help="In place of its stop signal.")
    time = click.option(
        "-t", "--time", "--timeout", type=int, default=None, help="Seconds to SIGKILL [10]."
    )
    return signal(time(command))


@click.command()
@containers_argument
@_patience
@click.pass_obj
def stop(session: Session, containers: tuple[str, ...], time: int | None, signal: str) -> int:
    """Stop containers: their stop signal, then SIGKILL."""
    workloads = session.workloads

    def act(container: str) -> None:
        workloads.stop(container, patience(time), signal=signal)
        click.echo(container)

    return each(session, containers, act)


@click.command()
@containers_argument
@_patience
@click.pass_obj
def restart(session: Session, containers: tuple[str, ...], time: int | None, signal: str) -> int:
    """Stop containers, as far as they run, and start them."""
    workloads = session.workloads

    def act(container: str) -> None:
        workloads.restart(container, patience(time), signal)
        click.echo(container)

    return each(session, containers, act)


@click.command()
@containers_argument
@click.option("-f", "--force", is_flag=True, help="Kill those that run.")
@click.option("-v", "--volumes", is_flag=True, help="Their anonymous volumes, too.")
@click.pass_obj
def rm(session: Session, containers: tuple[str, ...], force: bool, volumes: bool) -> int:
    """Remove containers, with their filesystems and logs."""
    workloads = session.workloads

    def act(container: str) -> None:
        workloads.remove(container, force=force, volumes=volumes)
        click.echo(container)

    return each(session, containers, act)


@click.command()
@containers_argument
@click.pass_obj
def wait(session: Session, containers: tuple[str, ...]) -> int:
    """Wait until containers end; print their exit codes."""
    workloads = session.workloads
    return each(
        session, containers, lambda c: click.echo(str(workloads.wait(c).result().exit_status))
    )


@click.command()
@containers_argument
@click.pass_obj
def pause(session: Session, containers: tuple[str, ...]) -> int:
    """Freeze all processes of containers."""
    workloads = session.workloads

    def act(container: str) -> None:
        workloads.pause(container)
        click.echo(container)

    return each(session, containers, act)


@click.command()
@containers_argument
@click.pass_obj
def unpause(session: Session, containers: tuple[str, ...]) -> int:
    """Let paused containers go on."""
    workloads = session.workloads

    def act(container: str) -> None:
        workloads.unpause(container)
        click.echo(container)

    return each(session, containers, act)


@click.command()
@click.argument("container")
@click.argument("name")
@click.pass_obj
def rename(session: Session, container: str, name: str) -> None:
    """Give a container another name."""
    session.workloads.rename(container, name)


def _limits(command: Any) -> Any:
    """Decorate with the limits that a running container can get."""
    from corectl.limits import changeable_options

    for option in reversed(changeable_options()):
        command = option(command)
    return command


@click.command()
@containers_argument
@_limits
@click.option("--restart", default="", metavar="POLICY", help="Its new restart policy.")
@click.pass_obj
def update(session: Session, /, containers: tuple[str, ...], restart: str, **options: Any) -> int:
    """Change limits and restart policy of containers, at once where they run."""
    from corectl.care import restart_policy
    from corectl.limits import changed
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    resources, policy = changed(options), restart_policy(restart)

    def act(container: str) -> None:
        session.workloads.update(
            pb.UpdateRequest(container=container, resources=resources, restart=policy)
        )
        click.echo(container)

    return each(session, containers, act)


@click.command()
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("--filter", "filters", multiple=True, metavar="KEY=VALUE", help="until=, label=.")
@click.pass_obj
def prune(session: Session, force: bool, filters: tuple[str, ...]) -> None:
    """Remove all containers that do not run."""
    from corectl import output

    if not force:
        click.echo("WARNING! This will remove all stopped containers.", err=True)
        click.confirm("Are you sure you want to continue?", abort=True, err=True)
    done = session.workloads.prune_containers(filters)
    if done.removed:
        click.echo("Deleted Containers:")
        for id in done.removed:
            click.echo(id)
        click.echo()
    click.echo(f"Total reclaimed space: {output.size(done.reclaimed).replace(' ', '')}")
