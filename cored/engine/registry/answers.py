"""What registries answer, and what their statuses mean."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    SSLError,
)

from cored.archive.http import reason, shown
from cored.archive.routes import LONGEST_WAIT, retry_after
from cored.engine.registry.hosts import Host
from cored.errors import (
    CoredError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)

__all__ = [
    "LARGEST",
    "RETRIED",
    "Answer",
    "Broken",
    "TooLarge",
    "WrongOffset",
    "broken",
    "failure",
    "read",
]

LARGEST = 8 << 20
"""Bytes of the largest document that anybody needs."""

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_TOLD = 300


class Broken(Unavailable):
    """No answer came. ``begun``: there was a connection."""

    def __init__(self, message: str, *, hint: str | None, begun: bool) -> None:
        super().__init__(message, hint=hint)
        self.begun = begun


class TooLarge(FailedPrecondition):
    """413: the registry, or something before it, takes no request as large as that."""


class WrongOffset(FailedPrecondition):
    """416: the registry has got another number of bytes."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. ``url`` is what was asked, ``wait`` the seconds the host wants to be left
    alone for."""

    status: int
    headers: Mapping[str, str]
    data: bytes
    host: Host
    url: str
    wait: float | None = None


def read(host: Host, url: str, response: BaseHTTPResponse, limit: int) -> Answer:
    """Read an answer's body. InvalidArgument beyond ``limit`` bytes; urllib3's HTTPError."""
    most = limit if 200 <= response.status < 300 else 64 << 10
    data = bytearray()
    # until there is no more: only then is a body known to be whole
    while len(data) <= most and (piece := response.read(most + 1 - len(data))):
        data += piece
    if len(data) > most:
        response.close()
        if most == limit:
            raise InvalidArgument(
                f"registry {host.name}: a document is larger than the {limit} bytes announced"
            )
    response.release_conn()
    return Answer(response.status, response.headers, bytes(data), host, url, retry_after(response))


def broken(host: Host, error: HTTPError) -> CoredError:
    """What it means that no answer came."""
    what = reason(error)
    if isinstance(error, SSLError):
        place = f"/etc/cored/certs.d/{host.name}"
        if "CERTIFICATE_VERIFY_FAILED" in what or "certificate verify failed" in what:
            hint = f"its authority's certificate belongs into {place}/ca.crt"
        elif "WRONG_VERSION_NUMBER" in what or "record layer" in what:
            hint = f"if it has no TLS, name it with http:// in {place}/hosts.toml"
        else:
            hint = f"see {place}"
        return FailedPrecondition(f"registry {host.name}: TLS failed: {what}", hint=hint)
    if isinstance(error, NewConnectionError | ConnectTimeoutError):
        return Broken(
            f"registry {host.name}: cannot be reached: {what}",
            hint="check its name and the network",
            begun=False,
        )
    return Broken(f"registry {host.name}: connection broke: {what}", hint="try again", begun=True)


def failure(what: str, answer: Answer) -> CoredError:
    """The error that a status stands for; ``what`` was asked for."""
    name, text = answer.host.name, _told(answer)
    match answer.status:
        case 404:
            return NotFound(f"{what}: not found in registry {name}", hint="check its name and tag")
        case 401 | 403:
            return PermissionDenied(
                f"{what}: access denied by registry {name}{text}",
                hint="it may not exist, or needs a login",
            )
        case 429:
            wait = answer.wait or 0.0
            when = f"in {wait:.0f} seconds" if wait > LONGEST_WAIT else "later"
            return ResourceExhausted(
                f"registry {name}: too many requests{text}", hint=f"try again {when}"
            )
        case 405:
            return FailedPrecondition(f"{what}: registry {name} does not allow this{text}")
        case 400:
            return FailedPrecondition(f"{what}: refused by registry {name}{text}")
        case 413:
            return TooLarge(f"{what}: too large for registry {name}{text}")
        case 416:
            return WrongOffset(f"{what}: registry {name} has another part of it{text}")
        case status:
            return Unavailable(f"registry {name}: answered {status}{text}")


def _told(answer: Answer) -> str:
    """The registry's own words, if it has any."""
    try:
        entry = json.loads(answer.data)["errors"][0]
        text = str(entry.get("message") or entry["code"])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return ""
    return f": {shown(re.sub(r'[^ -~]+', ' ', text))[:_TOLD]}"
