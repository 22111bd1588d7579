"""ps, as docker's."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from corectl import output
from corectl.published import in_short
from corectl.session import Session

if TYPE_CHECKING:
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

__all__ = ["ps", "record", "state"]

_COMMAND_WIDTH = 20
_COLUMNS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "Ports": "PORTS",
    "Names": "NAMES",
}
_HEADINGS = {
    "CreatedAt": "CREATED AT",
    "State": "STATE",
    "Size": "SIZE",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "Networks": "NETWORKS",
    "LocalVolumes": "LOCAL VOLUMES",
}
_STEPS = ((60, 1, "second"), (3600, 60, "minute"), (48 * 3600, 3600, "hour"),
          (14 * 86400, 86400, "day"), (60 * 86400, 7 * 86400, "week"),
          (2 * 365 * 86400, 30 * 86400, "month"))  # fmt: skip


@click.command()
@click.option("-a", "--all", "everyone", is_flag=True, help="Also those that do not run.")
@click.option("-q", "--quiet", is_flag=True, help="Only ids.")
@click.option("-l", "--latest", is_flag=True, help="Only the one that was made last.")
@click.option("-n", "--last", type=int, default=-1, metavar="N", help="Only those made last.")
@click.option("-s", "--size", is_flag=True, help="How much they have written.")
@click.option("--no-trunc", is_flag=True, help="Whole ids and commands.")
@click.option(
    "-f",
    "--filter",
    "filters",
    multiple=True,
    metavar="KEY=VALUE",
    help="id=, name=, label=, status=, exited=, ancestor=, health=, volume=, network=, …",
)
@output.template_option
@click.pass_obj
def ps(
    session: Session,
    everyone: bool,
    quiet: bool,
    latest: bool,
    last: int,
    size: bool,
    no_trunc: bool,
    filters: tuple[str, ...],
    form: str,
) -> None:
    """List containers."""
    wanted = 1 if latest else last
    size = size or "{{.Size" in form.replace(" ", "")
    found = session.workloads.containers(
        everyone=everyone or wanted >= 0, filters=filters, size=size
    )
    found.sort(key=lambda one: (one.created_at.seconds, one.created_at.nanos), reverse=True)
    if wanted >= 0:
        found = found[:wanted]
    if quiet and not form:
        for one in found:
            click.echo(one.id if no_trunc else output.digest(one.id))
        return
    columns = {**_COLUMNS, "Size": "SIZE"} if size else _COLUMNS
    records = [record(one, whole=no_trunc) for one in found]
    output.listing(form, columns, records, headings=_HEADINGS)


def record(one: pb.Container, *, whole: bool) -> dict[str, Any]:
    """A container by docker's names."""
    volumes = [point.name for point in one.mounts if point.type == "volume"]
    mounts = [point.name or point.source for point in one.mounts]
    found = {
        "ID": one.id if whole else output.digest(one.id),
        "Image": one.image_asked or output.familiar(one.image),
        "Command": f'"{_command(one.command, whole=whole)}"',
        "CreatedAt": output.local(one.created_at.seconds),
        "RunningFor": f"{_ago(one.created_at.seconds)} ago",
        "Status": _status(one),
        "State": state(one),
        "Ports": in_short(one),
        "Names": one.name,
        "Size": f"{_amount(one.size_written)} (virtual {_amount(one.size_total)})",
        "Labels": ",".join(f"{name}={value}" for name, value in sorted(one.labels.items())),
        "Mounts": ",".join(mount if whole else _short(mount) for mount in mounts),
        "LocalVolumes": str(len(volumes)),
        "Networks": ",".join(one.networks),
    }
    return output.Fields(found, {"Label": lambda name: one.labels.get(name, "")})


def state(one: pb.Container) -> str:
    """docker's word for it."""
    return "exited" if one.status == "stopped" else one.status


def _amount(count: int) -> str:
    return output.size(count).replace(" ", "")


def _short(text: str) -> str:
    return text if len(text) <= 15 else f"{text[:14]}…"


def _command(words: Any, *, whole: bool) -> str:
    first, *rest = words or [""]
    quoted = [f"'{word}'" if " " in word else word for word in rest]
    text = " ".join(" ".join([first, *quoted]).split())
    return text if whole or len(text) <= _COMMAND_WIDTH else f"{text[: _COMMAND_WIDTH - 1]}…"


def _status(one: pb.Container) -> str:
    match one.status:
        case "stopped":
            return f"Exited ({one.exit_status}) {_ago(one.exited_at.seconds)} ago"
        case "restarting":
            return f"Restarting ({one.exit_status}) {_ago(one.exited_at.seconds)} ago"
        case "running" | "paused":
            text = f"Up {_ago(one.started_at.seconds)}"
            if one.status == "paused":
                return f"{text} (Paused)"
            if one.HasField("health"):
                word = "health: starting" if one.health.status == "starting" else one.health.status
                return f"{text} ({word})"
            return text
        case other:
            return str(other).capitalize()


def _ago(seconds: int) -> str:
    """How long ago, in docker's words."""
    passed = max(0, int(time.time()) - seconds)
    if passed < 1:
        return "Less than a second"
    if 60 <= passed < 120:
        return "About a minute"
    if 3600 <= passed < 7200:
        return "About an hour"
    for limit, length, name in _STEPS:
        if passed < limit:
            count = passed // length
            return f"{count} {name}{'' if count == 1 else 's'}"
    return f"{passed // (365 * 86400)} years"
