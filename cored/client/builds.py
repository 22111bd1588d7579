"""cored.build.v1.Build, typed: images from Dockerfiles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from cored._pb.cored.build.v1 import build_pb2 as pb
from cored.client.channel import Channel

__all__ = ["Builds", "Directory"]

_SERVICE = "/cored.build.v1.Build/"
_LISTED = 4096


class Directory(Protocol):
    """A context's files; the builder asks for the bytes of those that it has not kept."""

    @property
    def name(self) -> str:
        """The context's, '' for the main one."""

    @property
    def key(self) -> str:
        """The builder keeps the files under it."""

    def listing(self) -> Sequence[pb.ContextFile]:
        """What is in it, parents first."""

    def contents(self, wanted: Sequence[int]) -> Iterator[bytes]:
        """The bytes of files by their places in the listing, one after the other."""


class Builds:
    """On a channel that has a namespace. Errors are those of :mod:`cored.errors`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def build(
        self,
        options: pb.BuildOptions,
        directories: Iterable[Directory] = (),
        archives: Iterable[tuple[str, bytes]] = (),
    ) -> Iterator[pb.BuildEvent]:
        """Build; ``archives`` are pieces of tar archives by their contexts' names.

        Closing the iterator ends the build.
        """
        wanted: dict[str, Sequence[int]] = {}
        options.takes_several = True
        requests = _requests(options, directories, archives, wanted)
        for event in self._channel.stream(f"{_SERVICE}Build", requests, pb.BuildEvent):
            if event.HasField("wanted"):
                wanted[event.wanted.context] = event.wanted.files
            else:
                yield event
                yield from event.next

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
    options: pb.BuildOptions,
    directories: Iterable[Directory],
    archives: Iterable[tuple[str, bytes]],
    wanted: dict[str, Sequence[int]],
) -> Iterator[pb.BuildRequest | None]:
    yield pb.BuildRequest(options=options)
    for directory in directories:
        name, listing = directory.name, directory.listing()
        key = directory.key
        for start in range(0, max(1, len(listing)), _LISTED):
            files, last = listing[start : start + _LISTED], start + _LISTED >= len(listing)
            part = pb.ContextFiles(context=name, key=key, files=files, last=last)
            yield pb.BuildRequest(files=part)
        while name not in wanted:
            yield None
        for data in directory.contents(wanted[name]):
            yield pb.BuildRequest(data=pb.ContextData(context=name, data=data))
    for name, data in archives:
        yield pb.BuildRequest(data=pb.ContextData(context=name, data=data))
