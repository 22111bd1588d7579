"""Small real images, made in code: OCI layouts as archives, with layers of any content."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Image", "layer", "make", "write_layout"]

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass
class Image:
    """Blobs by digest, and the descriptor of the manifest."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    target: dict[str, Any] = field(default_factory=dict)
    layers: list[dict[str, Any]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)

    def add(self, data: bytes, media_type: str) -> dict[str, Any]:
        """Keep a blob; its descriptor."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blobs[digest] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data)}


def layer(files: Mapping[str, bytes | None]) -> bytes:
    """A tar of files by path; None makes a directory."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, data in files.items():
            entry = tarfile.TarInfo(path)
            entry.mode = 0o755
            if data is None:
                entry.type = tarfile.DIRTYPE
            else:
                entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data or b""))
    return out.getvalue()


def make(layers: Sequence[bytes], *, command: Sequence[str] = ("/bin/sh",)) -> Image:
    """An image of uncompressed layer tars, the bottom one first."""
    image = Image()
    diff_ids = []
    for data in layers:
        diff_ids.append(f"sha256:{hashlib.sha256(data).hexdigest()}")
        image.layers.append(image.add(gzip.compress(data, 1, mtime=0), _LAYER))
    config = {
        "os": "linux",
        "architecture": ARCHITECTURE,
        "config": {"Cmd": list(command)},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    image.config = image.add(json.dumps(config).encode(), _CONFIG)
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": image.config,
        "layers": image.layers,
    }
    image.target = image.add(json.dumps(manifest).encode(), _MANIFEST)
    return image


def write_layout(image: Image, path: Path, name: str) -> Path:
    """The image as an OCI layout in a tar, under ``name``."""
    target = {**image.target, "annotations": {"io.containerd.image.name": name}}
    files = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [target]}).encode(),
        **{f"blobs/sha256/{d.removeprefix('sha256:')}": data for d, data in image.blobs.items()},
    }
    path.write_bytes(layer(files))
    return path
