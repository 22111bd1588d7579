"""A Debian development image in six gzip layers, tens of thousands of files, for pulls."""

from __future__ import annotations

import json
import platform
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.bench.debian import blob, debian_root, json_blob, sha256

__all__ = ["development_image"]

# each is a layer over the base system, as a Dockerfile's RUN apt-get install would make it
_GROUPS = (
    ("gcc", "g++", "make", "binutils", "automake"),
    ("perl", "python3-dev", "python3-doc", "golang-go"),
    ("libboost-dev", "libssl-dev", "libicu-dev", "libsqlite3-dev", "libncurses-dev"),
    ("git", "cmake", "vim", "subversion", "manpages-dev"),
    ("linux-headers-amd64",),
)
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def development_image(cache: Path) -> Path:
    """An OCI layout with the one tag ``bench``; made (some minutes, needs Debian's mirror) once."""
    layout = cache / "development"
    if layout.exists():
        return layout
    print(f"making {layout} with debootstrap (once)", flush=True)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="build-") as scratch:
        root, made = Path(scratch) / "root", Path(scratch) / "layout"
        debian_root(root, [name for group in _GROUPS for name in group])
        (made / "blobs/sha256").mkdir(parents=True)
        layers, diff_ids = [], []
        for number, paths in enumerate(_split(root)):
            plain = Path(scratch) / f"{number}.tar"
            names = b"\0".join(sorted(paths))
            subprocess.run(
                ["tar", "-C", root, "--numeric-owner", "--no-recursion", "--null", "-T-",
                 "-cf", plain],
                input=names, check=True,
            )  # fmt: skip
            diff_ids.append(f"sha256:{sha256(plain)}")
            subprocess.run(["gzip", "-6", "-n", plain], check=True)
            layers.append(blob(made, plain.with_suffix(".tar.gz"), _LAYER))
        _finish(made, layers, diff_ids)
        made.rename(layout)
    return layout


def _split(root: Path) -> Iterator[Iterable[bytes]]:
    """The paths of each layer: what a group's packages brought, and first all the rest."""
    owned: list[set[bytes]] = []
    known = _base(root)
    for group in _GROUPS:
        packages = _closure(root, group) - known
        known |= packages
        owned.append({path for name in packages for path in _listed(root, name)})
    above = set().union(*owned)
    everything = {b"./" + bytes(path.relative_to(root)) for path in root.rglob("*")}
    yield {b"."} | (everything - above)
    for paths in owned:
        mine = paths & everything
        yield mine | _parents(mine)


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _parents(paths: Iterable[bytes]) -> set[bytes]:
    found: set[bytes] = set()
    for path in paths:
        while (path := path.rpartition(b"/")[0]) and path != b"." and path not in found:
            found.add(path)
    return found


def _closure(root: Path, names: Iterable[str]) -> set[str]:
    """Packages with what they depend on, as far as they are installed."""
    done = subprocess.run(
        ["apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests",
         "--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances", *names],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = (line.strip() for line in done.stdout.splitlines() if line[:1].isalnum())
    return {name for name in found if any(place.exists() for place in _lists(root, name))}


def _base(root: Path) -> set[str]:
    """The packages that every Debian has."""
    status = (root / "var/lib/dpkg/status").read_text().split("\n\n")
    required = [
        text.partition("\n")[0].removeprefix("Package: ")
        for text in status
        if "\nPriority: required\n" in text
    ]
    return _closure(root, ["apt", *required])


def _lists(root: Path, name: str) -> tuple[Path, ...]:
    info = root / "var/lib/dpkg/info"
    return info / f"{name}.list", info / f"{name}:{_architecture()}.list"


def _listed(root: Path, name: str) -> Iterator[bytes]:
    """What dpkg says that a package brought, with links in directories' places followed."""
    for place in _lists(root, name):
        if place.exists():
            for line in place.read_bytes().splitlines():
                path = root / line.decode().lstrip("/")
                if line == b"/." or not path.parent.exists():
                    continue
                real = path.parent.resolve() / path.name
                if real.is_relative_to(root) and not _is_directory(real):
                    yield b"./" + bytes(real.relative_to(root))


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


def _finish(layout: Path, layers: list[dict[str, Any]], diff_ids: list[str]) -> None:
    config = {
        "architecture": _architecture(),
        "os": "linux",
        "config": {"Cmd": ["bash"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": json_blob(layout, config, _CONFIG),
        "layers": layers,
    }
    described = json_blob(layout, manifest, _MANIFEST)
    described["annotations"] = {"org.opencontainers.image.ref.name": "bench"}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
