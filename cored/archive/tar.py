"""A streaming tar reader: ustar, PAX, GNU long names, sparse files and base-256 numbers.

Made for layers: names are bytes, every header's checksum is verified, an archive that stops short
is an error. https://www.gnu.org/software/tar/manual/html_node/Standard.html, POSIX pax(1).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple
from zlib import adler32

from cored.archive import pax
from cored.archive.stream import Stream
from cored.errors import InvalidArgument

__all__ = ["BLOCK", "Entry", "TarReader", "shown"]

BLOCK = 512
# name mode uid gid size mtime checksum type link magic owner group major minor
_HEADER = struct.Struct("100s8s8s8s12s12s8s1s100s8s32s32s8s8s")
# the same for most: name, owner and mode in one, size, mtime, checksum, type, link, magic
_USUAL = struct.Struct("100s24s12s12s8s1s100s8s")
_ZEROS = bytes(BLOCK)
_EXTRA_LIMIT = 1 << 20  # for one PAX header, long name or sparse map
_LONGEST_PATH = 4096 * 16
_REGULAR = b"07\0"
_BODILESS = b"123456"
_PLAIN = frozenset((b"0", b"1", b"2", b"5"))  # types that need not be looked at twice
_NO_DEVICE = (0, 0)
NO_XATTRS: dict[bytes, bytes] = {}


class Entry(NamedTuple):
    """One member of an archive.

    ``kind`` is the type flag as one byte, '0' for every regular file; ``size`` is the file's own
    size, ``stored`` what the archive holds of it: the same unless ``sparse`` (pairs of offset and
    length) says where the stored parts go. ``offset`` is where its header began.
    """

    name: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    link: bytes
    device: tuple[int, int]
    xattrs: dict[bytes, bytes]
    stored: int
    sparse: tuple[tuple[int, int], ...] | None
    offset: int


def shown(name: bytes) -> str:
    """A name for a message: bytes that are not UTF-8 and control characters escaped."""
    text = name.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else text.encode("unicode_escape").decode()


class _Where(NamedTuple):
    """An entry as errors name it: most are never asked."""

    name: bytes
    at: int

    def __str__(self) -> str:
        return f"archive: entry {shown(self.name)!r} at byte {self.at}"


class TarReader:
    """Iterates over the entries; the body of the current one is read with :meth:`body`."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._global: pax.Records = {}
        self._left = 0  # of the current body
        self._padding = 0
        self._entry: Entry | None = None

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self._next()) is not None:
            yield entry

    def whole(self) -> memoryview | None:
        """The stored bytes of the current entry, when they are at hand in one piece."""
        piece = self._stream.view(self._left, self._padding)
        if piece is not None:
            self._left = self._padding = 0
        return piece

    def body(self) -> Iterator[memoryview]:
        """The stored bytes of the current entry; InvalidArgument when the archive ends early."""
        for piece in self._stream.pieces(self._left):
            self._left -= len(piece)
            yield piece
        if self._left:
            raise self._truncated()

    def _truncated(self) -> InvalidArgument:
        name = f"entry {shown(self._entry.name)!r}" if self._entry else "header"
        at = self._stream.offset
        return InvalidArgument(f"archive: truncated in {name} at byte {at}")

    def _finish(self) -> None:
        if self._left and self._stream.skip(self._left) != self._left:
            raise self._truncated()
        if self._padding:
            # umoci's layers end right behind the last body, and Go's reader takes that
            self._stream.skip(self._padding)
        self._left = self._padding = 0

    def _next(self) -> Entry | None:
        """The next real entry, with what the extra headers before it said."""
        if self._left or self._padding:
            self._finish()
        stream = self._stream
        start = at = stream.offset
        block = stream.read(BLOCK)
        entry = None if self._global else _usual(block, at)
        if entry is None:
            entry = self._unusual(block, start)
        self._entry = entry
        if entry is not None and entry.stored:
            self._left = entry.stored
            self._padding = -entry.stored % BLOCK
        return entry

    def _unusual(self, block: bytes, start: int) -> Entry | None:
        """The same, from the block at ``start`` on."""
        local: pax.Records = {}
        at = start
        while True:
            if len(block) != BLOCK:
                if block or local:
                    raise InvalidArgument(f"archive: truncated in a header at byte {at}")
                return None  # GNU tar and Go take an end without end marker, too
            if block == _ZEROS:
                if local:
                    raise InvalidArgument(f"archive: extended header without entry at byte {at}")
                self._stream.drain()
                return None
            _verify(block, at)
            kind = block[156:157]
            if kind == b"x" or kind == b"X":
                pax.parse(self._extra(block, at), local, f"archive: byte {at}")
            elif kind == b"g":
                pax.parse(self._extra(block, at), self._global, f"archive: byte {at}")
            elif kind == b"L":
                local.setdefault(b"path", _text(self._extra(block, at)))
            elif kind == b"K":
                local.setdefault(b"linkpath", _text(self._extra(block, at)))
            else:
                return self._made(block, local, start, at)
            at = self._stream.offset
            block = self._stream.read(BLOCK)

    def _extra(self, block: bytes, at: int) -> bytes:
        """The body of a header that only describes the next entry."""
        size = _number(block[124:136], at, "size")
        if not 0 <= size <= _EXTRA_LIMIT:
            raise InvalidArgument(f"archive: extended header of {size} bytes at byte {at}")
        padded = size + -size % BLOCK
        data = self._stream.read(padded)
        if len(data) != padded:
            raise InvalidArgument(f"archive: truncated in an extended header at byte {at}")
        return data[:size]

    def _made(self, block: bytes, local: pax.Records, start: int, at: int) -> Entry:
        records = {**self._global, **local} if self._global else local
        (
            name, mode, uid, gid, length, mtime, _, kind, link, magic, _, _, major, minor,
        ) = _HEADER.unpack_from(block)  # fmt: skip
        name = _text(name)
        if block[345]:
            name = _prefixed(name, block, magic)
        where = _Where(name, at)
        if kind in _REGULAR:
            kind = b"5" if kind == b"\0" and name.endswith(b"/") else b"0"
        size = _number(length, at, "size")
        device = _NO_DEVICE
        if kind in b"34":
            device = (_number(major, at, "major"), _number(minor, at, "minor"))
        entry = Entry(
            name, kind, _number(mode, at, "mode") & 0o7777,
            _number(uid, at, "uid"), _number(gid, at, "gid"),
            size, _number(mtime, at, "mtime") * 1_000_000_000, link.partition(b"\0")[0],
            device, NO_XATTRS, size, None, start,
        )  # fmt: skip
        if records:
            entry = _amended(entry, records, where)
        if entry.kind in _BODILESS:  # as Go and Python have it, whatever the size says
            entry = entry._replace(size=0, stored=0) if entry.size else entry
        elif entry.kind == b"S":
            entry = self._old_sparse(entry, block, where)
        elif entry.kind != b"0":
            raise InvalidArgument(f"{where}: unknown type {entry.kind!r}")
        elif records and any(key.startswith(b"GNU.sparse.") for key in records):
            entry = self._pax_sparse(entry, records, where)
        return _checked(entry, where)

    def _old_sparse(self, entry: Entry, block: bytes, where: _Where) -> Entry:
        numbers = _sparse_numbers(block, 386, 4, entry.offset)
        more, real = block[482], _number(block[483:495], entry.offset, "real size")
        while more:
            block = self._stream.read(BLOCK)
            if len(block) != BLOCK or len(numbers) > _EXTRA_LIMIT:
                raise InvalidArgument(f"{where}: truncated or endless sparse map")
            numbers += _sparse_numbers(block, 0, 21, entry.offset)
            more = block[504]
        pairs = pax.sparse_map(numbers, real, entry.stored, where)
        return entry._replace(kind=b"0", size=real, sparse=pairs)

    def _pax_sparse(self, entry: Entry, records: pax.Records, where: _Where) -> Entry:
        name = records.get(b"GNU.sparse.name", entry.name)
        size = records.get(b"GNU.sparse.realsize") or records.get(b"GNU.sparse.size") or b""
        real = pax.integer(size, where)
        stored = entry.stored
        if records.get(b"GNU.sparse.major") == b"1":
            numbers, taken = self._map_in_body(stored, where)
            stored -= taken
        else:
            listed = records.get(b"GNU.sparse.map", b"")
            numbers = [pax.integer(part, where) for part in listed.split(b",") if listed]
        pairs = pax.sparse_map(numbers, real, stored, where)
        return entry._replace(name=name, size=real, stored=stored, sparse=pairs)

    def _map_in_body(self, stored: int, where: _Where) -> tuple[list[int], int]:
        """Sparse format 1.0: decimals on lines of their own in the body's first blocks."""
        text, taken = b"", 0
        count = -1
        while count < 0 or text.count(b"\n") < 1 + 2 * count:
            block = self._stream.read(BLOCK)
            taken += BLOCK
            if len(block) != BLOCK or taken > min(stored, _EXTRA_LIMIT):
                raise InvalidArgument(f"{where}: truncated or endless sparse map")
            text += block
            if count < 0 and b"\n" in text:
                count = pax.integer(text.partition(b"\n")[0], where)
        lines = text.split(b"\n")
        return [pax.integer(line, where) for line in lines[1 : 1 + 2 * count]], taken


def _usual(block: bytes, at: int) -> Entry | None:
    """The entry of a whole header without anything special or wrong; None for all others."""
    if len(block) != BLOCK:
        return None
    name, owner, size, mtime, checksum, kind, link, magic = _USUAL.unpack_from(block)
    if kind not in _PLAIN:
        return None
    try:
        if adler32(block) & 0xFFFF != _half_adler(checksum):
            return None
        uid, gid, mode = _owner(owner)
        mtime_ns = _nanoseconds(mtime)
        stored = _value(size)
    except ValueError:
        return None
    if kind != b"0":
        stored = 0
    elif not 0 <= stored < 1 << 63:
        return None
    name = name.partition(b"\0")[0]
    if block[345]:
        name = _prefixed(name, block, magic)
    link = link.partition(b"\0")[0] if link[0] else b""
    values = (
        name, kind, mode, uid, gid, stored, mtime_ns, link, _NO_DEVICE, NO_XATTRS, stored, None, at,
    )  # fmt: skip
    return tuple.__new__(Entry, values)  # Entry() would take twice as long


def _prefixed(name: bytes, block: bytes, magic: bytes) -> bytes:
    """``name`` with the directories before it where the format has a field for them."""
    if magic[:5] != b"ustar" or magic == b"ustar  \0":
        return name
    end = 476 if block[508:] == b"tar\0" else 500  # star keeps times behind the prefix
    return _text(block[345:end]) + b"/" + name


def _verify(block: bytes, at: int) -> None:
    """Check the header's checksum: the sum of its bytes with the field itself as spaces."""
    field = block[148:156]
    said = _number(field, at, "checksum")
    if adler32(block) & 0xFFFF == _half_adler(field):
        return
    plain = sum(block) - sum(field) + 8 * 32
    signed = plain - 256 * sum(1 for byte in block[:148] + block[156:] if byte > 127)
    if said not in (plain, signed):
        raise InvalidArgument(f"archive: bad header checksum at byte {at} (not a tar, or damaged)")


@lru_cache(512)
def _half_adler(checksum: bytes) -> int:
    """What adler32's low half is for a header with this field when it is right, -1 for never.

    That is 1 + the sum of all bytes modulo 65521, and much quicker than sum(). ValueError.
    """
    said = _value(checksum)
    return (said + sum(checksum) - 8 * 32 + 1) % 65521 if 0 <= said < 1 << 18 else -1


@lru_cache(512)
def _owner(field: bytes) -> tuple[int, int, int]:
    """User, group and mode out of a header's fields for mode, user and group. ValueError."""
    mode, uid, gid = _value(field[:8]), _value(field[8:16]), _value(field[16:])
    if not 0 <= uid < 1 << 32 or not 0 <= gid < 1 << 32:
        raise ValueError("impossible owner")
    return uid, gid, mode & 0o7777


@lru_cache(512)
def _nanoseconds(field: bytes) -> int:
    return _value(field) * 1_000_000_000


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _number(field: bytes, at: int, what: str) -> int:
    """Octal text, or base 256 where the first bit is set (GNU; negative when the second is)."""
    try:
        return _value(field)
    except ValueError as error:
        raise InvalidArgument(f"archive: broken {what} in the header at byte {at}") from error


@lru_cache(512)
def _value(field: bytes) -> int:
    """Owners, modes and times are the same for most entries of a layer. ValueError."""
    if field[0] & 0x80:
        if field[0] & 0x40:
            return int.from_bytes(field, "big", signed=True)
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    return int(_text(field).strip(b" ") or b"0", 8)


def _sparse_numbers(block: bytes, start: int, pairs: int, at: int) -> list[int]:
    numbers: list[int] = []
    for place in range(start, start + 24 * pairs, 24):
        if not block[place]:
            break
        numbers.append(_number(block[place : place + 12], at, "sparse map"))
        numbers.append(_number(block[place + 12 : place + 24], at, "sparse map"))
    return numbers


def _amended(entry: Entry, records: pax.Records, where: _Where) -> Entry:
    """The entry with what PAX records say instead."""
    get = records.get
    name, link = get(b"path", entry.name), get(b"linkpath", entry.link)
    size = pax.integer(records[b"size"], where) if b"size" in records else entry.size
    uid = pax.integer(records[b"uid"], where) if b"uid" in records else entry.uid
    gid = pax.integer(records[b"gid"], where) if b"gid" in records else entry.gid
    mtime = get(b"mtime")
    mtime_ns = entry.mtime_ns if mtime is None else pax.nanoseconds(mtime, where)
    xattrs = pax.xattrs(records, where)
    kind = b"5" if entry.kind == b"0" and name.endswith(b"/") else entry.kind
    return Entry(
        name, kind, entry.mode, uid, gid, size, mtime_ns, link, entry.device, xattrs, size,
        None, entry.offset,
    )  # fmt: skip


def _checked(entry: Entry, where: _Where) -> Entry:
    if entry.size < 0 or entry.size >= 1 << 63:
        raise InvalidArgument(f"{where}: impossible size {entry.size}")
    if not 0 <= entry.uid < 1 << 32 or not 0 <= entry.gid < 1 << 32:
        raise InvalidArgument(f"{where}: impossible owner {entry.uid}:{entry.gid}")
    if len(entry.name) > _LONGEST_PATH or b"\0" in entry.name or b"\0" in entry.link:
        raise InvalidArgument(f"{where}: impossible name")
    return entry
