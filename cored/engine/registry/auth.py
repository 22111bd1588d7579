"""Answers to 401: basic, and bearer tokens (distribution-spec; docker's token authentication)."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from threading import Lock
from typing import Any
from urllib.parse import urlencode

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from cored.archive.http import Connections, reason, shown
from cored.archive.jobs import Tls
from cored.engine.registry.access import Access, Credentials
from cored.engine.registry.hosts import Host
from cored.errors import PermissionDenied, Unavailable

__all__ = ["Tokens", "challenges"]

_SCHEME = re.compile(r"\s*(?:,\s*)*([A-Za-z][A-Za-z0-9_-]*)(?=\s|,|$)")
_VALUE = re.compile(r'\s*(?:,\s*)*([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')
# tokens of registries that do not say how long they live, seconds (the protocol's default)
_LIFE = 60
Scopes = frozenset[str]


@dataclass(slots=True)
class _Known:
    header: str
    until: float


def challenges(header: str) -> dict[str, dict[str, str]]:
    """The values of each scheme of a ``WWW-Authenticate`` (RFC 9110, 11.6.1), schemes in lower
    case."""
    found: dict[str, dict[str, str]] = {}
    at = 0
    while match := _SCHEME.match(header, at):
        at = match.end()
        values = found.setdefault(match[1].lower(), {})
        while pair := _VALUE.match(header, at):
            at = pair.end()
            values[pair[1].lower()] = re.sub(r"\\(.)", r"\1", pair[2] or "") or pair[3] or ""
    return found


class Tokens:
    """Authorization headers of one transfer, by host and scopes, as long as they are good."""

    def __init__(
        self, connections: Connections, access: Access, read: float, *, offline: bool = False
    ) -> None:
        self._connections = connections
        self._access = access
        self._read = read
        self._offline = offline
        self.identity = ""
        """The identity token that the last token server gave, if any."""
        self._known: dict[tuple[str, Scopes], _Known] = {}
        self._users: dict[str, Credentials | None] = {}
        self._turn = Lock()

    def header(self, host: Host, scopes: Scopes) -> str | None:
        """A header that should do, if one is at hand."""
        found = self._known.get((host.name, scopes))
        return found.header if found and found.until > time.monotonic() else None

    def answer(self, host: Host, scopes: Scopes, challenge: str, refused: str | None) -> str:
        """The header that answers a ``WWW-Authenticate``; ``refused`` is the one that did not do.

        One at a time: those who come for the same get what the first one got. PermissionDenied;
        Unavailable.
        """
        with self._turn:
            at_hand = self.header(host, scopes)
            if at_hand is not None and at_hand != refused:
                return at_hand
            known = self._made(host, scopes, challenges(challenge), refused)
            self._known[host.name, scopes] = known
            return known.header

    def _made(
        self, host: Host, scopes: Scopes, asked: dict[str, dict[str, str]], refused: str | None
    ) -> _Known:
        user = self._user(host)
        ready = ""
        if user is not None and user.header:
            ready = user.header
        elif "bearer" in asked:
            values = asked["bearer"]
            document = self._token(host, values, _merged(scopes, values.get("scope", "")), user)
            self.identity = str(document.get("refresh_token") or "")
            life = max(int(document.get("expires_in") or _LIFE) - 5, 5)
            token = document.get("token") or document["access_token"]
            return _Known(f"Bearer {token}", time.monotonic() + life)
        elif "basic" in asked and user is not None and user.username:
            ready = user.basic
        elif asked and "basic" not in asked:
            raise PermissionDenied(
                f"registry {host.name}: asks for unknown authentication {next(iter(asked))!r}"
            )
        if not ready or ready == refused:
            raise denied(host, user)
        return _Known(ready, float("inf"))

    def _user(self, host: Host) -> Credentials | None:
        """Who we are there, asked for once."""
        name = "docker.io" if host.name == "registry-1.docker.io" else host.name
        if name not in self._users:
            self._users[name] = self._access.ask(name)
        return self._users[name]

    def _token(
        self, host: Host, values: dict[str, str], scopes: list[str], user: Credentials | None
    ) -> dict[str, Any]:
        """What the token server answers."""
        realm = values.get("realm", "")
        # a registry without TLS has nothing to lose by such a token server
        if not realm.startswith("https://") and not (
            host.scheme == "http" and realm.startswith("http://")
        ):
            raise PermissionDenied(
                f"registry {host.name}: its token server {shown(realm)!r} is not on https"
            )
        query = [("service", values.get("service", ""))] if values.get("service") else []
        # several scopes (a mount from another repository) are separate parameters
        query += [("scope", each) for each in scopes]
        if self._offline:
            query += [("offline_token", "true"), ("client_id", "cored")]
        try:
            answer = self._asked(realm, query, user, host.tls, host.dial)
            data = b"".join(answer.stream(64 << 10))
            answer.release_conn()
        except HTTPError as error:
            raise Unavailable(
                f"token server {shown(realm)}: cannot be reached: {reason(error)}"
            ) from error
        if answer.status in (400, 401, 403):
            raise denied(host, user)
        if answer.status != 200:
            raise Unavailable(f"token server {shown(realm)}: answered {answer.status}")
        try:
            document: dict[str, Any] = json.loads(data)
            document.get("token") or document["access_token"]
            int(document.get("expires_in") or 0)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Unavailable(f"token server {shown(realm)}: answered no token") from error
        return document

    def _asked(
        self,
        realm: str,
        query: list[tuple[str, str]],
        user: Credentials | None,
        tls: Tls,
        connect: float,
    ) -> BaseHTTPResponse:
        def send(
            method: str, url: str, headers: dict[str, str], body: str = ""
        ) -> BaseHTTPResponse:
            return self._connections.send(
                method, url, {"User-Agent": "cored", **headers}, body=body.encode() or None,
                tls=tls, connect=connect, read=self._read,
            )  # fmt: skip

        form = {key: value for key, value in query if key != "scope"}
        form |= {"scope": " ".join(v for k, v in query if k == "scope"), "client_id": "cored"}
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        if user is not None and user.token:
            # OAuth 2: an identity token is exchanged for one with the scope
            form |= {"grant_type": "refresh_token", "refresh_token": user.token}
            return send("POST", realm, kind, urlencode(form))
        headers = {"Authorization": user.basic} if user and user.username else {}
        url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}"
        answer = send("GET", url, headers)
        if answer.status in (404, 405) and user is not None and user.username:
            answer.drain_conn()
            form |= {"grant_type": "password"}
            form |= {"username": user.username, "password": user.password}
            answer = send("POST", realm, kind, urlencode(form))
        return answer


def _merged(ours: Scopes, theirs: str) -> list[str]:
    """What we need and what the registry names, each resource once (``type:name:actions``)."""
    actions: dict[str, set[str]] = {}
    for scope in (*ours, *theirs.split()):
        resource, _, wanted = scope.rpartition(":")
        actions.setdefault(resource, set()).update(wanted.split(","))
    return [f"{resource}:{','.join(sorted(actions[resource]))}" for resource in sorted(actions)]


def denied(host: Host, user: Credentials | None) -> PermissionDenied:
    """What a registry means that does not let us in."""
    if user is None:
        return PermissionDenied(
            f"registry {host.name}: access denied", hint="it may need a login: corectl login"
        )
    return PermissionDenied(
        f"registry {host.name}: access denied", hint="wrong user name or password, or no right to"
    )
