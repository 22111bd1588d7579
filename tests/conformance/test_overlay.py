"""What is the snapshotter ``overlayfs``' own: its mounts, where it works, its capabilities."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cored_snapshotter_overlay import OverlayDriver, cored_snapshotter
from cored_snapshotter_overlay.kernel import probe

from cored import linux
from cored.abc.snapshots import Snapshotter
from cored.abc.values import Mount
from cored.errors import InvalidArgument, Unimplemented
from cored.hookspecs import PluginKind
from cored.layered import LayeredSnapshotter

pytestmark = pytest.mark.root


@dataclass(frozen=True, slots=True)
class Context:
    """What a plugin gets of the daemon, as far as a snapshotter looks at it."""

    root: Path
    id: str = "overlayfs"
    kind: PluginKind = PluginKind.SNAPSHOTTER
    settings: dict[str, Any] = field(default_factory=dict)


@pytest.fixture
async def snapshotter(short_tmp: Path) -> AsyncIterator[Snapshotter]:
    async with LayeredSnapshotter.opened(OverlayDriver(), short_tmp) as opened:
        yield opened


async def test_mounts_are_those_that_clients_of_containerd_know(
    snapshotter: Snapshotter, short_tmp: Path
) -> None:
    at = short_tmp / "snapshots"
    assert await snapshotter.prepare("k1") == [Mount("bind", f"{at}/1/fs", options=("rw", "rbind"))]
    await snapshotter.commit("one", "k1")
    assert await snapshotter.view("v1", "one") == [
        Mount("bind", f"{at}/1/fs", options=("ro", "rbind"))
    ]
    assert await snapshotter.prepare("k2", "one") == [
        Mount(
            "overlay",
            "overlay",
            options=(
                "index=off",
                f"workdir={at}/3/work",
                f"upperdir={at}/3/fs",
                f"lowerdir={at}/1/fs",
            ),
        )
    ]
    await snapshotter.commit("two", "k2")
    assert await snapshotter.view("v2", "two") == [
        Mount("overlay", "overlay", options=("index=off", f"lowerdir={at}/3/fs:{at}/1/fs"))
    ]


async def test_each_of_128_layers_is_seen(snapshotter: Snapshotter) -> None:
    parent = ""
    for number in range(128):
        mounts = await snapshotter.prepare(f"k{number}", parent)
        # below an overlay, the layer itself is its upper directory
        own = next((o[9:] for o in mounts[0].options if o.startswith("upperdir=")), "")
        Path(own or mounts[0].source, f"file-{number}").write_text(str(number))
        parent = f"layer-{number}"
        await snapshotter.commit(parent, f"k{number}")
    with linux.mounted(await snapshotter.prepare("top", parent)) as root:
        found = {path.name: path.read_text() for path in root.iterdir()}
        assert found == {f"file-{number}": str(number) for number in range(128)}
        (root / "file-0").unlink()
    with linux.mounted(await snapshotter.mounts("top")) as root:
        assert len(list(root.iterdir())) == 127


async def test_whiteouts_and_opaque_directories_lie_in_the_layer(
    snapshotter: Snapshotter, short_tmp: Path
) -> None:
    with linux.mounted(await snapshotter.prepare("k")) as root:
        (root / "file").touch()
        (root / "d").mkdir()
    await snapshotter.commit("one", "k")
    with linux.mounted(await snapshotter.prepare("k", "one")) as root:
        (root / "file").unlink()
        (root / "d").rmdir()
        (root / "d").mkdir()
    layer = short_tmp / "snapshots/2/fs"
    whiteout = (layer / "file").lstat()
    assert (whiteout.st_mode & 0o170000, whiteout.st_rdev) == (0o020000, 0)
    assert os.getxattr(layer / "d", "trusted.overlay.opaque") == b"y"


async def test_the_plugin_opens_and_says_what_it_can(short_tmp: Path) -> None:
    provider = cored_snapshotter()
    assert (provider.id, provider.capabilities) == ("overlayfs", ("rebase",))
    async with provider.open(Context(short_tmp)) as snapshotter:  # type: ignore[arg-type]
        assert snapshotter.capabilities == {"rebase"}
        assert snapshotter.exports == {"root": str(short_tmp)}  # type: ignore[attr-defined]
        await snapshotter.prepare("k")
    assert {path.name for path in short_tmp.iterdir()} >= {"snapshots", "snapshots.db"}
    assert not (short_tmp / "probe").exists()


async def test_disk_is_freed_later_where_that_is_set(short_tmp: Path) -> None:
    context = Context(short_tmp, settings={"async_remove": True})
    async with cored_snapshotter().open(context) as snapshotter:  # type: ignore[arg-type]
        await snapshotter.prepare("k")
        await snapshotter.remove("k")
        assert [path.name for path in (short_tmp / "snapshots").iterdir()] == ["1"]
        await snapshotter.cleanup()
        assert list((short_tmp / "snapshots").iterdir()) == []


def test_a_filesystem_that_cannot_be_an_upper_layer_is_refused(short_tmp: Path) -> None:
    """An overlay cannot lie on an overlay: its whiteouts would be mixed up."""
    for name in ("lower", "upper", "work", "merged"):
        (short_tmp / name).mkdir()
    options = tuple(f"{name}dir={short_tmp}/{name}" for name in ("lower", "upper", "work"))
    with linux.mounted([Mount("overlay", "overlay", options=options)], short_tmp) as root:
        (root / "cored").mkdir()
        with pytest.raises(Unimplemented, match="native"):
            probe(root / "cored")
        assert list((root / "cored").iterdir()) == []


def test_a_root_that_options_cannot_name_is_refused(short_tmp: Path) -> None:
    for name in ("a:b", "a,b", 'a"b', "a\\b"):
        with pytest.raises(InvalidArgument, match="another root"):
            probe(short_tmp / name)


INSIDE = """
import asyncio, sys
from pathlib import Path
from cored import linux
from cored.layered import LayeredSnapshotter
from cored_snapshotter_overlay import OverlayDriver
from cored_snapshotter_overlay.kernel import probe

async def main(root):
    probe(root)
    async with LayeredSnapshotter.opened(OverlayDriver(), root) as snapshotter:
        with linux.mounted(await snapshotter.prepare("k"), root) as place:
            (place / "file").write_text("1")
            (place / "d").mkdir()
        await snapshotter.commit("one", "k")
        with linux.mounted(await snapshotter.prepare("k", "one"), root) as place:
            (place / "file").unlink()
            (place / "d").rmdir()
            (place / "d").mkdir()
        await snapshotter.commit("two", "k")
        mounts = await snapshotter.view("v", "two")
        with linux.mounted(mounts, root) as place:
            print([path.name for path in place.iterdir()], mounts[0].options[:2])

asyncio.run(main(Path(sys.argv[1])))
"""


def test_overlays_work_in_a_user_namespace(short_tmp: Path) -> None:
    done = subprocess.run(
        [
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            sys.executable,
            "-c",
            INSIDE,
            short_tmp,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['d'] ('index=off', 'userxattr')"
