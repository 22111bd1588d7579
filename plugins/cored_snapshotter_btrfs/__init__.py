"""The snapshotter ``btrfs``: every snapshot is a subvolume, made as a snapshot of its parent's.

Works where the daemon's root lies on btrfs. Without the capability ``rebase``: a subvolume cannot
get another one below it afterwards, so layers are unpacked one after the other, each into a
snapshot of the one below.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from cored.abc.snapshots import Kind, Snapshotter, Usage
from cored.abc.values import Mount
from cored.errors import Unimplemented
from cored.hookspecs import PluginContext, Provider, hookimpl
from cored.layered import Layer, LayerDriver, LayeredSnapshotter
from cored.trees import remove_tree
from cored_snapshotter_btrfs import subvolumes
from cored_snapshotter_btrfs.usage import added

__all__ = ["SubvolumeDriver", "cored_snapshotter", "probe"]


class SubvolumeDriver(LayerDriver):
    """``fs`` is a subvolume; that of a committed layer is read-only in the filesystem itself.

    A subvolume that a container makes in its tree is not seen in children: a snapshot of the
    filesystem's shows an empty directory in its place. It goes with the layer.
    """

    def prepare(self, layer: Layer) -> None:
        tree = layer.directory / "fs"
        if layer.kind is Kind.VIEW and layer.parents:
            return  # nobody changes the parent: its tree serves as it is
        if layer.parents:
            subvolumes.snapshot(layer.parents[0] / "fs", tree)
        else:
            subvolumes.create(tree)
            tree.chmod(0o755)

    def mounts(self, layer: Layer) -> list[Mount]:
        if layer.kind is Kind.VIEW:
            tree = (layer.parents[0] if layer.parents else layer.directory) / "fs"
            return [Mount("bind", str(tree), options=("ro", "rbind"))]
        tree = layer.directory / "fs"
        # a commit that a crash cut short has left it read-only, and active
        subvolumes.set_read_only(tree, False)
        return [Mount("bind", str(tree), options=("rw", "rbind"))]

    def commit(self, layer: Layer) -> None:
        subvolumes.set_read_only(layer.directory / "fs", True)

    def check(self, layer: Layer) -> Sequence[str]:
        tree = layer.directory / "fs"
        if layer.kind is Kind.VIEW and layer.parents:
            return ()
        if not tree.is_dir():
            return (f"{tree} is missing",)
        return () if subvolumes.is_subvolume(tree) else (f"{tree} is not a subvolume",)

    def usage(self, layer: Layer) -> Usage:
        return added(layer.directory / "fs", snapshot=bool(layer.parents))

    def remove(self, directory: Path) -> None:
        tree = directory / "fs"
        if tree.exists() and subvolumes.is_subvolume(tree):
            subvolumes.delete(tree)
        remove_tree(directory)


def probe(root: Path) -> None:
    """Unimplemented where no subvolume can be made and removed below ``root``."""
    place = root / "probe"
    try:
        if place.exists():  # of a daemon that died here
            subvolumes.delete(place)
        subvolumes.create(place)
        subvolumes.delete(place)
    except OSError as error:
        why = "is not on btrfs" if error.errno in subvolumes.NOT_BTRFS else error.strerror
        raise Unimplemented(
            f"btrfs: {root} {why}",
            hint="put the daemon's root on btrfs, or use another snapshotter",
        ) from error


@asynccontextmanager
async def _opened(context: PluginContext) -> AsyncIterator[Snapshotter]:
    await asyncio.to_thread(probe, context.root)
    async with LayeredSnapshotter.opened(SubvolumeDriver(), context.root) as snapshotter:
        yield snapshotter


@hookimpl
def cored_snapshotter() -> Provider[Snapshotter]:
    return Provider("btrfs", _opened)
