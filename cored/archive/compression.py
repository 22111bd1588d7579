"""Compressed streams: told apart by their first bytes, never by their media type."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

from cored.errors import InvalidArgument

__all__ = ["compressed", "inflated", "is_layer", "sniff"]

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"  # after a byte 0x50-0x5f: a zstd frame without content
_STEP = 256 << 10  # the most that is inflated at a time
_OTHERS = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x04\x22\x4d\x18": "lz4"}

_LAYERS = frozenset(
    f"{stem}{end}"
    for stem, ends in {
        "application/vnd.oci.image.layer.v1.tar": ("", "+gzip", "+zstd"),
        "application/vnd.oci.image.layer.nondistributable.v1.tar": ("", "+gzip", "+zstd"),
        "application/vnd.docker.image.rootfs.diff.tar": ("", ".gzip", ".zstd"),
        "application/vnd.docker.image.rootfs.foreign.diff.tar": ("", ".gzip", ".zstd"),
    }.items()
    for end in ends
)


def is_layer(media_type: str) -> bool:
    """Whether a media type names a tar layer that :func:`inflated` can read."""
    return media_type in _LAYERS


def sniff(head: bytes) -> str:
    """'gzip', 'zstd' or '' for a tar as it is, from the first bytes; InvalidArgument for others."""
    if head.startswith(_GZIP):
        return "gzip"
    if head.startswith(_ZSTD) or (head[1:4] == _SKIPPABLE and head[0] & 0xF0 == 0x50):
        return "zstd"
    for magic, name in _OTHERS.items():
        if head.startswith(magic):
            raise InvalidArgument(f"layer: compressed with {name}, which layers may not be")
    return ""


def inflated(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The uncompressed stream, in pieces of at most 256 KiB unless it was not compressed."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= 8:
            break
    match sniff(head):
        case "gzip":
            yield from _gunzipped(head, chunks)
        case "zstd":
            yield from _unzstd(head, chunks)
        case _:
            if head:
                yield head
            yield from chunks


def _gunzipped(data: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """All members of a gzip file one after the other (RFC 1952, 2.2); zero padding is fine."""
    from isal import isal_zlib

    inflater = isal_zlib.decompressobj(31)
    fresh = False  # between two members
    while True:
        if fresh:
            data = data.lstrip(b"\0")
            fresh = not data
        piece = b""
        if not fresh:
            try:
                piece = inflater.decompress(data, _STEP)
            except isal_zlib.error as error:  # type: ignore[misc]
                raise InvalidArgument(f"layer: broken gzip data: {error}") from error
            if piece:
                yield piece
            if inflater.eof:
                data, inflater, fresh = inflater.unused_data, isal_zlib.decompressobj(31), True
            else:
                data = inflater.unconsumed_tail
        if not data and len(piece) < _STEP:  # a full piece: there may be more inside
            data = next(chunks, b"")
            if not data:
                break
    if not fresh:
        raise InvalidArgument("layer: truncated gzip data")


def _unzstd(data: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """All frames of a zstd file one after the other (RFC 8878, 3.1)."""
    zstd = _zstd()
    inflater = zstd.ZstdDecompressor()
    fresh = False
    while True:
        try:
            piece = inflater.decompress(data, _STEP)
        except zstd.ZstdError as error:
            raise InvalidArgument(f"layer: broken zstd data: {error}") from error
        if piece:
            yield piece
        data = b""
        fresh = inflater.eof
        if inflater.eof:
            data, inflater = inflater.unused_data, zstd.ZstdDecompressor()
        elif not inflater.needs_input:
            continue
        if not data:
            data = next(chunks, b"")
            if not data:
                break
    if not fresh:
        raise InvalidArgument("layer: truncated zstd data")


def compressed(chunks: Iterator[bytes], kind: str) -> Iterator[bytes]:
    """The chunks as one stream of ``kind`` 'gzip', 'zstd' or '' (as they are); reproducible."""
    if kind == "gzip":
        from isal import isal_zlib  # ten times as quick as zlib at 6, and 9% larger

        packer = isal_zlib.compressobj(3, isal_zlib.DEFLATED, 31)
        for chunk in chunks:
            yield packer.compress(chunk)
        yield packer.flush()
    elif kind == "zstd":
        squeezer = _zstd().ZstdCompressor()
        for chunk in chunks:
            yield squeezer.compress(chunk)
        yield squeezer.flush()
    elif not kind:
        yield from chunks
    else:
        raise InvalidArgument(f"layer: unknown compression {kind!r}", hint="gzip, zstd or none")


def _zstd() -> ModuleType:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd
