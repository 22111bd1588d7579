"""Logging binaries: ``binary:///path?argument=value`` gets a process's output on descriptors 3 and
4 (containerd's shim v2, logging)."""

from __future__ import annotations

import fcntl
import os
from urllib.parse import parse_qsl, unquote, urlsplit

from coreshim.loop import READ, Future, Loop
from coreshim.server import INVALID, Failure

__all__ = ["Logger", "is_binary"]

_PATIENCE = 10.0
_OUT, _ERR, _READY = 3, 4, 5


def is_binary(path: str) -> bool:
    """Whether output goes to a program."""
    return path.startswith("binary://")


class Logger:
    """One running logger; ``out`` and ``err`` are for the process that it listens to.

    It ends by itself, when nobody has them open any more.
    """

    def __init__(self, loop: Loop, uri: str, id: str, namespace: str) -> None:
        self._loop = loop
        self._path = unquote(urlsplit(uri).path)
        arguments = [self._path]
        for key, value in parse_qsl(urlsplit(uri).query, keep_blank_values=True):
            arguments += [key, value] if value else [key]
        out, self.out = os.pipe2(os.O_CLOEXEC)
        err, self.err = os.pipe2(os.O_CLOEXEC)
        self._ready, ready = os.pipe2(os.O_CLOEXEC)
        # out of the way of the numbers that they are to have
        theirs = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (out, err, ready)]
        try:
            os.posix_spawn(
                self._path,
                arguments,
                {**os.environ, "CONTAINER_ID": id, "CONTAINER_NAMESPACE": namespace},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, mine, number)
                    for mine, number in zip(theirs, (_OUT, _ERR, _READY), strict=True)
                ],
                setsigmask=[],
                setsigdef=range(1, 32),
            )
        except OSError as error:
            self.close()
            os.close(self.out)
            os.close(self.err)
            raise Failure(
                INVALID, f"stdio {uri}: the logger cannot be run: {error.strerror}"
            ) from error
        finally:
            for fd in (out, err, ready, *theirs):
                os.close(fd)

    async def ready(self) -> None:
        """Return when it says that it listens, by closing descriptor 5.

        Failure after a while, or when it says something else: ours do, to say what is wrong.
        """
        heard = Future(self._loop)
        self._loop.watch(self._ready, READ, lambda events: heard.set(True))
        self._loop.later(_PATIENCE, heard.set)
        told = await heard
        text = os.read(self._ready, 4096).decode(errors="replace") if told else ""
        self.close()
        if text:
            raise Failure(INVALID, f"log driver: {text}")
        if not told:
            raise Failure(INVALID, f"logger {self._path}: is not ready after {_PATIENCE:.0f} s")

    def close(self) -> None:
        """Stop waiting for it."""
        if self._ready >= 0:
            self._loop.unwatch(self._ready)
            os.close(self._ready)
            self._ready = -1
