"""Streams of clients who send what nobody reads, go while much is under way, or stay for long."""

from __future__ import annotations

import asyncio

import pytest
from cored_service_cri.streaming.channels import Channel, Link
from cored_service_cri.streaming.spdy import SpdyConnection
from cored_service_cri.streaming.spdyframes import Encoder


class Wire(Link):
    """A client's side: what it sends is put in, and ends with b''."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[bytes] = asyncio.Queue()

    async def read(self) -> bytes:
        return await self.sent.get()

    async def write(self, data: bytes) -> None:
        return


class Client:
    """A connection with the streams ``kinds``."""

    def __init__(self, *kinds: str) -> None:
        self.wire, self.encoder = Wire(), Encoder()
        self.connection = SpdyConnection(self.wire)
        self.serving = asyncio.create_task(self.connection.serve())
        for number, kind in enumerate(kinds):
            headers = {"streamtype": kind, "requestid": "1", "port": "80"}
            self.wire.sent.put_nowait(self.encoder.syn(2 * number + 1, headers))

    def send(self, number: int, count: int = 1, *, fin: bool = False) -> None:
        for _ in range(count):
            self.wire.sent.put_nowait(self.encoder.data(number, b"x"))
        if fin:
            self.wire.sent.put_nowait(self.encoder.data(number, b"", fin=True))

    def leave(self) -> None:
        self.wire.sent.put_nowait(b"")


async def _read(channel: Channel) -> int:
    count = 0
    async for chunk in channel.chunks():
        count += len(chunk)
    return count


@pytest.mark.parametrize("before", [True, False], ids=["not read", "read no longer"])
async def test_that_a_client_goes_is_seen_behind_what_nobody_reads(before: bool) -> None:
    client = Client("stdin")
    stdin = (await client.connection.channels(["stdin"]))["stdin"]
    if before:
        stdin.discard()
    client.send(1, 1000)
    client.leave()
    if not before:
        for _ in range(10):
            await asyncio.sleep(0)
        assert not client.serving.done(), "who sends much has to wait for who reads"
        stdin.discard()
    async with asyncio.timeout(60):
        await client.connection.gone()


async def test_who_reads_slowly_comes_to_the_end_when_the_client_has_gone() -> None:
    client = Client("stdin")
    stdin = (await client.connection.channels(["stdin"]))["stdin"]
    client.send(1, 64)  # as many as may wait
    client.leave()
    for _ in range(200):
        await asyncio.sleep(0)
    async with asyncio.timeout(60):
        assert await _read(stdin) == 64


async def test_streams_that_are_over_are_forgotten() -> None:
    client = Client("error", "data")
    async with asyncio.timeout(60):
        pair = await anext(client.connection.pairs([]))
        client.send(1, 0, fin=True)
        client.send(3, 5, fin=True)
        assert await _read(pair.data) == 5
        await pair.data.close()
        await pair.error.close()
        await _read(pair.error)
        assert client.connection._streams == {}
        client.leave()
        await client.serving
