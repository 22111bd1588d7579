"""What a client gets to see of a transfer under way (containerd.types.transfer.Progress)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from cored import log
from cored._pb.containerd.types.transfer import progress_pb2 as pb
from cored.abc.records import Image
from cored.abc.values import Descriptor, Typed
from cored.engine.progress import Progress, Report
from cored.engine.streams import Stream
from cored.errors import Unavailable
from cored.oci import mediatypes
from cored.services.wire import descriptor_message

__all__ = ["Teller"]

_PROGRESS = pb.Progress.DESCRIPTOR.full_name
# nobody sees more changes a second than this of one blob
_INTERVAL = 0.1
# clients stop drawing the moment that the call answers
_LAST = 2.0


class Teller:
    """Sends progress over a stream, only the latest of each name; without a stream, nothing."""

    def __init__(self, stream: Stream | None) -> None:
        self._stream = stream
        self._root = ""
        self._parents: dict[str, list[str]] = {}
        self._latest: dict[str, pb.Progress] = {}
        self._wake = asyncio.Event()
        self._ended = False

    @classmethod
    @asynccontextmanager
    async def opened(cls, stream: Stream | None) -> AsyncIterator[Teller]:
        """Send while the body runs; what it said last is sent before the stream ends."""
        teller = cls(stream)
        if stream is None:
            yield teller
            return
        task = asyncio.create_task(teller._run(stream), name=f"progress {stream.id}")
        try:
            yield teller
        finally:
            teller._ended = True
            teller._wake.set()
            await asyncio.wait([task], timeout=_LAST)
            task.cancel()
            stream.close()

    def event(self, event: str) -> None:
        """Something about the transfer as a whole."""
        self._put(f"event {event}", pb.Progress(event=event))

    def root(self, name: str, event: str, target: Descriptor | None = None) -> None:
        """What all blobs belong to: the image."""
        self._root = name
        self._put(name, _progress(event, name, target))

    def saved(self, images: Sequence[Image]) -> None:
        """Images that are in the store now."""
        for image in images:
            self._put(image.name, _progress("saved", image.name, image.target))

    def report(self, moving: str, begin: Callable[[], None] | None = None) -> Report:
        """For the engine; ``moving`` is what clients call bytes on their way, ``begin`` is called
        before the first blob is told of."""
        events = {
            "done": "complete",
            "exists": "already exists",
            "receiving": moving,
            "downloading": moving,
        }

        first = [] if begin is None else [begin]

        def report(progress: Progress) -> None:
            if progress.blob is None:
                return
            while first:
                first.pop()()
            name = _name(progress.blob)
            message = _progress(events.get(progress.status, progress.status), name, progress.blob)
            for child in progress.children:
                parents = self._parents.setdefault(child.digest, [])
                if name not in parents:
                    parents.append(name)
            root = [self._root] if self._root else []
            message.parents.extend(self._parents.get(progress.blob.digest, root))
            message.progress, message.total = progress.offset, progress.total
            self._put(name, message)

        return report

    def _put(self, key: str, message: pb.Progress) -> None:
        if self._stream is not None:
            self._latest[key] = message
            self._wake.set()

    async def _run(self, stream: Stream) -> None:
        try:
            while self._latest or not self._ended:
                await self._wake.wait()
                self._wake.clear()
                latest, self._latest = self._latest, {}
                for message in latest.values():
                    await stream.send(Typed(_PROGRESS, message.SerializeToString()))
                if not self._ended:
                    await asyncio.sleep(_INTERVAL)
        except Unavailable:
            # a client that does not look any more may still want the transfer
            log.get("transfer").debug("nobody looks at the progress", stream=stream.id)


def _progress(event: str, name: str, target: Descriptor | None) -> pb.Progress:
    message = pb.Progress(event=event, name=name)
    if target is not None:
        message.desc.CopyFrom(descriptor_message(target))
    return message


def _name(blob: Descriptor) -> str:
    """A blob's name as clients know it: its role and its digest."""
    if blob.media_type in mediatypes.INDEXES:
        role = "index"
    elif blob.media_type in mediatypes.MANIFESTS:
        role = "manifest"
    elif blob.media_type in mediatypes.CONFIGS:
        role = "config"
    else:
        role = "layer" if mediatypes.is_layer(blob.media_type) else "unknown"
    return f"{role}-{blob.digest}"
