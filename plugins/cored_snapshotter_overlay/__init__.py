"""The snapshotter ``overlayfs``: layers are upper directories, stacked by the kernel."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from cored.abc.snapshots import Kind, Snapshotter, Usage
from cored.abc.values import Mount
from cored.hookspecs import PluginContext, Provider, hookimpl
from cored.layered import Layer, LayerDriver, LayeredSnapshotter
from cored.trees import disk_usage
from cored_snapshotter_overlay.kernel import in_user_namespace, probe

__all__ = ["OverlayDriver", "cored_snapshotter"]


class OverlayDriver(LayerDriver):
    """``fs`` is the layer, ``work`` overlayfs' own; a committed layer's work is never looked at."""

    rebase = True

    def __init__(self) -> None:
        # trusted.* attributes, where overlayfs keeps its own, are the first user namespace's
        self._options = ["index=off", *(["userxattr"] if in_user_namespace() else ())]

    def prepare(self, layer: Layer) -> None:
        upper = layer.directory / "fs"
        upper.mkdir(mode=0o755)
        # the snapshotter's directory is private; the root of a container's tree is not
        upper.chmod(0o755)
        if layer.kind is Kind.ACTIVE:
            (layer.directory / "work").mkdir(mode=0o711)
        if layer.parents:
            below = (layer.parents[0] / "fs").stat()
            os.chown(upper, below.st_uid, below.st_gid)
            upper.chmod(below.st_mode & 0o7777)

    def mounts(self, layer: Layer) -> list[Mount]:
        mode = "rw" if layer.kind is Kind.ACTIVE else "ro"
        lower = [str(parent / "fs") for parent in layer.parents]
        if not lower:
            return [Mount("bind", str(layer.directory / "fs"), options=(mode, "rbind"))]
        if layer.kind is Kind.VIEW and len(lower) == 1:
            return [Mount("bind", lower[0], options=("ro", "rbind"))]
        options = [*self._options]
        if layer.kind is Kind.ACTIVE:
            options += [f"workdir={layer.directory}/work", f"upperdir={layer.directory}/fs"]
        options.append("lowerdir=" + ":".join(lower))
        return [Mount("overlay", "overlay", options=tuple(options))]

    def check(self, layer: Layer) -> Sequence[str]:
        needed = ("fs", "work") if layer.kind is Kind.ACTIVE else ("fs",)
        places = [layer.directory / name for name in needed]
        return [f"{place} is missing" for place in places if not place.is_dir()]

    def usage(self, layer: Layer) -> Usage:
        return disk_usage(layer.directory / "fs")


@asynccontextmanager
async def _opened(context: PluginContext) -> AsyncIterator[Snapshotter]:
    await asyncio.to_thread(probe, context.root)
    later = bool(context.settings.get("async_remove", False))
    async with LayeredSnapshotter.opened(
        OverlayDriver(), context.root, async_remove=later
    ) as snapshotter:
        yield snapshotter


@hookimpl
def cored_snapshotter() -> Provider[Snapshotter]:
    return Provider("overlayfs", _opened, capabilities=("rebase",))
