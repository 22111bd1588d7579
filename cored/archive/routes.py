"""The ways to one blob: the next one where one fails, new credentials where they have run out."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from threading import Lock
from typing import TYPE_CHECKING

from cored.archive.jobs import Refusal, Route, Source
from cored.errors import FailedPrecondition, NotFound, PermissionDenied, Unavailable

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

    from cored.archive.http import Connections

__all__ = ["LONGEST_WAIT", "Ask", "Opened", "Routes", "retry_after"]

Ask = Callable[[Refusal], Route]
"""Answers a challenge with a route that has what it takes. PermissionDenied; Unavailable."""

LONGEST_WAIT = 30.0
"""Seconds that anybody waits because a server asks for it; who asks for more is not waited for."""

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class Opened:
    """An answer whose body begins ``skip`` bytes before what was asked for.

    ``ranges``: the server gives parts of blobs.
    """

    response: BaseHTTPResponse
    skip: int
    ranges: bool

    def pieces(self, count: int) -> Iterator[bytes]:
        """What was asked for, ``count`` bytes at most each time."""
        skip = self.skip
        while chunk := self.response.read(count):
            if skip:
                passed = min(skip, len(chunk))
                skip -= passed
                chunk = chunk[passed:]
            if chunk:
                yield chunk


class Routes:
    """Opens a blob at an offset. Several threads may, as long as nobody moves to the next route."""

    def __init__(self, source: Source, size: int, what: str, pools: Connections, ask: Ask) -> None:
        self._routes = list(source.routes)
        self._size = size
        self._what = what
        self._pools = pools
        self._ask = ask
        self.connections = source.connections
        """The most connections that pay."""
        self._number = 0
        self._renewing = Lock()
        self.wait = 0.0
        """Seconds that the server asked to wait before the next try; 0 when it did not say."""

    def advance(self) -> bool:
        """Go on with the next route; False when this is the last one."""
        if self._number + 1 >= len(self._routes):
            return False
        self._number += 1
        return True

    def open(self, start: int, end: int | None = None) -> Opened:
        """The blob's bytes from ``start`` on, up to but not including ``end`` if that is given.

        NotFound; PermissionDenied; Unavailable (worth a retry); FailedPrecondition; urllib3's
        HTTPError.
        """
        number = self._number
        route = self._routes[number]
        response = self._send(route, start, end)
        if response.status == 401:
            challenge = response.headers.get("WWW-Authenticate", "")
            response.drain_conn()
            response = self._send(self._renewed(number, route, challenge), start, end)
        self.wait = 0.0
        if response.status == 200 and end is None:
            self._measured(response, response.headers.get("Content-Length", ""))
            ranges = response.headers.get("Accept-Ranges", "").lower() == "bytes"
            return Opened(response, start, ranges)
        found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if response.status == 206 and found and int(found[1]) == start:
            self._measured(response, found[3])
            return Opened(response, 0, True)
        self.wait = retry_after(response) or 0.0
        response.close()
        raise self._error(response, route)

    def _measured(self, response: BaseHTTPResponse, told: str) -> None:
        """A server whose blob has another size has another blob."""
        if self._size and told.isdecimal() and int(told) != self._size:
            response.close()
            raise FailedPrecondition(
                f"{self._what}: the server's has {told} bytes, the descriptor says {self._size}"
            )

    def _renewed(self, number: int, refused: Route, challenge: str) -> Route:
        """The route with new headers; one question for all the threads that were refused."""
        with self._renewing:
            if self._routes[number] == refused:
                self._routes[number] = self._ask(Refusal(number, challenge))
            return self._routes[number]

    def _send(self, route: Route, start: int, end: int | None) -> BaseHTTPResponse:
        headers = {"Accept-Encoding": "identity", **dict(route.headers)}
        if start or end is not None:
            headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        return self._pools.send(
            "GET", route.url, headers, tls=route.tls, connect=route.connect, read=route.read
        )

    def _error(self, response: BaseHTTPResponse, route: Route) -> Exception:
        from cored.archive.http import shown

        status = response.status
        if status == 416:
            return FailedPrecondition(f"{self._what}: the server's is shorter than announced")
        place = shown(route.url).partition("/v2/")[0]
        text = f"{self._what}: {place} answers {status} {response.reason or ''}".rstrip()
        if status in (401, 403):
            return PermissionDenied(text, hint="log in, or check the credentials")
        if status in (404, 410):
            return NotFound(text)
        if self.wait > LONGEST_WAIT:
            return FailedPrecondition(text, hint=f"it wants no request for {self.wait:.0f} seconds")
        if status in (206, 408, 425, 429) or status >= 500:
            return Unavailable(text, hint="try again later")
        return FailedPrecondition(text)


def retry_after(response: BaseHTTPResponse) -> float | None:
    """Seconds that the server wants to be left alone for (RFC 9110, 10.2.3), if it says so."""
    text = response.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}", text):
        return float(text)
    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None
