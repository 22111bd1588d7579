"""cored.build.v1.Build, typed: images from Dockerfiles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cored._pb.cored.build.v1 import build_pb2 as pb
from cored.client.channel import Channel

__all__ = ["Builds"]

_SERVICE = "/cored.build.v1.Build/"


class Builds:
    """On a channel that has a namespace. Errors are those of :mod:`cored.errors`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def build(
        self, options: pb.BuildOptions, contexts: Iterable[tuple[str, bytes]] = ()
    ) -> Iterator[pb.BuildEvent]:
        """Build; ``contexts`` are pieces of tar archives by the context's name ('' the main one).

        Closing the iterator ends the build.
        """
        requests = _requests(options, contexts)
        return self._channel.stream(f"{_SERVICE}Build", requests, pb.BuildEvent)

    def cache(self) -> list[pb.CacheRecord]:
        """What the cache holds, the latest used first."""
        request = pb.ListCacheRequest()
        answer = self._channel.unary(f"{_SERVICE}ListCache", request, pb.ListCacheResponse)
        return list(answer.records)

    def prune(self, *, keep_size: int = 0, unused_for: float = 0.0) -> pb.PruneCacheResponse:
        """Forget what the cache holds, down to a size, or what was not used for so long."""
        request = pb.PruneCacheRequest(keep_size=keep_size, unused_for=unused_for)
        return self._channel.unary(f"{_SERVICE}PruneCache", request, pb.PruneCacheResponse)


def _requests(
    options: pb.BuildOptions, contexts: Iterable[tuple[str, bytes]]
) -> Iterator[pb.BuildRequest]:
    yield pb.BuildRequest(options=options)
    for name, data in contexts:
        yield pb.BuildRequest(data=pb.ContextData(context=name, data=data))
