"""The blocking client against a real grpc.aio server."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from google.protobuf.empty_pb2 import Empty

from cored import errors, scope
from cored._pb.containerd.services.version.v1 import version_pb2
from cored._pb.cored.workloads.v1 import workloads_pb2 as pb
from cored.abc.service import Service
from cored.client.channel import Channel
from cored.client.connection import Disconnected
from cored.client.workloads import Workloads
from tests.servers import Server, serving

VERSION = "/containerd.services.version.v1.Version/Version"
BIG = 3_000_000


class Versions(Service):
    service = "containerd.services.version.v1.Version"
    scoped = False

    async def Version(self, request: Empty) -> version_pb2.VersionResponse:
        return version_pb2.VersionResponse(version="v9")


class Oddities(Service):
    """Answers that exercise the client: which one is chosen by the container's name."""

    service = "cored.workloads.v1.Workloads"

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.entered = threading.Event()
        self.release = asyncio.Event()

    async def Inspect(self, request: pb.InspectRequest) -> pb.InspectResponse:
        current = scope.current()
        return pb.InspectResponse(
            container=pb.Container(name=current.namespace), spec=b"x" * int(request.container)
        )

    async def Kill(self, request: pb.KillRequest) -> Empty:
        raise errors.by_code(request.signal)(f"container '{request.container}': 100% über\nnext")

    async def Wait(self, request: pb.WaitRequest) -> pb.WaitResponse:
        self.entered.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return pb.WaitResponse(exit_status=42)

    async def Logs(self, request: pb.LogsRequest) -> AsyncIterator[pb.LogRecord]:
        try:
            for number in range(request.tail):
                yield pb.LogRecord(data=number.to_bytes(4, "big") * 4096)
            if request.container == "bad":
                raise errors.NotFound("log: gone", hint="look elsewhere")
            if request.follow:
                await self.release.wait()
        finally:
            self.cancelled.set()

    async def Import(
        self, requests: AsyncIterator[pb.ImportRequest]
    ) -> AsyncIterator[pb.TransferProgress]:
        total = 0
        async for request in requests:
            total += len(request.data)
            yield pb.TransferProgress(id="x" * 2000, offset=total)
            if request.options.name == "refuse":
                raise errors.InvalidArgument("archive: refused")
        yield pb.TransferProgress(status="done", offset=total)


@pytest.fixture
def server(short_tmp: Path) -> Iterator[Server]:
    with serving(short_tmp / "sock", Versions(), Oddities()) as running:
        yield running


def oddities(server: Server) -> Oddities:
    found = server.services[1]
    assert isinstance(found, Oddities)
    return found


@pytest.fixture
def channel(server: Server) -> Iterator[Channel]:
    with Channel(f"unix://{server.address}", namespace="here") as channel:
        yield channel


def release(server: Server) -> None:
    server.loop.call_soon_threadsafe(oddities(server).release.set)


def version(channel: Channel) -> str:
    return channel.unary(VERSION, Empty(), version_pb2.VersionResponse, timeout=60).version


def test_a_unary_call_is_answered(channel: Channel) -> None:
    assert [version(channel) for _ in range(3)] == ["v9"] * 3


def test_the_namespace_goes_along(channel: Channel) -> None:
    assert Workloads(channel).inspect("0").container.name == "here"


def test_without_a_namespace_a_scoped_service_refuses(server: Server) -> None:
    with Channel(str(server.address)) as channel:
        with pytest.raises(errors.FailedPrecondition, match="namespace is required"):
            Workloads(channel).inspect("0")


def test_messages_larger_than_windows_and_frames_arrive_whole(channel: Channel) -> None:
    assert Workloads(channel).inspect(str(BIG)).spec == b"x" * BIG


@pytest.mark.parametrize("code", [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14])
def test_statuses_become_errors_with_their_message(channel: Channel, code: int) -> None:
    with pytest.raises(errors.by_code(code)) as caught:
        Workloads(channel).kill("été", code)
    assert type(caught.value) is errors.by_code(code)
    assert str(caught.value) == "container 'été': 100% über\nnext"


def test_an_rpc_that_is_not_built_is_unimplemented(channel: Channel) -> None:
    with pytest.raises(errors.Unimplemented):
        Workloads(channel).stop("x")


def test_a_stream_arrives_in_order(channel: Channel) -> None:
    records = Workloads(channel).logs(pb.LogsRequest(tail=1000))
    assert [int.from_bytes(record.data[:4], "big") for record in records] == list(range(1000))


def test_a_stream_that_fails_yields_what_came_before(channel: Channel) -> None:
    records = Workloads(channel).logs(pb.LogsRequest(tail=2, container="bad"))
    assert [len(next(records).data), len(next(records).data)] == [16384, 16384]
    with pytest.raises(errors.NotFound, match=r"log: gone \(look elsewhere\)"):
        next(records)


def test_closing_a_stream_cancels_the_call(server: Server, channel: Channel) -> None:
    records = Workloads(channel).logs(pb.LogsRequest(tail=1, follow=True))
    next(records)
    assert not oddities(server).cancelled.is_set()
    records.close()  # type: ignore[attr-defined]
    assert oddities(server).cancelled.wait(60)
    assert version(channel) == "v9"


def test_client_streams_send_more_than_the_windows_hold(channel: Channel, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(b"y" * (20 << 20))
    with archive.open("rb", buffering=0) as file:
        answers = list(Workloads(channel).import_archive(file, pb.ImportOptions()))
    assert answers[-1].status == "done"
    assert answers[-1].offset == 20 << 20


def test_a_client_stream_that_is_refused_stops_sending(channel: Channel) -> None:
    sent = 0

    class Endless:
        def read(self, size: int) -> bytes:
            nonlocal sent
            sent += size
            return bytes(size)

    answers = Workloads(channel).import_archive(
        Endless(),  # type: ignore[arg-type]
        pb.ImportOptions(name="refuse"),
    )
    with pytest.raises(errors.InvalidArgument, match="archive: refused"):
        list(answers)
    assert sent < 50 << 20
    assert version(channel) == "v9"


def test_a_deadline_ends_a_call_that_takes_too_long(server: Server, channel: Channel) -> None:
    begun = time.monotonic()
    with pytest.raises(errors.DeadlineExceeded):
        channel.unary(
            "/cored.workloads.v1.Workloads/Wait", pb.WaitRequest(), pb.WaitResponse, timeout=0.3
        )
    assert time.monotonic() - begun > 0.2
    assert oddities(server).cancelled.wait(60)


def test_threads_share_a_channel(server: Server, channel: Channel) -> None:
    with ThreadPoolExecutor(8) as pool:
        waiting = Workloads(channel).wait("x")
        sizes = [1000 * number for number in range(40)]
        specs = pool.map(lambda size: len(Workloads(channel).inspect(str(size)).spec), sizes)
        assert list(specs) == sizes
        release(server)
        assert waiting.result().exit_status == 42


def test_a_call_in_flight_survives_a_graceful_shutdown(server: Server, channel: Channel) -> None:
    waiting = Workloads(channel).wait("x")
    assert oddities(server).entered.wait(60)
    stopping = asyncio.run_coroutine_threadsafe(server.stop(10), server.loop)
    time.sleep(0.3)
    release(server)
    assert waiting.result().exit_status == 42
    stopping.result(60)
    with pytest.raises(Disconnected, match="not running"):
        version(channel)


def test_a_lost_daemon_is_disconnected_and_the_next_one_is_found(
    server: Server, channel: Channel
) -> None:
    assert version(channel) == "v9"
    waiting = Workloads(channel).wait("x")
    assert oddities(server).entered.wait(60)
    server.run(server.stop)
    with pytest.raises((Disconnected, errors.Unavailable, errors.Cancelled)):
        waiting.result()
    server.run(server.start)
    assert version(channel) == "v9"


def test_no_daemon_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(errors.Unavailable) as caught:
        version(Channel(str(tmp_path / "sock")))
    assert str(caught.value) == (
        f"daemon at {tmp_path / 'sock'}: not running (start it with: cored)"
    )


def test_a_peer_that_talks_no_http2_is_said(short_tmp: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short_tmp / "sock"))
        listener.listen()

        def answer() -> None:
            peer, _ = listener.accept()
            with peer, contextlib.suppress(OSError):
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n" * 400)
                peer.recv(1 << 16)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(Disconnected):
            version(Channel(str(short_tmp / "sock")))
        thread.join()


def test_importing_the_client_does_not_load_grpcio() -> None:
    script = (
        "import sys, cored.client.channel, cored.client.workloads; "
        "print([m for m in ('grpc', 'asyncio', 'urllib3', 'structlog') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
