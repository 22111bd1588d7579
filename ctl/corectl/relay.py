"""Copies between the standard streams and a container's named pipes, one thread each."""

from __future__ import annotations

import errno
import os
import select
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from corectl.fifos import Fifos
from corectl.keys import DetachKeys

__all__ = ["Relays"]

_BLOCK = 256 << 10
_PIPE_SIZE = 1 << 20
_F_SETPIPE_SZ = 1031
_RETRY = 0.005
_POLL = 0.05
_GRACE = 0.5


class _Stop:
    """A pipe that becomes readable, for every poll at once, when copying shall end."""

    def __init__(self) -> None:
        self.fd, self._write = os.pipe2(os.O_CLOEXEC)

    def set(self) -> None:
        if self._write >= 0:
            os.close(self._write)
            self._write = -1

    def close(self) -> None:
        os.close(self.fd)

    def wait(self, fd: int, event: int, timeout: float | None = None) -> tuple[int, bool]:
        """(events of ``fd``, whether to stop)."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        if fd >= 0:
            poll.register(fd, event)
        found = dict(poll.poll(None if timeout is None else timeout * 1000))
        return found.get(fd, 0), self.fd in found


class Relays:
    """The pipes of one container, joined to file descriptors of ours.

    The output ends are open for reading before the container is made: nothing it writes is lost,
    and nothing blocks if it never comes. ``broken`` is called, once, when nobody reads our
    standard output any more; what comes after is read and dropped. ``detached`` is when ``keys``
    were typed. With ``errors_later`` standard error waits for :meth:`begin_errors`; what is there
    when that never comes is dropped.
    """

    def __init__(
        self,
        fifos: Fifos,
        *,
        stdin: int = 0,
        stdout: int = 1,
        stderr: int = 2,
        broken: Callable[[], None],
        keys: DetachKeys | None = None,
        detached: Callable[[], None] | None = None,
        errors_later: bool = False,
    ) -> None:
        self._stop = _Stop()
        self._errors_later = errors_later and bool(fifos.stderr)
        self._broken = broken
        self._outputs: list[_Output] = []
        self._input: threading.Thread | None = None
        for path, target in ((fifos.stdout, stdout), (fifos.stderr, stderr)):
            if path:
                source = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                _enlarge(source)
                self._outputs.append(_Output(source, target, self._stop, self._lost))
        if fifos.stdin:
            self._input = threading.Thread(
                target=_copy_in,
                args=(stdin, fifos.stdin, self._stop, keys, detached),
                daemon=True,
            )

    def __enter__(self) -> Self:
        for output in self._outputs[:-1] if self._errors_later else self._outputs:
            output.thread.start()
        return self

    def begin_errors(self) -> None:
        """Pass standard error on, where it was to wait."""
        if self._errors_later:
            self._outputs[-1].thread.start()

    def begin_input(self) -> None:
        """Pass input on, once."""
        if self._input is not None:
            self._input.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        for output in self._outputs:
            if output.thread.ident is None:
                output.close()
        threads = [output.thread for output in self._outputs]
        if self._input is not None:
            threads.append(self._input)
        threads = [thread for thread in threads if thread.ident is not None]
        for thread in threads:
            thread.join(_GRACE)
        if not any(thread.is_alive() for thread in threads):
            self._stop.close()

    @property
    def open(self) -> bool:
        """Whether the shim still holds an output pipe (or has not opened it yet)."""
        return any(output.thread.is_alive() for output in self._outputs)

    def drain(self, patience: float) -> bool:
        """Wait until all output has been passed on, as long as any comes.

        False when the other end stays open and silent for ``patience`` seconds.
        """
        begun = time.monotonic()
        for output in self._outputs:
            while output.thread.is_alive():
                output.thread.join(_POLL)
                if min(output.silence(), time.monotonic() - begun) > patience:
                    return False
        return True

    def _lost(self) -> None:
        broken, self._broken = self._broken, lambda: None
        broken()


class _Output:
    """From a pipe to a descriptor, until the last writer is gone."""

    def __init__(self, source: int, target: int, stop: _Stop, lost: Callable[[], None]) -> None:
        self.thread = threading.Thread(target=self._run, daemon=True)
        self._source, self._target = source, target
        self._stop, self._lost = stop, lost
        self._writing = False
        self._moved = time.monotonic()
        self._dropping = False

    def silence(self) -> float:
        """Seconds since the last data; 0 while our reader keeps us waiting."""
        return 0.0 if self._writing else time.monotonic() - self._moved

    def close(self) -> None:
        """Let go of a pipe that was never read."""
        os.close(self._source)

    def _run(self) -> None:
        try:
            while True:
                # a pipe that nobody has opened for writing yet shows no event, not even HUP
                ready, stop = self._stop.wait(self._source, select.POLLIN)
                if ready:
                    data = _read(self._source)
                    if data == b"":
                        return
                    if data is not None:
                        self._pass(data)
                elif stop:
                    return
        finally:
            self.close()

    def _pass(self, data: bytes) -> None:
        self._writing = True
        try:
            if not self._dropping:
                _write(self._target, data)
        except OSError:
            # EPIPE, a full disk, a terminal that is gone: the container must not hang for it
            self._dropping = True
            self._lost()
        finally:
            self._moved = time.monotonic()
            self._writing = False


def _copy_in(
    source: int,
    path: str,
    stop: _Stop,
    keys: DetachKeys | None = None,
    detached: Callable[[], None] | None = None,
) -> None:
    """From a descriptor into a pipe; closing it tells the container that the input ended."""
    target = _open_writer(path, stop)
    if target is None:
        return
    try:
        _enlarge(target)
        while True:
            ready, ended = stop.wait(source, select.POLLIN)
            if ended:
                return
            data = _read(source) if ready else None
            if data == b"":
                return
            left = False
            if keys is not None and data:
                data, left = keys.feed(data)
            rest = memoryview(data or b"")
            while rest:
                ready, ended = stop.wait(target, select.POLLOUT)
                if ended or ready & select.POLLERR:
                    return
                try:
                    rest = rest[os.write(target, rest) :]
                except BlockingIOError:
                    continue
                except BrokenPipeError:
                    return
            if left and detached is not None:
                detached()
                return
    finally:
        os.close(target)


def _open_writer(path: str, stop: _Stop) -> int | None:
    """Open a pipe for writing as soon as the shim reads it: a blocking open could hang for ever."""
    while True:
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        if stop.wait(-1, 0, _RETRY)[1]:
            return None


def _read(fd: int) -> bytes | None:
    """Data, nothing at the end of it, None when there is none just now."""
    try:
        return os.read(fd, _BLOCK)
    except BlockingIOError:
        return None
    except OSError as error:
        # a terminal that hung up, or a standard input that was never open
        if error.errno in (errno.EIO, errno.EBADF):
            return b""
        raise


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()


def _enlarge(fd: int) -> None:
    """A larger pipe means fewer switches; the limit for users may forbid it."""
    # fcntl is a module of the standard library that only attached runs need
    import fcntl

    try:
        fcntl.fcntl(fd, _F_SETPIPE_SZ, _PIPE_SIZE)
    except PermissionError:
        return
