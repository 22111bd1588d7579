"""snapshotter ls: which there are, which work here, and what they hold."""

from __future__ import annotations

from typing import Any

import click

from corectl import output
from corectl.session import Session

__all__ = ["ls"]


@click.command()
@output.choice
@click.pass_obj
def ls(session: Session, form: str) -> None:
    """List snapshotters.

    The default one (*) is the namespace's label containerd.io/defaults/snapshotter, or else the
    daemon's configuration. Snapshots and bytes are those of all namespaces.
    """
    from cored._pb.cored.stores.v1 import stores_pb2 as pb

    answer = session.channel.unary(
        "/cored.stores.v1.Stores/Snapshotters", pb.SnapshottersRequest(), pb.SnapshottersResponse
    )
    if form == "json":
        output.as_json([_as_dict(one) for one in answer.snapshotters])
        return
    rows = [
        (
            f"{one.id} *" if one.default else one.id,
            ",".join(one.capabilities) or "-",
            str(one.snapshots),
            output.size(one.size),
            one.root or "-",
            "ok" if not one.error else " ".join(one.error.split()),
        )
        for one in answer.snapshotters
    ]
    output.table(("ID", "CAPABILITIES", "SNAPSHOTS", "SIZE", "ROOT", "STATUS"), rows)


def _as_dict(one: Any) -> dict[str, Any]:
    return {
        "id": one.id,
        "error": one.error or None,
        "root": one.root,
        "capabilities": list(one.capabilities),
        "default": one.default,
        "snapshots": one.snapshots,
        "size": one.size,
        "inodes": one.inodes,
    }
