"""A proxy before a registry that misbehaves as it is told to, and remembers what came."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread

__all__ = ["Fault", "Proxy", "Seen", "proxy"]

_HOP = {"connection", "transfer-encoding", "keep-alive"}


@dataclass(frozen=True)
class Seen:
    """A request as it came, header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one answer; offsets are bytes of its body.

    ``status`` is answered in place of the registry. ``cut`` closes the connection there, ``stall``
    sends no more and keeps it open, ``damage`` changes that byte, ``lie`` is the length that is
    claimed. ``swallow`` hands so much of the request's body on, and closes on both sides; with
    ``keep`` the registry keeps what came, as docker's does not. ``rate`` is bytes a second.
    ``changes`` are headers of the answer, None removes one.
    """

    status: int = 0
    body: bytes = b""
    cut: int | None = None
    stall: int | None = None
    damage: int | None = None
    lie: int | None = None
    swallow: int | None = None
    keep: bool = False
    rate: int = 0
    changes: dict[str, str | None] = field(default_factory=dict)


@dataclass
class Proxy:
    """``host`` is what to pull from; ``seen`` is what came."""

    upstream: str
    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    most: int = 0
    """The most requests that were served at a time."""
    _rules: list[tuple[str, re.Pattern[str], Fault, list[int]]] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)
    _busy: int = 0
    kept: dict[str, dict[str, str]] = field(default_factory=dict)
    _ended: Event = field(default_factory=Event)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def on(self, method: str, path: str, fault: Fault, times: int = 1) -> None:
        """The next ``times`` requests to a path like the pattern go wrong (-1: all of them)."""
        self._rules.append((method, re.compile(path), fault, [times]))

    def requests(self, method: str, path: str) -> list[Seen]:
        """Those that came, by method and pattern."""
        return [s for s in self.seen if s.method == method and re.search(path, s.path)]

    def fault(self, seen: Seen) -> Fault:
        with self._lock:
            self.seen.append(seen)
            for method, path, fault, left in self._rules:
                if method == seen.method and path.search(seen.path) and left[0]:
                    left[0] -= 1
                    return fault
        return Fault()

    @contextmanager
    def counted(self) -> Iterator[None]:
        with self._lock:
            self._busy += 1
            self.most = max(self.most, self._busy)
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1

    def wait(self, seconds: float | None = None) -> None:
        """Until the end of the test."""
        self._ended.wait(seconds)

    def end(self) -> None:
        self._ended.set()


@contextmanager
def proxy(upstream: str) -> Iterator[Proxy]:
    """A proxy before ``upstream`` (host:port) that ends with the body."""
    state = Proxy(upstream)

    class Handler(_Handler):
        proxy = state

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Clients that leave are none."""

    with Server(("127.0.0.1", 0), Handler) as server:
        state.port = server.server_address[1]
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield state
        finally:
            state.end()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(self.command, self.path, headers)
        fault = self.proxy.fault(seen)
        length = int(headers.get("content-length", "0"))
        taken = length if fault.swallow is None else min(fault.swallow, length)
        body = self.rfile.read(taken)
        with self.proxy.counted():
            if seen.method == "GET" and seen.path in self.proxy.kept:
                self._send(204, dict(self.proxy.kept[seen.path]), b"", fault)
                return
            if fault.status:
                self._send(fault.status, dict(_given(fault)), fault.body, fault)
                return
            if taken < length:
                self._half(seen, body, fault.keep)
                return
            self._forward(seen, body, fault)

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def log_message(self, *_: object) -> None:
        pass

    def _half(self, seen: Seen, body: bytes, keep: bool) -> None:
        """Hand a part of a body on, then vanish on both sides."""
        connection = http.client.HTTPConnection(self.proxy.upstream, timeout=60)
        self.close_connection = True
        if keep:
            headers = {k: v for k, v in seen.headers.items() if k not in _HOP}
            start = int(headers["content-range"].partition("-")[0])
            headers["content-range"] = f"{start}-{start + len(body) - 1}"
            headers["content-length"] = str(len(body))
            connection.request(seen.method, seen.path, body, headers)
            answer = connection.getresponse()
            self.proxy.kept[seen.path] = {k: answer.headers[k] for k in ("Location", "Range")}
            connection.close()
            return
        connection.putrequest(seen.method, seen.path, skip_host=True, skip_accept_encoding=True)
        for name, value in seen.headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        connection.send(body)
        time.sleep(0.2)  # the registry stores what it has read
        connection.close()

    def _forward(self, seen: Seen, body: bytes, fault: Fault) -> None:
        connection = http.client.HTTPConnection(self.proxy.upstream, timeout=60)
        try:
            headers = {k: v for k, v in seen.headers.items() if k not in _HOP}
            connection.request(seen.method, seen.path, body or None, headers)
            answer = connection.getresponse()
            given = {k: v for k, v in answer.getheaders() if k.lower() not in _HOP}
            given.update(_given(fault))
            given = {k: v for k, v in given.items() if v is not None}
            self._send(answer.status, given, answer.read(), fault)
        finally:
            connection.close()

    def _send(self, status: int, headers: dict[str, str | None], body: bytes, fault: Fault) -> None:
        if fault.damage is not None:
            body = body[: fault.damage] + bytes([body[fault.damage] ^ 1]) + body[fault.damage + 1 :]
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() != "content-length" and value is not None:
                self.send_header(name, value)
        length = headers.get("Content-Length") if self.command == "HEAD" else len(body)
        if status != 204:
            self.send_header("Content-Length", str(length if fault.lie is None else fault.lie))
        self.end_headers()
        if self.command == "HEAD":
            return
        end = min(len(body), *(n for n in (fault.cut, fault.stall) if n is not None), len(body))
        with suppress(OSError):
            self._write(body[:end], fault.rate)
            self.wfile.flush()
        if fault.stall is not None:
            self.proxy.wait()
        if fault.cut is not None or fault.stall is not None or fault.lie is not None:
            self.close_connection = True

    def _write(self, body: bytes, rate: int) -> None:
        if not rate:
            self.wfile.write(body)
            return
        step = max(rate // 20, 1)
        for at in range(0, len(body), step):
            self.wfile.write(body[at : at + step])
            self.proxy.wait(0.05)


def _given(fault: Fault) -> dict[str, str | None]:
    return dict(fault.changes)
