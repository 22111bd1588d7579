"""A process's streams over gRPC, joined to descriptors of ours: cored.workloads.v1.Streams."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections import deque
from collections.abc import Callable

from cored._pb.cored.workloads.v1 import streams_pb2 as pb
from cored.client.call import Call
from cored.client.channel import Channel
from cored.client.connection import Connection
from cored.errors import CoredError, Internal

__all__ = ["Duplex"]

_OPEN = "/cored.workloads.v1.Streams/Open"
_BLOCK = 64 << 10
_LEAST = 64
# the field's tag and length around the bytes of a message
_AROUND = 16


class Duplex:
    """One call, pumped by a thread between the daemon and pipes.

    ``opened`` has the paths of the FIFOs on the daemon's host. The daemon sends no more than the
    pipes take, and we read no more than the daemon takes.
    """

    def __init__(self, channel: Channel, wanted: pb.OpenStreams) -> None:
        """Open them. CoredError as the daemon has it; Disconnected."""
        self._channel = channel
        self._connection, self._call = channel.opened(_OPEN)
        self._stop, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._thread: threading.Thread | None = None
        self._closed = False
        self.error: CoredError | None = None
        try:
            self._call.hold = True
            self._call.send(pb.StreamInput(open=wanted).SerializeToString())
            answer = self._call.receive()
            if answer is None:
                raise Internal("streams: the daemon said nothing")
            self.opened = pb.StreamOutput.FromString(answer).opened
        except BaseException:
            self.close()
            raise

    def pump(
        self,
        stdin: int,
        stdout: int,
        stderr: int,
        ended: Callable[[CoredError | None], None] = lambda error: None,
    ) -> None:
        """Begin to copy; -1 is a stream that is not there. The descriptors are ours from now on.

        They do not block. ``ended`` is called by the thread at the end, with what was wrong: after
        that the outputs are closed.
        """
        for fd in (stdin, stdout, stderr):
            if fd >= 0:
                os.set_blocking(fd, False)
        pump = _Pump(self._connection, self._call, self._stop, stdin, stdout, stderr)

        def run() -> None:
            try:
                pump.run()
            except CoredError as error:
                self.error = None if self._closed else error
            finally:
                ended(self.error)
                pump.close()

        self._thread = threading.Thread(target=run, daemon=True, name="streams")
        # signals are for those who began them
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def close(self) -> None:
        """Leave the process to itself, or free what has ended."""
        if self._closed:
            return
        self._closed = True
        os.close(self._wake)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        os.close(self._stop)
        self._channel.settle(self._connection, self._call)


class _Pump:
    """The loop of the thread."""

    def __init__(
        self, connection: Connection, call: Call, stop: int, stdin: int, stdout: int, stderr: int
    ) -> None:
        self._connection, self._call = connection, call
        self._stop = stop
        self._stdin = stdin
        self._outputs = {"stdout": stdout, "stderr": stderr}
        self._waiting: dict[str, deque[bytes]] = {"stdout": deque(), "stderr": deque()}

    def run(self) -> None:
        """Until the call has ended and all is written, or :meth:`Duplex.close`. CoredError."""
        if self._stdin < 0:
            self._call.finish()
        while not self._over():
            ready = self._poll()
            if self._stop in ready:
                return
            if self._stdin in ready:
                self._read()
            self._receive()
            self._write()
        self._call.check()

    def close(self) -> None:
        for fd in (self._stdin, *self._outputs.values()):
            if fd >= 0:
                os.close(fd)
        self._stdin = -1
        self._outputs = dict.fromkeys(self._outputs, -1)

    def _over(self) -> bool:
        return self._call.ended and not any(self._waiting.values())

    def _poll(self) -> set[int]:
        poll = select.poll()
        poll.register(self._stop, select.POLLIN)
        connection = self._connection
        if not self._call.ended:
            busy = select.POLLOUT if connection.backlog else 0
            poll.register(connection.fileno(), select.POLLIN | busy)
            if self._stdin >= 0 and not connection.backlog and self._room() >= _LEAST:
                poll.register(self._stdin, select.POLLIN)
        for name, waiting in self._waiting.items():
            if waiting:
                poll.register(self._outputs[name], select.POLLOUT)
        found = poll.poll(0 if connection.pending and not self._call.ended else None)
        return {fd for fd, _ in found}

    def _room(self) -> int:
        return min(_BLOCK, self._call.room() - _AROUND)

    def _read(self) -> None:
        """From our pipe to the daemon."""
        try:
            data = os.read(self._stdin, self._room())
        except BlockingIOError:
            return
        except OSError:
            data = b""  # a terminal that is gone
        if data:
            self._call.send(pb.StreamInput(stdin=data).SerializeToString())
            return
        os.close(self._stdin)
        self._stdin = -1
        self._call.finish()

    def _receive(self) -> None:
        for data in self._call.arrived():
            message = pb.StreamOutput.FromString(data)
            name = message.WhichOneof("what")
            if name in self._waiting and self._outputs[name] >= 0:
                self._waiting[name].append(getattr(message, name))

    def _write(self) -> None:
        """From the daemon to our pipes, as far as they take it."""
        for name, waiting in self._waiting.items():
            while waiting:
                try:
                    sent = os.write(self._outputs[name], waiting[0])
                except BlockingIOError:
                    break
                except OSError:
                    # nobody reads it any more
                    os.close(self._outputs[name])
                    self._outputs[name] = -1
                    waiting.clear()
                    break
                rest = waiting.popleft()[sent:]
                if rest:
                    waiting.appendleft(rest)
        if not any(self._waiting.values()):
            self._call.acknowledge()
