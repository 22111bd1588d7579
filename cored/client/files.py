"""The verbs of cored.workloads.v1.Workloads about the files of containers, typed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from google.protobuf.empty_pb2 import Empty

from cored._pb.cored.workloads.v1 import processes_pb2
from cored._pb.cored.workloads.v1 import volumes_pb2 as pb
from cored.client.channel import Channel

__all__ = ["FileVerbs"]

_SERVICE = "/cored.workloads.v1.Workloads/"


class FileVerbs:
    """``container`` is an id, a unique prefix of one, or a name."""

    _channel: Channel

    def copy_out(
        self, container: str, path: str, *, follow: bool = False
    ) -> tuple[pb.Entry, Iterator[bytes]]:
        """What a path is, and a tar of it, piece by piece."""
        request = pb.CopyOutRequest(container=container, path=path, follow=follow)
        answers = self._channel.stream(f"{_SERVICE}CopyOut", (request,), pb.CopyOutResponse)
        entry = next(answers).entry
        return entry, _data(answers)

    def stat(self, container: str, path: str) -> pb.Entry:
        """What a path is. NotFound."""
        request = pb.CopyOutRequest(container=container, path=path)
        answers = self._channel.stream(f"{_SERVICE}CopyOut", (request,), pb.CopyOutResponse)
        try:
            return next(answers).entry
        finally:
            answers.close()  # type: ignore[attr-defined]

    def copy_in(self, options: pb.CopyInOptions, tar: Iterable[bytes]) -> None:
        """Unpack a tar in a directory of a container."""

        def requests() -> Iterator[pb.CopyInRequest]:
            yield pb.CopyInRequest(options=options)
            for piece in tar:
                yield pb.CopyInRequest(data=piece)

        for _ in self._channel.stream(f"{_SERVICE}CopyIn", requests(), Empty):
            continue

    def changes(self, container: str) -> list[pb.Change]:
        """What differs from its image."""
        request = processes_pb2.ContainerRequest(container=container)
        answer = self._channel.unary(f"{_SERVICE}Changes", request, pb.ChangesResponse)
        return list(answer.changes)

    def export_container(self, container: str) -> Iterator[bytes]:
        """Its whole filesystem as a tar, piece by piece."""
        request = processes_pb2.ContainerRequest(container=container)
        path = f"{_SERVICE}ExportContainer"
        return _data(self._channel.stream(path, (request,), pb.CopyOutResponse))

    def commit(self, request: pb.CommitRequest) -> pb.CommitResponse:
        """An image of what it is now."""
        return self._channel.unary(f"{_SERVICE}Commit", request, pb.CommitResponse)


def _data(answers: Iterator[pb.CopyOutResponse]) -> Iterator[bytes]:
    for answer in answers:
        if answer.data:
            yield answer.data
