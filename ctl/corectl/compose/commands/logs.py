"""logs: what the services wrote."""

from __future__ import annotations

from collections.abc import Sequence

import click

from corectl.compose.application import Application
from corectl.compose.existing import look
from corectl.compose.following import Follower, Printer
from corectl.times import stamp

__all__ = ["logs"]


@click.command()
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
@click.option("-f", "--follow", is_flag=True, help="Stay until all have ended.")
@click.option("-n", "--tail", default="all", metavar="N|all", help="Only the last lines of each.")
@click.option("-t", "--timestamps", is_flag=True, help="When each was written.")
@click.option("--since", default="", metavar="TIME", help="A time, or how long ago: 10m.")
@click.option("--until", default="", metavar="TIME", help="Nothing that was written later.")
@click.option("--index", type=int, default=0, help="Only the container with this number.")
@click.option("--no-color", is_flag=True, help="Without colours.")
@click.option("--no-log-prefix", is_flag=True, help="Without names before lines.")
@click.pass_obj
def logs(
    application: Application,
    services: Sequence[str],
    follow: bool,
    tail: str,
    timestamps: bool,
    since: str,
    until: str,
    index: int,
    no_color: bool,
    no_log_prefix: bool,
) -> None:
    """Show what the services wrote, each line behind the name of its container."""
    if tail != "all" and not tail.isdecimal():
        raise click.BadParameter(f"'{tail}' is neither a number nor all", param_hint="--tail")
    name, project = application.found()
    if project is not None:
        project.chosen(services)
    existing = look(application.session, name)
    replicas = existing.of(services or {r.service for r in existing.replicas})
    replicas = [replica for replica in replicas if index in (0, replica.number)]
    printer = Printer(
        [replica.short for replica in replicas],
        coloured=application.coloured and not no_color,
        prefixed=not no_log_prefix,
        stamped=timestamps,
    )
    follower = Follower(application.session.workloads, printer)
    for replica in replicas:
        follower.follow(
            replica,
            follow=follow,
            tail=-1 if tail == "all" else int(tail),
            since=stamp(since),
            until=stamp(until),
        )
        if not follow:
            follower.join()
    follower.join()
