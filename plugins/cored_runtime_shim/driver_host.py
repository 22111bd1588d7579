"""The process that writes one container's output to a plugin's log driver (containerd's logging
binaries): it has the plugin in it, outlives the daemon, and ends with the output.

``stdout URI stderr URI``: ``plugin:///cache?…`` as the daemon made them.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from coreshim.copies import Copies
from coreshim.logfile import LogFile
from coreshim.logformat import LocalLines
from coreshim.logged import Logged, size_of
from coreshim.loop import Loop
from coreshim.outlets import Outlet
from coreshim.relay import Relay

from cored.abc.logs import LogDriver, LogMessage, LogSource, LogWriter
from cored.errors import FailedPrecondition
from cored.hookspecs import PluginKind

__all__ = ["main"]

_STREAMS = (("stdout", 3), ("stderr", 4))
_READY = 5
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Context:
    """What a driver is opened with, here as in the daemon; nothing of the daemon's is in reach."""

    id: str
    root: Path
    state: Path
    settings: Mapping[str, Any]
    address: str
    kind: PluginKind = PluginKind.LOG_DRIVER

    def require(self, wanted: type[T]) -> T:
        raise FailedPrecondition(f"{wanted.__name__}: is not in the process of a log driver")

    def named(self, kind: PluginKind, id: str) -> object:
        raise FailedPrecondition(f"{kind} {id!r}: is not in the process of a log driver")


class _ToDriver(Outlet):
    """One stream's lines to the writer, which has both; ``lock`` is for that.

    With ``mode=non-blocking`` a thread waits for the writer, else everybody does.
    """

    def __init__(
        self, stream: str, options: Mapping[str, str], writer: LogWriter, lock: threading.Lock
    ) -> None:
        super().__init__(stream, options)
        self._writer = writer
        self._lock = lock
        self._counting = threading.Lock()
        self._waiting: queue.SimpleQueue[LogMessage | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        if not self._waits:
            self._thread.start()

    @property
    def full(self) -> bool:
        return False

    def offer(self, texts: list[bytes]) -> None:
        now = time.time_ns()
        for text in texts:
            whole = text.endswith(b"\n")
            message = LogMessage(self.stream, now, text[:-1] if whole else text, not whole)
            if self._waits:
                self._write(message)
            elif self._size + len(text) > self._limit and self._size:
                self._lose(1, "its buffer is full")
            else:
                with self._counting:
                    self._size += len(text)
                self._waiting.put(message)

    def close(self) -> None:
        if not self._waits:
            self._waiting.put(None)
            self._thread.join()

    def _work(self) -> None:
        while (message := self._waiting.get()) is not None:
            self._write(message)
            with self._counting:
                self._size -= len(message.data) + (not message.partial)

    def _write(self, message: LogMessage) -> None:
        try:
            with self._lock:
                self._writer.write(message)
        except Exception as error:  # a stranger's code can raise anything: it costs a message
            self._lose(1, f"{type(error).__name__}: {error}")


def main() -> int:
    """0 when both streams have ended, 2 for a driver that cannot be opened."""
    # who stops the shim wants the last words all the same
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    given = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=False))
    uris = {stream: uri for stream, uri in given.items() if uri.startswith("plugin://")}
    try:
        asyncio.run(_serve(uris))
    except Exception as error:  # a stranger's code can raise anything: the shim tells it
        traceback.print_exc()
        with suppress(OSError):  # it was ready, and has closed this
            os.write(_READY, str(error).encode()[:1000])
        return 2
    return 0


async def _serve(uris: Mapping[str, str]) -> None:
    options = _options(next(iter(uris.values())))
    async with _opened(options) as driver:
        source = LogSource(**json.loads(options["source"]))
        writer = driver.open(source, json.loads(options["options"]))
        try:
            # a loop of its own kind: nothing of asyncio's is waited for
            await asyncio.to_thread(_relay, uris, writer)
        finally:
            writer.close()


def _opened(options: Mapping[str, str]) -> AbstractAsyncContextManager[LogDriver]:
    module = importlib.import_module(options["module"])
    given = json.loads(options["context"])
    root, state = (Path(given.pop(name)) for name in ("root", "state"))
    context = _Context(root=root, state=state, **given)
    opened: AbstractAsyncContextManager[LogDriver] = module.cored_log_driver().open(context)
    return opened


def _relay(uris: Mapping[str, str], writer: LogWriter) -> None:
    """Return when both streams have ended."""
    loop, lock = Loop(), threading.Lock()
    relays = []
    for stream, fd in _STREAMS:
        if stream in uris:
            os.set_blocking(fd, False)
            relays.append(Relay(loop, fd, _sink(uris[stream], stream, writer, lock)))
    os.close(_READY)
    for relay in relays:
        loop.spawn(_stop_after(loop, relays, relay))
    loop.run()


async def _stop_after(loop: Loop, relays: Sequence[Relay], relay: Relay) -> None:
    await relay.done
    if all(other.done.done for other in relays):
        loop.stop()


def _sink(uri: str, stream: str, writer: LogWriter, lock: threading.Lock) -> Logged:
    options = _options(uri)
    path, file = unquote(urlsplit(uri).path), None
    if path:
        file = LogFile(
            path,
            size_of(uri, options["max-size"]),
            int(options["max-file"]),
            compress=options["compress"] == "true",
        )
    outlet = _ToDriver(stream, options, writer, lock)
    copies = Copies(options.get("copy", ""))
    return Logged(uri, stream, LocalLines(stream), file, copies, outlet)


def _options(uri: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(uri).query, keep_blank_values=True))


if __name__ == "__main__":
    sys.exit(main())
