"""Calls to one daemon, from as many threads as one likes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

from cored.client import interruption
from cored.client.call import Call
from cored.client.connection import Connection
from cored.errors import Internal

if TYPE_CHECKING:
    from cored.client.tls import TLS

__all__ = ["Channel", "Message", "Pending"]


class Message(Protocol):
    """What the generated protobuf classes have in common, as far as calls need it."""

    def SerializeToString(self) -> bytes: ...
    def ParseFromString(self, data: bytes, /) -> int: ...


Answer = TypeVar("Answer", bound=Message)


class Channel:
    """The daemon behind ``address``: a unix socket, or ``tcp://host:port`` with ``tls``.

    Each call has a connection to itself; connections are kept and used again, so that a channel
    can be shared by threads and outlives restarts of the daemon. ``namespace`` goes along with
    every call. ``timeout`` is in seconds, per call; None waits for ever.
    Errors are those of :mod:`cored.errors`; :class:`~cored.client.connection.Disconnected` when
    no daemon answers or the connection breaks.
    """

    def __init__(
        self, address: str, *, namespace: str | None = None, tls: TLS | None = None
    ) -> None:
        self.address = address.removeprefix("unix://")
        self.tls = tls
        self.namespace = namespace
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that no call uses; the others when their call ends."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def unary(
        self, path: str, request: Message, answer: type[Answer], *, timeout: float | None = None
    ) -> Answer:
        """Send one message to ``path`` (/package.Service/Method), answer what comes back."""
        return self.begin(path, request, answer, timeout=timeout).result()

    def begin(
        self, path: str, request: Message, answer: type[Answer], *, timeout: float | None = None
    ) -> Pending[Answer]:
        """Send the request of a unary call now and collect the answer later."""
        connection, call = self._call(path, timeout)
        try:
            call.send(request.SerializeToString())
            call.finish()
        except BaseException:
            self.settle(connection, call)
            raise
        return Pending(self, connection, call, answer)

    def stream(
        self,
        path: str,
        requests: Iterable[Message | None],
        answer: type[Answer],
        *,
        timeout: float | None = None,
    ) -> Iterator[Answer]:
        """Send messages, yield those that come back.

        Requests are taken from the iterable as the daemon takes them; answers that arrive between
        them are yielded at once, and None among the requests waits for one. Closing the generator
        cancels the call.
        """
        connection, call = self._call(path, timeout)
        try:
            for request in requests:
                if request is None:
                    message = call.receive()
                    if message is not None:
                        yield _parse(answer, message)
                else:
                    call.send(request.SerializeToString())
                for data in call.arrived():
                    yield _parse(answer, data)
                if call.ended:
                    break
            call.finish()
            while (message := call.receive()) is not None:
                yield _parse(answer, message)
        finally:
            self.settle(connection, call)

    def opened(self, path: str) -> tuple[Connection, Call]:
        """A call for who minds it alone; :meth:`settle` is its end."""
        return self._call(path, None)

    def _call(self, path: str, timeout: float | None) -> tuple[Connection, Call]:
        metadata = [] if self.namespace is None else [("containerd-namespace", self.namespace)]
        deadline = None
        if timeout is not None:
            deadline = time.monotonic() + timeout
            metadata.append(("grpc-timeout", _milliseconds(timeout)))
        connection = self._take()
        interruption.note(connection)
        return connection, Call(connection, path, metadata, deadline)

    def _take(self) -> Connection:
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return Connection(self.address, self.tls)
            if connection.idle():
                return connection
            connection.close()

    def settle(self, connection: Connection, call: Call) -> None:
        """Keep the connection of a call that ended; close that of one that was given up."""
        interruption.forget(connection)
        with self._lock:
            if call.clean and not connection.retired and not self._closed:
                self._idle.append(connection)
                return
        connection.close()


class Pending(Generic[Answer]):
    """A unary call that is under way: made by Channel.begin, to be settled by one thread."""

    def __init__(
        self, channel: Channel, connection: Connection, call: Call, answer: type[Answer]
    ) -> None:
        self._channel = channel
        self._connection = connection
        self._call = call
        self._answer = answer

    def result(self) -> Answer:
        """Wait for the answer. Raises what the call's status stands for."""
        interruption.note(self._connection)
        try:
            data = self._call.receive()
            while self._call.receive() is not None:
                continue
        finally:
            self.cancel()
        if data is None:
            raise Internal(f"daemon at {self._channel.address}: an answer without a message")
        return _parse(self._answer, data)

    def interrupt(self) -> None:
        """Make the thread that waits in :meth:`result` raise Disconnected; for other threads."""
        self._connection.interrupt()

    def cancel(self) -> None:
        """Let go of the connection; the daemon sees a call that has not ended as cancelled."""
        self._channel.settle(self._connection, self._call)


def _parse(answer: type[Answer], data: bytes) -> Answer:
    message = answer()
    message.ParseFromString(data)
    return message


def _milliseconds(timeout: float) -> str:
    """The header grpc-timeout: at most eight digits and a unit."""
    return f"{min(max(1, round(timeout * 1000)), 99_999_999)}m"
