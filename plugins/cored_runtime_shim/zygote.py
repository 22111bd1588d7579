"""The zygote's other end: shims for the asking, milliseconds each."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import cored
from cored import log
from cored.errors import Internal, Unavailable

__all__ = ["Zygote"]

_TIMEOUT = 20.0
_LAST_ANSWERS = 2.0
# -I ignores PYTHONPATH and the working directory, -S the site packages: a shim needs none of them
_BOOT = "import sys; sys.path[:0] = {paths!r}; from coreshim.__main__ import main; sys.exit(main())"


class Zygote:
    """Starts the zygote when it is first needed, and again when it has died.

    Its shims go to sleep when they have nothing to do for ``idle`` seconds.
    """

    def __init__(self, idle: float) -> None:
        self._idle = idle
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._reader: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[dict[str, Any] | None]] = {}
        self._count = 0
        self._lock = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def opened(cls, idle: float) -> AsyncIterator[Zygote]:
        """The zygote ends with the body; its shims do not."""
        zygote = cls(idle)
        try:
            yield zygote
        finally:
            await zygote._close()

    async def fork(self, namespace: str, id: str, bundle: Path, address: str) -> str:
        """A new shim for a bundle; answers its socket's address once it listens."""
        request = {
            "namespace": namespace, "id": id, "bundle": str(bundle), "address": address,
            "idle": self._idle,
        }  # fmt: skip
        try:
            async with asyncio.timeout(_TIMEOUT):
                found = await self._asked(request)
                while found is None:  # it died with our request in its hands
                    found = await self._asked(request)
        except TimeoutError as error:
            raise Unavailable(
                f"shim of {id!r}: did not start within {_TIMEOUT:.0f} s",
                hint=f"see {bundle}/shim.log",
            ) from error
        if "error" in found:
            raise Internal(f"shim of {id!r}: {found['error']}", hint=f"see {bundle}/shim.log")
        return str(found["address"])

    async def _asked(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """The answer to one request; None when the zygote died before it came."""
        await self.ensure()
        assert self._channel is not None
        self._count += 1
        number = self._count
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[dict[str, Any] | None] = loop.create_future()
        self._waiting[number] = answer
        try:
            await loop.sock_sendall(self._channel, json.dumps({"n": number, **request}).encode())
            return await answer
        except ConnectionError:
            return None
        finally:
            self._waiting.pop(number, None)

    async def ensure(self) -> None:
        """Return when it runs; shims are forked at once then."""
        async with self._lock:
            alive = self._process is not None and self._process.poll() is None
            if alive and self._reader is not None and not self._reader.done():
                return
            if self._process is not None:
                log.get("runtime").warning("the zygote died, starting another")
                await self._last_answers()
            await self._close()
            await self._start()

    async def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            boot = _BOOT.format(paths=_search_path())
            # not asyncio's: with uvloop children inherit what they should not
            self._process = await asyncio.to_thread(
                subprocess.Popen,
                [sys.executable, "-I", "-S", "-c", boot, "zygote", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._channel = ours
        self._reader = asyncio.create_task(self._read(ours), name="zygote")

    async def _read(self, channel: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            while data := await loop.sock_recv(channel, 1 << 16):
                found = json.loads(data)
                future = self._waiting.get(found["n"])
                if future is not None and not future.done():
                    future.set_result(found)
        except ConnectionError as error:
            log.get("runtime").debug("zygote's channel ended", error=str(error))
        finally:
            for future in self._waiting.values():
                if not future.done():
                    future.set_result(None)

    async def _last_answers(self) -> None:
        """Of a zygote that died: shims that it has just made speak up, and nobody hears anew."""
        if self._channel is not None and self._reader is not None:
            with suppress(OSError):
                self._channel.shutdown(socket.SHUT_WR)
            await asyncio.wait([self._reader], timeout=_LAST_ANSWERS)

    async def _close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
            self._reader = None
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None:
            await asyncio.to_thread(_ended, self._process)
            self._process = None


def _ended(process: subprocess.Popen[bytes]) -> None:
    """Wait for the zygote's end, which follows its channel's; one that is stuck is killed."""
    try:
        process.wait(_TIMEOUT / 4)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _search_path() -> list[str]:
    """Where ``cored`` and ``coreshim`` are importable from, and nothing else."""
    import coreshim

    places = [str(Path(str(module.__file__)).parent.parent) for module in (cored, coreshim)]
    return list(dict.fromkeys(os.path.abspath(place) for place in places))  # noqa: PTH100
