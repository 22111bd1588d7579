"""Programs made in code: the smallest ELF files that do, or cannot do, what a test wants."""

from __future__ import annotations

import platform
import struct

__all__ = ["HERE", "elf"]

HERE = {"x86_64": 62, "aarch64": 183}[platform.machine()]
# instructions that no CPU has: ud2, udf
_UNDEFINED = {62: b"\x0f\x0b", 183: bytes(4)}
_BASE = 0x400000


def elf(machine: int = HERE, loader: str = "") -> bytes:
    """A program that dies of SIGILL at once, for a machine, wanting a loader (PT_INTERP)."""
    count = 2 if loader else 1
    start = 64 + 56 * count
    name = loader.encode() + b"\0" if loader else b""
    code = _UNDEFINED[machine]
    size = start + len(code) + len(name)
    head = struct.pack(
        "<4sBBBBB7xHHIQQQIHHHHHH",
        *(b"\x7fELF", 2, 1, 1, 0, 0, 2, machine, 1, _BASE + start, 64, 0, 0),
        *(64, 56, count, 0, 0, 0),
    )
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    if loader:
        where = start + len(code)
        head += struct.pack("<IIQQQQQQ", 3, 4, where, _BASE + where, 0, len(name), len(name), 1)
    return head + load + code + name
