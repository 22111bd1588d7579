"""A Debian image of more than 300 MB, made once with debootstrap: an OCI archive, gzip layers."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["blob", "debian_image", "debian_root", "json_blob", "sha256"]

_PACKAGES = "gcc,g++,make,git,perl,python3,libssl-dev"


def debian_image(cache: Path) -> Path:
    """The archive's path; made (two minutes, needs Debian's mirror) when it is not there yet.

    Two layers: the base system, and the packages over it. Its one name is
    ``docker.io/library/debian:bench``.
    """
    archive = cache / "debian.tar"
    if archive.exists():
        return archive
    print(f"making {archive} with debootstrap (once)", flush=True)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="build-") as scratch:
        root = Path(scratch) / "root"
        debian_root(root, _PACKAGES.split(","))
        _assemble(root, Path(scratch))
        (Path(scratch) / "debian.tar").rename(archive)
    return archive


def debian_root(root: Path, packages: Sequence[str]) -> None:
    """Install Debian's base system and some packages into a directory."""
    include = f"--include={','.join(packages)}"
    command = ["debootstrap", "--variant=minbase", include, "bookworm", root]
    subprocess.run([*command, _mirror()], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(root / "var/cache/apt/archives")


def _mirror() -> str:
    """The mirror that apt uses here."""
    found = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    )
    return (found.stdout.split() or ["http://deb.debian.org/debian"])[0]


def _assemble(root: Path, scratch: Path) -> None:
    layout = scratch / "layout"
    (layout / "blobs/sha256").mkdir(parents=True)
    layers, diff_ids = [], []
    usr = ["./usr"]
    for number, arguments in enumerate((["--exclude=./usr", "."], usr)):
        plain = scratch / f"{number}.tar"
        subprocess.run(["tar", "-C", root, "--numeric-owner", "-cf", plain, *arguments], check=True)
        diff_ids.append(f"sha256:{sha256(plain)}")
        subprocess.run(["gzip", "-6", "-n", plain], check=True)
        layers.append(
            blob(
                layout, plain.with_suffix(".tar.gz"), "application/vnd.oci.image.layer.v1.tar+gzip"
            )
        )
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Cmd": ["bash"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": json_blob(layout, config, "application/vnd.oci.image.config.v1+json"),
        "layers": layers,
    }
    described = json_blob(layout, manifest, manifest["mediaType"])
    described["annotations"] = {"io.containerd.image.name": "docker.io/library/debian:bench"}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    with tarfile.open(scratch / "debian.tar", "w") as archive:
        archive.add(layout, arcname=".")


def sha256(path: Path) -> str:
    """A file's digest, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def blob(layout: Path, path: Path, media_type: str) -> dict[str, Any]:
    """Move a file into a layout's blobs; its descriptor."""
    size, digest = path.stat().st_size, sha256(path)
    path.rename(layout / "blobs/sha256" / digest)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size}


def json_blob(layout: Path, document: object, media_type: Any) -> dict[str, Any]:
    """A document as a blob of a layout; its descriptor."""
    path = layout / "document.json"
    path.write_text(json.dumps(document))
    return blob(layout, path, media_type)
