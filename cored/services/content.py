"""containerd.services.content.v1.Content"""

from __future__ import annotations

from collections.abc import AsyncIterator

from google.protobuf.empty_pb2 import Empty

from cored._pb.containerd.services.content.v1 import content_pb2 as pb
from cored.abc.content import ContentStore, Info, Status, Writer
from cored.abc.service import Service
from cored.errors import AlreadyExists, InvalidArgument, NotFound, OutOfRange
from cored.oci.digest import check
from cored.services.wire import label_changes, labels_value, timestamp

__all__ = ["ContentService"]

_PAGE = 100
_CHUNK = 1 << 20


class ContentService(Service):
    service = "containerd.services.content.v1.Content"

    def __init__(self, store: ContentStore) -> None:
        self._store = store

    async def Info(self, request: pb.InfoRequest) -> pb.InfoResponse:
        return pb.InfoResponse(info=_info(await self._store.info(check(request.digest))))

    async def Update(self, request: pb.UpdateRequest) -> pb.UpdateResponse:
        changes, replace = label_changes(
            dict(request.info.labels), tuple(request.update_mask.paths)
        )
        changed = await self._store.update(check(request.info.digest), changes, replace=replace)
        return pb.UpdateResponse(info=_info(changed))

    async def List(self, request: pb.ListContentRequest) -> AsyncIterator[pb.ListContentResponse]:
        page: list[pb.Info] = []
        async for info in self._store.walk(tuple(request.filters)):
            page.append(_info(info))
            if len(page) >= _PAGE:
                yield pb.ListContentResponse(info=page)
                page = []
        if page:
            yield pb.ListContentResponse(info=page)

    async def Delete(self, request: pb.DeleteContentRequest) -> Empty:
        await self._store.delete(check(request.digest))
        return Empty()

    async def Read(self, request: pb.ReadContentRequest) -> AsyncIterator[pb.ReadContentResponse]:
        async with await self._store.reader(check(request.digest)) as blob:
            offset = max(request.offset, 0)
            if offset > blob.size:
                raise OutOfRange(
                    f"blob {request.digest}: offset {offset} is beyond its {blob.size} bytes"
                )
            end = blob.size
            if request.size > 0:
                end = min(end, offset + request.size)
            while offset < end:
                data = await blob.read_at(offset, min(_CHUNK, end - offset))
                yield pb.ReadContentResponse(offset=offset, data=data)
                offset += len(data)

    async def Status(self, request: pb.StatusRequest) -> pb.StatusResponse:
        return pb.StatusResponse(status=_status(await self._store.status(request.ref)))

    async def ListStatuses(self, request: pb.ListStatusesRequest) -> pb.ListStatusesResponse:
        found = [_status(s) async for s in self._store.ingests(tuple(request.filters))]
        return pb.ListStatusesResponse(statuses=found)

    async def Abort(self, request: pb.AbortRequest) -> Empty:
        await self._store.abort(request.ref)
        return Empty()

    async def Write(
        self, requests: AsyncIterator[pb.WriteContentRequest]
    ) -> AsyncIterator[pb.WriteContentResponse]:
        """One ingest's session: the writer is held until the stream ends or a commit."""
        first = await anext(aiter(requests), None)
        if first is None:
            return
        if not first.ref:
            raise InvalidArgument("content write: the first message must have a ref")
        if first.expected:
            check(first.expected)
        writer = await self._store.writer(first.ref, size=first.total, expected=first.expected)
        async with writer:
            session = _Session(self._store, writer, first)
            yield await session.answer(first)
            while not session.committed:
                request = await anext(aiter(requests), None)
                if request is None:
                    return
                yield await session.answer(request)


class _Session:
    """What one Write stream has said so far of size and digest."""

    def __init__(self, store: ContentStore, writer: Writer, first: pb.WriteContentRequest) -> None:
        self._store = store
        self._writer = writer
        self._ref = first.ref
        self._total = first.total
        self._expected = first.expected
        self._first = True
        self.committed = False

    async def answer(self, request: pb.WriteContentRequest) -> pb.WriteContentResponse:
        """Do what one message asks."""
        # the store has seen to the first message's digest when it opened the writer
        if request.expected and not self._first:
            await self._refuse_existing(check(request.expected))
        self._first = False
        self._expected = request.expected or self._expected
        self._total = request.total or self._total
        answer = pb.WriteContentResponse(action=request.action)
        if request.action == pb.STAT:
            status = self._writer.status
            answer.offset, answer.total = status.offset, self._total or status.total
            answer.started_at.FromNanoseconds(status.started_at)
            answer.updated_at.FromNanoseconds(status.updated_at)
            answer.digest = await self._writer.digest()
        else:
            await self._write(request)
            answer.offset, answer.total = self._writer.status.offset, self._total
            if request.action == pb.COMMIT:
                answer.digest = await self._writer.commit(
                    self._total, self._expected, labels_value(request.labels)
                )
                self.committed = True
            else:
                answer.digest = await self._writer.digest()
        return answer

    async def _write(self, request: pb.WriteContentRequest) -> None:
        offset = self._writer.status.offset
        if request.offset > 0 and request.offset != offset:
            raise OutOfRange(
                f"ingest {self._ref!r}: write at {request.offset}, but it stands at {offset}",
                hint="ask with STAT where to go on",
            )
        # no offset in a write means: from the start (containerd's rule); a bare commit has none
        data = request.data  # each look at it is a copy
        restarts = request.offset == 0 and offset > 0
        if restarts and (data or request.action == pb.WRITE):
            await self._writer.truncate(0)
        if data:
            await self._writer.write(data)

    async def _refuse_existing(self, digest: str) -> None:
        try:
            await self._store.info(digest)
        except NotFound:
            return
        await self._writer.close()
        await self._store.abort(self._ref)
        raise AlreadyExists(f"blob {digest}: already exists")


def _info(value: Info) -> pb.Info:
    return pb.Info(
        digest=value.digest,
        size=value.size,
        created_at=timestamp(value.created_at),
        updated_at=timestamp(value.updated_at),
        labels=value.labels,
    )


def _status(value: Status) -> pb.Status:
    return pb.Status(
        ref=value.ref,
        offset=value.offset,
        total=value.total,
        expected=value.expected,
        started_at=timestamp(value.started_at),
        updated_at=timestamp(value.updated_at),
    )
