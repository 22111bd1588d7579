"""A server that listens before its services are open: calls of those wait, none looks absent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cored._pb.containerd.services.content.v1 import content_pb2 as pb
from cored.abc.service import Service
from cored.config import GrpcConfig
from cored.errors import NotFound
from cored.rpc.server import Server, serve


class Contents(Service):
    """One method of each kind."""

    service = "containerd.services.content.v1.Content"
    scoped = False

    async def Info(self, request: pb.InfoRequest) -> pb.InfoResponse:
        if request.digest == "nothing":
            raise NotFound("blob 'nothing': not found")
        return pb.InfoResponse(info=pb.Info(digest=request.digest))

    async def List(self, request: pb.ListContentRequest) -> AsyncIterator[pb.ListContentResponse]:
        for name in request.filters:
            yield pb.ListContentResponse(info=[pb.Info(digest=name)])

    async def Write(
        self, requests: AsyncIterator[pb.WriteContentRequest]
    ) -> AsyncIterator[pb.WriteContentResponse]:
        async for request in requests:
            yield pb.WriteContentResponse(digest=request.ref)


class Stub:
    """A client of the service."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        path = f"/{Contents.service}"
        self.Info = channel.unary_unary(
            f"{path}/Info", pb.InfoRequest.SerializeToString, pb.InfoResponse.FromString
        )
        self.List = channel.unary_stream(
            f"{path}/List",
            pb.ListContentRequest.SerializeToString,
            pb.ListContentResponse.FromString,
        )
        self.Write = channel.stream_stream(
            f"{path}/Write",
            pb.WriteContentRequest.SerializeToString,
            pb.WriteContentResponse.FromString,
        )


@pytest.fixture
async def server(short_tmp: Path) -> AsyncIterator[Server]:
    async with serve(str(short_tmp / "sock"), (), GrpcConfig()) as server:
        yield server


@pytest.fixture
async def channel(server: Server, short_tmp: Path) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"unix:{short_tmp}/sock") as channel:
        await channel.channel_ready()
        yield channel


async def test_calls_of_all_kinds_wait_for_their_service(
    server: Server, channel: grpc.aio.Channel
) -> None:
    content = Stub(channel)
    info = content.Info(pb.InfoRequest(digest="a"))
    listed = content.List(pb.ListContentRequest(filters=["b", "c"]))
    written = content.Write(
        iter([pb.WriteContentRequest(ref="d"), pb.WriteContentRequest(ref="e")])
    )
    failing = content.Info(pb.InfoRequest(digest="nothing"))
    early = await asyncio.wait([asyncio.ensure_future(_code(info))], timeout=0.2)
    assert not early[0]
    await server.add((Contents(),))
    await server.complete()
    assert (await info).info.digest == "a"
    assert [answer.info[0].digest async for answer in listed] == ["b", "c"]
    assert [answer.digest async for answer in written] == ["d", "e"]
    assert await _code(failing) is grpc.StatusCode.NOT_FOUND


async def test_what_never_comes_is_unimplemented(server: Server, channel: grpc.aio.Channel) -> None:
    content = Stub(channel)
    info = content.Info(pb.InfoRequest(digest="a"))
    await server.complete()
    assert await _code(info) is grpc.StatusCode.UNIMPLEMENTED
    late = content.Info(pb.InfoRequest(digest="a"))
    assert await _code(late) is grpc.StatusCode.UNIMPLEMENTED


async def test_the_health_of_a_service_is_known_when_it_is_open(
    server: Server, channel: grpc.aio.Channel
) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    serving = health_pb2.HealthCheckResponse.SERVING
    question = health_pb2.HealthCheckRequest(service=Contents.service)
    assert (await health.Check(health_pb2.HealthCheckRequest())).status == serving
    assert await _code(health.Check(question)) is grpc.StatusCode.NOT_FOUND
    await server.add((Contents(),))
    assert (await health.Check(question)).status == serving


async def _code(call: grpc.aio.Call) -> grpc.StatusCode:
    return await call.code()
