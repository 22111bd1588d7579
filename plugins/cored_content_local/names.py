"""Digests as file names, and files that appear whole or not at all."""

from __future__ import annotations

import os
import re
from pathlib import Path

from cored.errors import InvalidArgument

__all__ = ["ALGORITHMS", "checked_digest", "replace_file", "sync_directory"]

ALGORITHMS = {"sha256": 64, "sha512": 128}
_DIGEST = re.compile(r"(sha256|sha512):([0-9a-f]+)")


def checked_digest(digest: str) -> tuple[str, str]:
    """Algorithm and hexadecimal digits of ``digest``. InvalidArgument for what is none."""
    found = _DIGEST.fullmatch(digest)
    if found is None or len(found[2]) != ALGORITHMS[found[1]]:
        raise InvalidArgument(f"digest {digest[:200]!r}: invalid", hint="sha256:<64 hex digits>")
    return found[1], found[2]


def replace_file(path: Path, text: str, *, durable: bool) -> None:
    """Write a small file in one step; its old text stays when that fails."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        with open(fresh, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make a directory's entries durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
