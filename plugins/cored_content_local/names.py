"""Digests as file names, and files that appear whole or not at all."""

from __future__ import annotations

import os
import re
from pathlib import Path

from cored.errors import InvalidArgument

__all__ = ["ALGORITHMS", "blob_path", "replace_file", "sync_directory"]

ALGORITHMS = {"sha256": 64, "sha512": 128}
_DIGEST = re.compile(r"(sha256|sha512):([0-9a-f]+)")


def blob_path(root: Path, digest: str) -> Path:
    """Where the blob of ``digest`` lies. InvalidArgument for what is no digest."""
    found = _DIGEST.fullmatch(digest)
    if found is None or len(found[2]) != ALGORITHMS[found[1]]:
        raise InvalidArgument(f"digest {digest[:200]!r}: invalid", hint="sha256:<64 hex digits>")
    return root / found[1] / found[2]


def replace_file(path: Path, text: str) -> None:
    """Write a small file durably, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    with open(fresh, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make a directory's entries durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
