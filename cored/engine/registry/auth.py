"""Answers to 401: basic, and bearer tokens (distribution-spec; docker's token authentication)."""

from __future__ import annotations

import base64
import json
import re
import time
from dataclasses import dataclass
from urllib.parse import urlencode

import urllib3

from cored.errors import PermissionDenied, Unavailable

__all__ = ["Credentials", "Tokens"]

_CHALLENGE = re.compile(r'([a-zA-Z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')
# tokens of registries that do not say how long they live, seconds (the protocol's default)
_LIFE = 60


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user at a registry; never shown."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, …)"

    @property
    def basic(self) -> str:
        """The Authorization header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class Tokens:
    """Authorization headers by registry, scope and user, as long as they are good."""

    def __init__(self, http: urllib3.PoolManager) -> None:
        self._http = http
        self._known: dict[tuple[str, str, str], tuple[str, float]] = {}

    def header(self, host: str, scope: str, user: Credentials | None) -> str | None:
        """A header that should do, if one is at hand."""
        found = self._known.get((host, scope, user.username if user else ""))
        return found[0] if found and found[1] > time.monotonic() else None

    def answer(
        self, host: str, scope: str, user: Credentials | None, challenge: str, plain: bool
    ) -> str:
        """The header that answers a ``WWW-Authenticate``. PermissionDenied; Unavailable."""
        scheme, _, rest = challenge.partition(" ")
        key = (host, scope, user.username if user else "")
        if scheme.lower() == "basic":
            if user is None:
                raise _denied(host)
            self._known[key] = (user.basic, time.monotonic() + 3600)
            return user.basic
        if scheme.lower() != "bearer":
            raise PermissionDenied(f"registry {host}: asks for unknown authentication {scheme!r}")
        values = {name: quoted or bare for name, quoted, bare in _CHALLENGE.findall(rest)}
        header, life = self._fetch(host, values, values.get("scope") or scope, user, plain)
        self._known[key] = (header, time.monotonic() + life)
        return header

    def _fetch(
        self,
        host: str,
        values: dict[str, str],
        scope: str,
        user: Credentials | None,
        plain: bool,
    ) -> tuple[str, float]:
        realm = values.get("realm", "")
        if not realm.startswith("https://") and not (plain and realm.startswith("http://")):
            raise PermissionDenied(f"registry {host}: its token server {realm!r} is not on https")
        query = [("service", values.get("service", "")), ("scope", scope)]
        url = f"{realm}{'&' if '?' in realm else '?'}{urlencode([q for q in query if q[1]])}"
        headers = {"Authorization": user.basic} if user else {}
        try:
            answer = self._http.request("GET", url, headers=headers)
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(f"token server {realm}: cannot be reached: {error}") from error
        if answer.status in (401, 403):
            raise _denied(host)
        if answer.status != 200:
            raise Unavailable(f"token server {realm}: answered {answer.status}")
        try:
            document = json.loads(answer.data)
            token = document.get("token") or document["access_token"]
        except (ValueError, KeyError, AttributeError) as error:
            raise Unavailable(f"token server {realm}: answered no token") from error
        life = max(int(document.get("expires_in") or _LIFE) - 5, 5)
        return f"Bearer {token}", life


def _denied(host: str) -> PermissionDenied:
    return PermissionDenied(
        f"registry {host}: access denied", hint="wrong or missing user name and password"
    )
