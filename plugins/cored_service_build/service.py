"""The gRPC service ``build``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

from cored._pb.cored.build.v1 import build_pb2 as pb
from cored.abc.content import ContentStore
from cored.abc.records import Image
from cored.abc.service import Service
from cored.engine.export import Exporter
from cored.engine.push import Pusher
from cored.engine.selection import Selection
from cored.errors import InvalidArgument
from cored.oci.reference import parse as parse_reference
from cored_service_build.builder import Builder
from cored_service_build.contexts import contexts
from cored_service_build.messages import event_message, received, request_value, result_message
from cored_service_build.values import Request, Result

__all__ = ["BuildService"]

_OUTPUTS = ("", "image", "oci", "docker", "tar")
_BLOCK = 1 << 20
# pieces of an archive that wait for a slow client
_AHEAD = 8
# events in one message: each costs as much as most steps that are cached
_SEVERAL = 32
# bytes of steps' output that wait for one before the steps do, too
_BEHIND = 4 << 20


class BuildService(Service):
    service = "cored.build.v1.Build"
    lasting = frozenset({"Build"})

    def __init__(
        self, builder: Builder, exporter: Exporter, pusher: Pusher, content: ContentStore
    ) -> None:
        self._builder = builder
        self._exporter = exporter
        self._pusher = pusher
        self._content = content

    async def Build(self, requests: AsyncIterator[pb.BuildRequest]) -> AsyncIterator[pb.BuildEvent]:
        first = await anext(requests, None)
        if first is None or not first.HasField("options"):
            raise InvalidArgument("build: the first message must have the options")
        options = first.options
        if options.output not in _OUTPUTS:
            raise InvalidArgument(f"output {options.output!r}: unknown", hint=", ".join(_OUTPUTS))
        if options.output == "tar" and "," in options.platform:
            raise InvalidArgument("output tar: has the files of one platform only")
        for tag in options.tags:
            parse_reference(tag)  # not only when all is built
        if options.push and not options.tags:
            raise InvalidArgument("build: an image without a name cannot be pushed", hint="-t")

        builder, names = self._builder, options.named_contexts
        async with contexts(names, builder.spool, builder.kept, builder.endings) as incoming:
            async for request in requests:
                answer = await received(incoming, request)
                if answer is not None:
                    yield answer
            value = request_value(options, await incoming.whole())
            async with aclosing(self._events(value, options, incoming.spool)) as events:
                async for event in events:
                    yield event

    async def _events(
        self, request: Request, options: pb.BuildOptions, spool: Path
    ) -> AsyncGenerator[pb.BuildEvent, None]:
        """Everything that happens, as it does; closing it ends the build."""
        queue: asyncio.Queue[pb.BuildEvent | None] = asyncio.Queue()
        room = asyncio.Semaphore(_AHEAD)
        waiting = 0
        request = replace(request, behind=lambda: waiting > _BEHIND)

        def report(event: Any) -> None:
            nonlocal waiting
            message = event_message(event)
            waiting += len(message.output.data)
            queue.put_nowait(message)

        async def work() -> None:
            try:
                unnamed = options.output in ("oci", "docker", "tar") and not options.tags
                builder = self._builder
                building = builder.build(request, report, spool, unnamed=unnamed)
                async with building as (done, images):
                    for image in images if options.push else ():
                        await self._pusher.push(
                            image, image.name, access=request.access, report=report
                        )
                    queue.put_nowait(result_message(done, list(images)))
                    async with aclosing(self._exported(options, done, list(images))) as archive:
                        async for data in archive:
                            await room.acquire()
                            queue.put_nowait(pb.BuildEvent(data=data))
            finally:
                queue.put_nowait(None)

        task = asyncio.create_task(work(), name="build")
        most = _SEVERAL if options.takes_several else 0
        try:
            while (event := await queue.get()) is not None:
                following = _following(queue, 0 if event.data else most)
                event.next.extend(following)
                yield event
                for each in (event, *following):
                    waiting -= len(each.output.data)
                    if each.data:
                        room.release()
            await task
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])

    async def _exported(
        self, options: pb.BuildOptions, done: Result, images: list[Image]
    ) -> AsyncGenerator[bytes, None]:
        if options.output in ("oci", "docker"):
            wanted = images or [Image(done.target.digest, done.target)]
            docker = options.output == "docker"
            async for data in self._exporter.export(wanted, Selection(), docker=docker):
                yield data
        elif options.output == "tar":
            blob = await self._builder.files(done)
            async with await self._content.reader(blob.digest) as reader:
                offset = 0
                while data := await reader.read_at(offset, _BLOCK):
                    offset += len(data)
                    yield data

    async def ListCache(self, request: pb.ListCacheRequest) -> pb.ListCacheResponse:
        records = [
            pb.CacheRecord(
                key=record.key,
                instruction=record.instruction,
                size=record.size,
                created_at=record.created_at,
                used_at=record.used_at,
            )
            for record in self._builder.parts.cache.records()
        ]
        return pb.ListCacheResponse(records=records)

    async def PruneCache(self, request: pb.PruneCacheRequest) -> pb.PruneCacheResponse:
        gone = await self._builder.parts.cache.prune(request.keep_size, request.unused_for)
        if not request.keep_size and not request.unused_for:
            await self._builder.caches.prune()
        if not request.keep_size:
            await self._builder.endings.wait()
            await asyncio.to_thread(self._builder.kept.prune, request.unused_for)
        return pb.PruneCacheResponse(removed=len(gone), freed=sum(record.size for record in gone))


def _following(queue: asyncio.Queue[pb.BuildEvent | None], most: int) -> list[pb.BuildEvent]:
    """What is in the queue already, up to the end of it all."""
    found: list[pb.BuildEvent] = []
    while len(found) < most and not queue.empty():
        event = queue.get_nowait()
        if event is None:
            queue.put_nowait(None)
            break
        found.append(event)
    return found
