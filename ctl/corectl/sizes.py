"""Sizes as people write them."""

from __future__ import annotations

import re

from cored.errors import InvalidArgument

__all__ = ["count"]

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def count(text: str) -> int:
    """Bytes from 64m, 1.5g, 1024; 0 for nothing."""
    if not text:
        return 0
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([bkmgt]?)(?:i?b)?", text.strip().lower())
    if found is None:
        raise InvalidArgument(f"size '{text}': not understood", hint="write 64m or 1.5g")
    return int(float(found[1]) * _UNITS[found[2]])
