"""The daemon behind a proxy: where it is, and in whose name we ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeVar

from google.protobuf.message import Message

from cored import scope
from cored.errors import FailedPrecondition
from cored.rpc.channel import Channel, Conversation

__all__ = ["Peer"]

M = TypeVar("M", bound=Message)


class Peer:
    """One service of a peer.

    ``namespace`` '' passes the request's on, as containerd does; work of our own (garbage
    collection) is then done in ``default``. ``lease`` goes with every call.
    """

    def __init__(
        self, channel: Channel, service: str, namespace: str = "", lease: str = ""
    ) -> None:
        self._channel = channel
        self._service = service
        self._namespace = namespace
        self._lease = lease

    async def call(self, method: str, request: Message, answer: type[M]) -> M:
        """A unary call."""
        return await self._channel.call(self._path(method), request, answer, self._metadata())

    def stream(self, method: str, request: Message, answer: type[M]) -> AsyncIterator[M]:
        """A call with many answers."""
        return self._channel.stream(self._path(method), request, answer, self._metadata())

    def conversation(self, method: str, answer: type[M]) -> Conversation[M]:
        """A call with many requests and answers."""
        return self._channel.conversation(self._path(method), answer, self._metadata())

    def _path(self, method: str) -> str:
        return f"/{self._service}/{method}"

    def _metadata(self) -> dict[str, str]:
        metadata = {"containerd-namespace": self._namespace or _current()}
        if self._lease:
            metadata["containerd-lease"] = self._lease
        return metadata


def _current() -> str:
    try:
        return scope.namespace()
    except FailedPrecondition:
        return "default"
