"""Archives in chunks whose memory is used again: nothing may be looked at when it is too late."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cored.archive.channel import Channel
from cored.archive.compression import inflated
from cored.archive.extract import Extractor
from cored.archive.stream import Stream
from cored.archive.tar import TarReader


def scribbled(data: bytes, size: int) -> Iterator[memoryview]:
    """Chunks in one buffer, which holds something else as soon as the next one is asked for."""
    buffer = bytearray(size)
    for start in range(0, len(data), size):
        chunk = data[start : start + size]
        buffer[: len(chunk)] = chunk
        yield memoryview(buffer)[: len(chunk)]
        buffer[:] = b"\xee" * size


def archive() -> tuple[bytes, dict[str, bytes]]:
    contents = {f"d/{n}-{'x' * (n * 7 % 120)}": os.urandom(n * 137 % 5000) for n in range(60)}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), 1_500_000_000.25
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue(), contents


@pytest.mark.parametrize("size", [1, 7, 100, 512, 1000, 4096, 1 << 20])
def test_bodies_and_headers_that_lie_across_chunks_are_whole(size: int) -> None:
    data, contents = archive()
    reader = TarReader(Stream(scribbled(data, size)))
    found = {entry.name.decode(): b"".join(map(bytes, reader.body())) for entry in reader}
    assert found == contents


@pytest.mark.parametrize("size", [100, 4096])
def test_what_is_extracted_from_such_chunks_is_what_was_packed(tmp_path: Path, size: int) -> None:
    data, contents = archive()
    with Extractor(str(tmp_path)) as extractor:
        extractor.extract(TarReader(Stream(scribbled(data, size))))
    assert {name: (tmp_path / name).read_bytes() for name in contents} == contents


@pytest.mark.parametrize("kept", [0, 1, 4])
def test_inflated_pieces_stay_while_as_many_more_are_taken(kept: int) -> None:
    data = os.urandom(1 << 20) + bytes(1 << 20)
    packed = gzip.compress(data[: 1 << 19]) + bytes(3) + gzip.compress(data[1 << 19 :])
    pieces = inflated((packed[at : at + 999] for at in range(0, len(packed), 999)), kept)
    held: list[bytes | memoryview] = []
    told = []
    for piece in pieces:
        held.append(piece)
        if len(held) > kept:
            told.append(bytes(held.pop(0)))
    assert b"".join([*told, *map(bytes, held)]) == data


def test_a_channel_hands_on_no_more_than_its_depth_before_the_consumer_is_done() -> None:
    channel: Channel[bytes] = Channel(2)
    assert channel.put(b"1")
    assert channel.put(b"2")
    chunks = iter(channel)
    assert next(chunks) == b"1"
    assert channel._room.empty()  # the first one is still in use
    assert next(chunks) == b"2"
    assert channel.put(b"3")
    channel.finish(ValueError("why"))
    assert next(chunks) == b"3"
    with pytest.raises(ValueError, match="why"):
        next(chunks)


def test_an_abandoned_channel_takes_nothing() -> None:
    channel: Channel[bytes] = Channel(1)
    assert channel.put(b"1")
    channel.abandon()
    assert not channel.put(b"2")
    assert not channel.put(b"3")
