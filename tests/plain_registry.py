"""A registry in the test's own process: it counts what it is asked for, and can stop half-way."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.images import Image

__all__ = ["PlainRegistry", "plain_registry"]


@dataclass
class PlainRegistry:
    """Serves one image under any name. ``requests`` are digests of blobs and first bytes.

    ``half_way``, when set, is called once with a digest, when half of that blob has been sent.
    """

    host: str
    image: Image
    requests: list[tuple[str, int]] = field(default_factory=list)
    half_way: Callable[[str], None] | None = None

    def reference(self, name: str) -> str:
        return f"{self.host}/{name}:1"


@contextmanager
def plain_registry(image: Image) -> Iterator[PlainRegistry]:
    """The registry on a loopback port while the body runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def do_GET(self) -> None:
            kind, _, what = self.path.rpartition("/")
            digest = image.target["digest"] if ":" not in what else what
            data = image.blobs.get(digest)
            if self.path.rstrip("/") == "/v2":
                self._answer(200, b"")
            elif data is None:
                self._answer(404, b"{}")
            elif kind.endswith("/manifests"):
                self._answer(200, data, image.target["mediaType"], digest)
            else:
                self._blob(digest, data)

        do_HEAD = do_GET

        def _blob(self, digest: str, data: bytes) -> None:
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(wanted[1]) if wanted else 0
            if self.command == "HEAD":
                self._answer(200, data)
                return
            running.requests.append((digest, start))
            if wanted and start >= len(data):
                self._answer(416, b"")
                return
            self.send_response(206 if wanted else 200)
            self.send_header("Content-Length", str(len(data) - start))
            if wanted:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            middle = max(start, len(data) // 2)
            try:
                self.wfile.write(data[start:middle])
                self.wfile.flush()
                tell, running.half_way = running.half_way, None
                if tell is not None:
                    tell(digest)
                self.wfile.write(data[middle:])
            except OSError:  # the client is gone
                self.close_connection = True

        def _answer(self, code: int, data: bytes, kind: str = "", digest: str = "") -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            if kind:
                self.send_header("Content-Type", kind)
                self.send_header("Docker-Content-Digest", digest)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            if not isinstance(sys.exception(), ConnectionError):  # a client was killed
                super().handle_error(request, client_address)  # type: ignore[arg-type]

    with Server(("127.0.0.1", 0), Handler) as server:
        running = PlainRegistry(f"127.0.0.1:{server.server_port}", image)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield running
        finally:
            server.shutdown()
            thread.join()
