"""The calls of cored.workloads.v1.Workloads about the files of containers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass

from google.protobuf.empty_pb2 import Empty

from cored._pb.containerd.types import descriptor_pb2
from cored._pb.cored.workloads.v1 import processes_pb2
from cored._pb.cored.workloads.v1 import volumes_pb2 as pb
from cored.engine.commit import Committer, Wish
from cored.engine.files import Entry, Files
from cored.errors import InvalidArgument

__all__ = ["FileCalls", "FileParts"]


@dataclass(frozen=True, slots=True)
class FileParts:
    """What the calls stand on."""

    files: Files
    committer: Committer


class FileCalls:
    """One method for each RPC."""

    def __init__(self, parts: FileParts) -> None:
        self._files = parts.files
        self._committer = parts.committer

    async def CopyOut(self, request: pb.CopyOutRequest) -> AsyncIterator[pb.CopyOutResponse]:
        found = self._files.copy_out(request.container, request.path, follow=request.follow)
        async for message in _pieces(found):
            yield message

    async def ExportContainer(
        self, request: processes_pb2.ContainerRequest
    ) -> AsyncIterator[pb.CopyOutResponse]:
        async for message in _pieces(self._files.export(request.container)):
            yield message

    async def CopyIn(self, requests: AsyncIterator[pb.CopyInRequest]) -> Empty:
        first = await anext(requests, None)
        if first is None or not first.HasField("options"):
            raise InvalidArgument("copy: the first message must have the options")
        options = first.options

        async def data() -> AsyncIterator[bytes]:
            if first.data:
                yield first.data
            async for request in requests:
                yield request.data

        await self._files.copy_in(options.container, options.path, data(), owners=options.archive)
        return Empty()

    async def Changes(self, request: processes_pb2.ContainerRequest) -> pb.ChangesResponse:
        found = await self._files.changes(request.container)
        return pb.ChangesResponse(changes=[pb.Change(**asdict(one)) for one in found])

    async def Commit(self, request: pb.CommitRequest) -> pb.CommitResponse:
        wish = Wish(
            request.reference,
            request.author,
            request.message,
            tuple(request.changes),
            request.pause,
        )
        id, target = await self._committer.commit(request.container, wish)
        described = descriptor_pb2.Descriptor(
            media_type=target.media_type, digest=target.digest, size=target.size
        )
        return pb.CommitResponse(id=id, target=described)


async def _pieces(found: AsyncIterator[Entry | bytes]) -> AsyncIterator[pb.CopyOutResponse]:
    async for piece in found:
        if isinstance(piece, bytes):
            yield pb.CopyOutResponse(data=piece)
        else:
            yield pb.CopyOutResponse(entry=pb.Entry(**asdict(piece)))
