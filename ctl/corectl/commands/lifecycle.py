"""stop, kill, rm and wait."""

from __future__ import annotations

import signal as signals

import click

from corectl.each import each
from corectl.session import Session

__all__ = ["kill", "rm", "signal_number", "stop", "wait"]

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


@click.command()
@containers_argument
@click.option("-t", "--time", type=click.IntRange(0), default=None, help="Seconds to SIGKILL [10].")
@click.pass_obj
def stop(session: Session, containers: tuple[str, ...], time: int | None) -> int:
    """Stop containers: their stop signal, then SIGKILL."""
    workloads = session.workloads

    def act(container: str) -> None:
        if time == 0:
            workloads.kill(container, signals.SIGKILL)
            workloads.wait(container).result()
        else:
            workloads.stop(container, time or 0)
        click.echo(container)

    return each(session, containers, act)


@click.command()
@containers_argument
@click.option("-f", "--force", is_flag=True, help="Kill those that run.")
@click.pass_obj
def rm(session: Session, containers: tuple[str, ...], force: bool) -> int:
    """Remove containers, with their filesystems and logs."""
    workloads = session.workloads

    def act(container: str) -> None:
        workloads.remove(container, force=force)
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
