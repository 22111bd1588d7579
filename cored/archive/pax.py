"""PAX extended headers (POSIX.1-2001 pax, "pax Header Block") and the sparse maps within them."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation

from cored.errors import InvalidArgument

__all__ = ["integer", "nanoseconds", "parse", "sparse_map", "xattrs"]

Records = dict[bytes, bytes]
_MOST_DIGITS = 20
# GNU 0.0 says offset and numbytes once per block; kept as the comma list that 0.1 uses
_MAP, _OFFSET, _NUMBYTES = b"GNU.sparse.map", b"GNU.sparse.offset", b"GNU.sparse.numbytes"


def parse(data: bytes, into: Records, where: object) -> None:
    """Add the records of a header's ``data`` to ``into``; an empty value takes one away."""
    at = 0
    parts: list[bytes] = []
    while at < len(data):
        if not data[at]:  # some writers pad with zeros
            break
        space = data.find(b" ", at, at + _MOST_DIGITS)
        digits = data[at:space]
        if space < 0 or not digits.isdigit():
            raise InvalidArgument(f"{where}: PAX record without a length")
        end = at + int(digits)
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if end > len(data) or data[end - 1 : end] != b"\n" or not equals or not key:
            raise InvalidArgument(f"{where}: PAX record of a wrong length")
        if key in (_OFFSET, _NUMBYTES):
            parts.append(value)
        elif value:
            into[key] = value
        else:
            into.pop(key, None)
        at = end
    if parts:
        into[_MAP] = b",".join(parts)


def integer(value: bytes, where: object) -> int:
    """A decimal, not negative."""
    if not value.isdigit() or len(value) > _MOST_DIGITS:
        raise InvalidArgument(f"{where}: {value[:40]!r} is not a number")
    return int(value)


def nanoseconds(value: bytes, where: object) -> int:
    """A PAX time (seconds with a fraction) as whole nanoseconds, rounded down."""
    try:
        return int(Decimal(value.decode("ascii")).scaleb(9).__floor__())
    except (InvalidOperation, UnicodeDecodeError, OverflowError, ValueError) as error:
        raise InvalidArgument(f"{where}: {value[:40]!r} is not a time") from error


def xattrs(records: Mapping[bytes, bytes], where: object) -> dict[bytes, bytes]:
    """Extended attributes in the notation of star, and in that of libarchive."""
    found: dict[bytes, bytes] = {}
    for key, value in records.items():
        if key.startswith(b"SCHILY.xattr."):
            found[key[13:]] = value
        elif key.startswith(b"LIBARCHIVE.xattr."):
            try:
                name = _unquoted(key[17:])
                padding = b"=" * (-len(value) % 4)
                found.setdefault(name, b64decode(value + padding, validate=True))
            except (Base64Error, ValueError) as error:
                raise InvalidArgument(f"{where}: broken xattr {key!r}") from error
    return found


def _unquoted(name: bytes) -> bytes:
    first, *rest = name.split(b"%")
    return first + b"".join(bytes([int(part[:2], 16)]) + part[2:] for part in rest)


def sparse_map(
    numbers: Iterable[int], real: int, stored: int, where: object
) -> tuple[tuple[int, int], ...]:
    """Offset and length pairs out of a flat list; InvalidArgument unless they fit the sizes."""
    flat = list(numbers)
    if len(flat) % 2:
        raise InvalidArgument(f"{where}: sparse map with an odd count of numbers")
    pairs = tuple(zip(flat[::2], flat[1::2], strict=True))
    end = total = 0
    for offset, length in pairs:
        if offset < end or length < 0:
            raise InvalidArgument(f"{where}: sparse map out of order")
        end = offset + length
        total += length
    if end > real or total != stored:
        raise InvalidArgument(f"{where}: sparse map does not fit the file's size")
    return pairs
