"""The snapshotter ``native``: every snapshot is a whole copy, for filesystems without overlay."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from cored.abc.snapshots import Kind, Snapshotter, Usage
from cored.abc.values import Mount
from cored.copies import copy_tree
from cored.hookspecs import PluginContext, Provider, hookimpl
from cored.layered import Layer, LayerDriver, LayeredSnapshotter
from cored.trees import disk_usage

__all__ = ["CopyDriver", "cored_snapshotter"]


class CopyDriver(LayerDriver):
    """``fs`` is a whole tree: a copy of the parent's, when there is one."""

    def prepare(self, layer: Layer) -> None:
        tree = layer.directory / "fs"
        tree.mkdir(mode=0o755)
        if not layer.parents:
            tree.chmod(0o755)
        elif layer.kind is Kind.ACTIVE:
            copy_tree(layer.parents[0] / "fs", tree)

    def check(self, layer: Layer) -> Sequence[str]:
        tree = layer.directory / "fs"
        return () if tree.is_dir() else (f"{tree} is missing",)

    def usage(self, layer: Layer) -> Usage:
        return disk_usage(layer.directory / "fs")

    def mounts(self, layer: Layer) -> list[Mount]:
        if layer.kind is Kind.VIEW and layer.parents:
            # a view cannot be changed, so the parent's tree serves as it is
            return [Mount("bind", str(layer.parents[0] / "fs"), options=("ro", "rbind"))]
        mode = "rw" if layer.kind is Kind.ACTIVE else "ro"
        return [Mount("bind", str(layer.directory / "fs"), options=(mode, "rbind"))]


@asynccontextmanager
async def _opened(context: PluginContext) -> AsyncIterator[Snapshotter]:
    async with LayeredSnapshotter.opened(CopyDriver(), context.root) as snapshotter:
        yield snapshotter


@hookimpl
def cored_snapshotter() -> Provider[Snapshotter]:
    return Provider("native", _opened)
