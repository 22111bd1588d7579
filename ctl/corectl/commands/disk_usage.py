"""system df: what takes space, in docker's tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from corectl import output
from corectl.session import Session

if TYPE_CHECKING:
    from cored._pb.cored.build.v1 import build_pb2
    from cored._pb.cored.workloads.v1 import system_pb2 as pb
    from cored._pb.cored.workloads.v1 import workloads_pb2

__all__ = ["df"]

_COLUMNS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}
_RUNNING = ("running", "paused", "restarting")


@dataclass(frozen=True)
class _Found:
    usage: pb.DiskUsageResponse
    containers: list[workloads_pb2.Container]
    steps: list[build_pb2.CacheRecord]


@click.command()
@click.option("-v", "--verbose", is_flag=True, help="Each image, container and volume.")
@output.template_option
@click.pass_obj
def df(session: Session, verbose: bool, form: str) -> None:
    """Show what images, containers, volumes and builds take of the disk."""
    from cored.client.system import System

    found = _Found(
        System(session.channel).disk_usage(),
        session.workloads.containers(everyone=True, size=True),
        session.builds.cache(),
    )
    if not verbose:
        output.listing(form, _COLUMNS, _summary(found))
        return
    tables = _tables(found)
    if form:
        documents = {title.replace(" ", ""): rows for title, _, rows in tables}
        output.listing(form, {}, [documents])
        return
    for number, (title, columns, rows) in enumerate(tables):
        click.echo(f"{'' if not number else chr(10)}{title} space usage:\n")
        output.listing("", columns, rows)


def _summary(found: _Found) -> list[dict[str, Any]]:
    usage, containers = found.usage, found.containers
    stopped = [one for one in containers if one.status not in _RUNNING]
    free = [one for one in usage.volumes if not one.users]
    built = sum(one.size for one in found.steps)
    images = {one.id or one.name: one for one in usage.images}.values()
    return [
        _row(
            "Images",
            len(images),
            sum(one.containers > 0 for one in images),
            usage.images_size,
            usage.images_reclaimable,
        ),
        _row(
            "Containers",
            len(containers),
            len(containers) - len(stopped),
            sum(one.size_written for one in containers),
            sum(one.size_written for one in stopped),
        ),
        _row(
            "Local Volumes",
            len(usage.volumes),
            len(usage.volumes) - len(free),
            sum(one.size for one in usage.volumes),
            sum(one.size for one in free),
        ),
        _row("Build Cache", len(found.steps), 0, built, built),
    ]


def _row(kind: str, count: int, active: int, size: int, free: int) -> dict[str, Any]:
    share = f" ({free * 100 // size}%)" if size and kind != "Build Cache" else ""
    return {
        "Type": kind,
        "TotalCount": str(count),
        "Active": str(active),
        "Size": _size(size),
        "Reclaimable": f"{_size(free)}{share}",
    }


def _tables(found: _Found) -> list[tuple[str, dict[str, str], list[dict[str, Any]]]]:
    return [
        ("Images", _IMAGES, [_image(one) for one in found.usage.images]),
        ("Containers", _CONTAINERS, [_container(one) for one in found.containers]),
        ("Local Volumes", _VOLUMES, [_volume(one) for one in found.usage.volumes]),
        ("Build cache", _STEPS, [_step(one) for one in found.steps]),
    ]


_IMAGES = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "Size": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "Containers": "CONTAINERS",
}
_CONTAINERS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "LocalVolumes": "LOCAL VOLUMES",
    "Size": "SIZE",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "Names": "NAMES",
}
_VOLUMES = {"Name": "VOLUME NAME", "Links": "LINKS", "Size": "SIZE"}
_STEPS = {
    "ID": "CACHE ID",
    "CacheType": "CACHE TYPE",
    "Size": "SIZE",
    "CreatedSince": "CREATED",
    "LastUsedSince": "LAST USED",
}


def _image(one: pb.ImageUsage) -> dict[str, Any]:
    repository, tag = output.image_name(one.name)
    return {
        "Repository": repository,
        "Tag": tag,
        "ID": output.digest(one.id),
        "CreatedSince": f"{output.age(one.created_at.seconds)} ago",
        "Size": _size(one.size),
        "SharedSize": _size(one.shared),
        "UniqueSize": _size(one.size - one.shared),
        "Containers": str(one.containers),
    }


def _container(one: workloads_pb2.Container) -> dict[str, Any]:
    from corectl.commands.listing import record

    shown = record(one, whole=False)
    return {**{name: shown[name] for name in _CONTAINERS}, "Size": _size(one.size_written)}


def _volume(one: pb.VolumeUsage) -> dict[str, Any]:
    return {"Name": one.name, "Links": str(one.users), "Size": _size(one.size)}


def _step(one: build_pb2.CacheRecord) -> dict[str, Any]:
    return {
        "ID": output.digest(one.key),
        "CacheType": "regular",
        "Size": _size(one.size),
        "CreatedSince": f"{output.age(one.created_at)} ago",
        "LastUsedSince": f"{output.age(one.used_at)} ago",
    }


def _size(count: int) -> str:
    return output.size(count).replace(" ", "")
