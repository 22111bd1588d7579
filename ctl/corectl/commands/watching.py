"""top, stats and events."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from corectl import output
from corectl.session import Session

if TYPE_CHECKING:
    from cored._pb.cored.workloads.v1 import processes_pb2 as pb

__all__ = ["events", "stats", "top"]

_STATS = {
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("container")
@click.argument("arguments", metavar="[PS OPTION]...", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def top(session: Session, container: str, arguments: tuple[str, ...]) -> None:
    """Show a container's processes, with options of ps(1)."""
    found = session.workloads.top(container, arguments)
    output.table(list(found.titles), [list(row.cells) for row in found.rows])


@click.command()
@click.argument("containers", metavar="[CONTAINER...]", nargs=-1)
@click.option("-a", "--all", "everyone", is_flag=True, help="Also those that do not run.")
@click.option("--no-stream", is_flag=True, help="Once.")
@click.option("--no-trunc", is_flag=True, help="Whole ids.")
@output.template_option
@click.pass_obj
def stats(
    session: Session,
    containers: tuple[str, ...],
    everyone: bool,
    no_stream: bool,
    no_trunc: bool,
    form: str,
) -> None:
    """Show what containers use, once a second."""
    from cored._pb.cored.workloads.v1 import processes_pb2 as pb

    request = pb.StatsRequest(containers=containers, stream=not no_stream, all=everyone)
    screen = not no_stream and sys.stdout.isatty()
    for answer in session.workloads.stats(request):
        if screen:
            click.echo("\033[H\033[J", nl=False)
        records = [_usage(one, whole=no_trunc) for one in answer.containers]
        for record, name in zip(records, containers, strict=False):
            record["Container"] = name
        output.listing(form, _STATS, records, headings={"Container": "CONTAINER"})
        sys.stdout.flush()


def _usage(one: pb.ContainerStats, *, whole: bool) -> dict[str, Any]:
    """By the names that docker has for what templates can show."""
    id = one.id if whole else output.digest(one.id)
    share = one.memory / one.memory_limit * 100 if one.memory_limit else 0.0
    shown = {
        "CPUPerc": f"{one.cpu_percent:.2f}%",
        "MemUsage": f"{binary(one.memory)} / {binary(one.memory_limit)}",
        "MemPerc": f"{share:.2f}%",
        "NetIO": f"{_decimal(one.received)} / {_decimal(one.sent)}",
        "BlockIO": f"{_decimal(one.read)} / {_decimal(one.written)}",
        "PIDs": str(one.pids),
    }
    if not one.running:
        shown = {"CPUPerc": "--", "MemUsage": "-- / --", "MemPerc": "--", "NetIO": "--",
                 "BlockIO": "--", "PIDs": "--"}  # fmt: skip
    return {"Container": id, "ID": id, "Name": one.name, **shown}


def binary(count: int) -> str:
    """1.5MiB, as docker shows memory."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.4g}{unit}"
        value /= 1024
    return f"{value:.4g}TiB"


def _decimal(count: int) -> str:
    return output.size(count).replace(" ", "")


@click.command()
@click.option("--since", default="", metavar="TIME", help="Also what happened since then.")
@click.option("--until", default="", metavar="TIME", help="And no longer than until then.")
@click.option(
    "-f",
    "--filter",
    "filters",
    multiple=True,
    metavar="KEY=VALUE",
    help="container=, event=, image=, label=, type=, network=, volume=.",
)
@click.option("--format", "form", default="", metavar="json|TEMPLATE", help="Go template.")
@click.pass_obj
def events(session: Session, since: str, until: str, filters: Sequence[str], form: str) -> None:
    """Show what happens to containers, images, networks and volumes."""
    from corectl.times import stamp
    from cored._pb.cored.workloads.v1 import processes_pb2 as pb

    request = pb.EventsRequest(since=stamp(since), until=stamp(until), filters=filters)
    for one in session.workloads.events(request):
        if form:
            output.listing(form, {}, [happening(one)])
        else:
            more = ", ".join(f"{key}={value}" for key, value in sorted(one.attributes.items()))
            words = f"{_local(one)} {one.type} {one.action} {one.id}"
            click.echo(f"{words} ({more})" if more else words)
        sys.stdout.flush()


def happening(one: pb.Happening) -> dict[str, Any]:
    """An event by docker's names."""
    return {
        "status": one.action,
        "id": one.id,
        "from": one.attributes.get("image", ""),
        "Type": one.type,
        "Action": one.action,
        "Actor": {"ID": one.id, "Attributes": dict(one.attributes)},
        "scope": "local",
        "time": one.time.seconds,
        "timeNano": one.time.seconds * 10**9 + one.time.nanos,
        # as older templates have them
        "Status": one.action,
        "ID": one.id,
        "From": one.attributes.get("image", ""),
        "Time": one.time.seconds,
        "TimeNano": one.time.seconds * 10**9 + one.time.nanos,
    }


def _local(one: pb.Happening) -> str:
    there = time.localtime(one.time.seconds)
    zone = time.strftime("%z", there)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', there)}.{one.time.nanos:09}{zone[:3]}:{zone[3:]}"
