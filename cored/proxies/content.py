"""A content store behind containerd.services.content.v1.Content."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask

from cored._pb.containerd.services.content.v1 import content_pb2 as pb
from cored.abc.content import ContentStore, Info, Reader, Status, Writer
from cored.abc.values import NO_LABELS, Labels
from cored.errors import FailedPrecondition, InvalidArgument, OutOfRange, Unimplemented
from cored.proxies.peer import Peer
from cored.rpc.channel import Conversation

__all__ = ["ProxyContent"]

_CHUNK = 1 << 20


class ProxyContent(ContentStore):
    """The store of a peer."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def info(self, digest: str) -> Info:
        request = pb.InfoRequest(digest=digest)
        return _info((await self._peer.call("Info", request, pb.InfoResponse)).info)

    async def update(
        self, digest: str, labels: Mapping[str, str | None], *, replace: bool = False
    ) -> Info:
        request = pb.UpdateRequest(
            info=pb.Info(digest=digest, labels={k: v for k, v in labels.items() if v}),
            update_mask=FieldMask(paths=["labels"] if replace else [f"labels.{k}" for k in labels]),
        )
        return _info((await self._peer.call("Update", request, pb.UpdateResponse)).info)

    async def walk(self, filters: Sequence[str] = ()) -> AsyncIterator[Info]:
        request = pb.ListContentRequest(filters=filters)
        async for page in self._peer.stream("List", request, pb.ListContentResponse):
            for info in page.info:
                yield _info(info)

    async def delete(self, digest: str) -> None:
        await self._peer.call("Delete", pb.DeleteContentRequest(digest=digest), Empty)

    async def reader(self, digest: str) -> Reader:
        reader = _ProxyReader(self._peer, digest, (await self.info(digest)).size)
        # most read from the start, and what is being read stays when it is deleted
        await reader.open(0)
        return reader

    async def writer(self, ref: str, *, size: int = 0, expected: str = "") -> Writer:
        conversation = self._peer.conversation("Write", pb.WriteContentResponse)
        request = pb.WriteContentRequest(action=pb.STAT, ref=ref, total=size, expected=expected)
        try:
            found = await conversation.ask(request)
        except BaseException:
            await conversation.close()
            raise
        status = Status(
            ref,
            found.offset,
            found.total,
            expected,
            found.started_at.ToNanoseconds(),
            found.updated_at.ToNanoseconds(),
        )
        return _ProxyWriter(conversation, status)

    async def status(self, ref: str) -> Status:
        request = pb.StatusRequest(ref=ref)
        return _status((await self._peer.call("Status", request, pb.StatusResponse)).status)

    async def ingests(self, filters: Sequence[str] = ()) -> AsyncIterator[Status]:
        request = pb.ListStatusesRequest(filters=filters)
        found = await self._peer.call("ListStatuses", request, pb.ListStatusesResponse)
        for status in found.statuses:
            yield _status(status)

    async def abort(self, ref: str) -> None:
        await self._peer.call("Abort", pb.AbortRequest(ref=ref), Empty)


class _ProxyReader(Reader):
    """Reads on in one stream as long as it is asked for one piece after the other."""

    def __init__(self, peer: Peer, digest: str, size: int) -> None:
        self.size = size
        self._peer = peer
        self._digest = digest
        self._stream: AsyncIterator[pb.ReadContentResponse] | None = None
        self._position = 0
        self._rest = b""

    async def open(self, offset: int) -> None:
        """Begin to read at ``offset``."""
        await self.close()
        if offset >= self.size:
            return
        request = pb.ReadContentRequest(digest=self._digest, offset=offset)
        self._stream = self._peer.stream("Read", request, pb.ReadContentResponse)
        self._position = offset
        self._rest = (await anext(self._stream)).data

    async def read_at(self, offset: int, count: int) -> bytes:
        if offset < 0 or count < 0:
            raise InvalidArgument(f"blob {self._digest}: {count} bytes from {offset}")
        if offset >= self.size or not count:
            return b""
        if self._stream is None or offset != self._position:
            await self.open(offset)
        assert self._stream is not None
        parts = [self._rest]
        got = len(self._rest)
        while got < count:
            message = await anext(self._stream, None)
            if message is None:
                break
            parts.append(message.data)
            got += len(message.data)
        data = b"".join(parts)
        data, self._rest = data[:count], data[count:]
        self._position += len(data)
        return data

    async def close(self) -> None:
        stream, self._stream, self._rest = self._stream, None, b""
        if stream is not None:
            await stream.aclose()  # type: ignore[attr-defined]


class _ProxyWriter(Writer):
    """One Write call."""

    def __init__(self, conversation: Conversation[pb.WriteContentResponse], status: Status) -> None:
        self._conversation = conversation
        self._status = status
        self._closed = False

    @property
    def status(self) -> Status:
        return self._status

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            piece = bytes(view[:_CHUNK])
            request = pb.WriteContentRequest(
                action=pb.WRITE, offset=self._status.offset, data=piece
            )
            await self._ask(request)
            view = view[len(piece) :]

    async def truncate(self, size: int) -> None:
        self._check_open()
        if size == self._status.offset:
            return
        if not 0 <= size < self._status.offset:
            raise OutOfRange(f"ingest {self._status.ref!r}: has no {size} bytes")
        if size:
            raise Unimplemented(f"ingest {self._status.ref!r}: can only be begun again")
        await self._ask(pb.WriteContentRequest(action=pb.WRITE, offset=0))

    async def digest(self) -> str:
        return (await self._ask(pb.WriteContentRequest(action=pb.STAT))).digest

    async def commit(self, size: int = 0, expected: str = "", labels: Labels = NO_LABELS) -> str:
        if size and size != self._status.offset:
            raise FailedPrecondition(
                f"ingest {self._status.ref!r}: has {self._status.offset} bytes, expected {size}"
            )
        request = pb.WriteContentRequest(
            action=pb.COMMIT,
            total=size or self._status.offset,
            offset=self._status.offset,
            expected=expected,
            labels=labels,
        )
        done = await self._ask(request)
        await self.close()
        return done.digest or expected

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._conversation.close()

    def _check_open(self) -> None:
        if self._closed:
            raise FailedPrecondition(f"ingest {self._status.ref!r}: its writer is closed")

    async def _ask(self, request: pb.WriteContentRequest) -> pb.WriteContentResponse:
        self._check_open()
        found = await self._conversation.ask(request)
        old = self._status
        self._status = Status(
            old.ref, found.offset, found.total or old.total, old.expected,
            old.started_at, found.updated_at.ToNanoseconds() or old.updated_at,
        )  # fmt: skip
        return found


def _info(info: pb.Info) -> Info:
    return Info(
        info.digest,
        info.size,
        dict(info.labels),
        info.created_at.ToNanoseconds(),
        info.updated_at.ToNanoseconds(),
    )


def _status(status: pb.Status) -> Status:
    return Status(
        status.ref,
        status.offset,
        status.total,
        status.expected,
        status.started_at.ToNanoseconds(),
        status.updated_at.ToNanoseconds(),
    )
