"""Answers to 401: basic, and bearer tokens (distribution-spec; docker's token authentication)."""

from __future__ import annotations

import json
import re
import time
from urllib.parse import urlencode

import urllib3

from cored.engine.registry.access import Access, Credentials
from cored.errors import PermissionDenied, Unavailable

__all__ = ["Tokens"]

_CHALLENGE = re.compile(r'([a-zA-Z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')
# tokens of registries that do not say how long they live, seconds (the protocol's default)
_LIFE = 60


class Tokens:
    """Authorization headers by registry, scope and user, as long as they are good."""

    def __init__(self, http: urllib3.PoolManager) -> None:
        self._http = http
        self._known: dict[tuple[str, str, str], tuple[str, float]] = {}

    def header(self, host: str, scope: str, access: Access) -> str | None:
        """A header that should do, if one is at hand."""
        found = self._known.get((host, scope, access.identity))
        return found[0] if found and found[1] > time.monotonic() else None

    def answer(self, host: str, scope: str, access: Access, challenge: str, plain: bool) -> str:
        """The header that answers a ``WWW-Authenticate``. PermissionDenied; Unavailable."""
        scheme, _, rest = challenge.partition(" ")
        key = (host, scope, access.identity)
        user = access.ask(host)
        if user is not None and user.header:
            self._known[key] = (user.header, time.monotonic() + 3600)
            return user.header
        if scheme.lower() == "basic":
            if user is None or not user.username:
                raise _denied(host)
            self._known[key] = (user.basic, time.monotonic() + 3600)
            return user.basic
        if scheme.lower() != "bearer":
            raise PermissionDenied(f"registry {host}: asks for unknown authentication {scheme!r}")
        values = {name: quoted or bare for name, quoted, bare in _CHALLENGE.findall(rest)}
        # the registry names what it wants for this request; we know what the whole transfer needs
        header, life = self._fetch(host, values, scope or values.get("scope", ""), user, plain)
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
        # several scopes (a mount from another repository) are separate parameters
        query = [("service", values.get("service", "")), *(("scope", s) for s in scope.split())]
        try:
            answer = self._ask(realm, [q for q in query if q[1]], user)
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

    def _ask(
        self, realm: str, query: list[tuple[str, str]], user: Credentials | None
    ) -> urllib3.BaseHTTPResponse:
        if user is not None and user.token:
            # OAuth 2: an identity token is exchanged for one with the scope
            fields = dict(query) | {"scope": " ".join(v for k, v in query if k == "scope")}
            fields |= {
                "grant_type": "refresh_token", "refresh_token": user.token, "client_id": "cored",
            }  # fmt: skip
            return self._http.request("POST", realm, fields=fields, encode_multipart=False)
        headers = {"Authorization": user.basic} if user and user.username else {}
        url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}"
        return self._http.request("GET", url, headers=headers)


def _denied(host: str) -> PermissionDenied:
    return PermissionDenied(
        f"registry {host}: access denied", hint="wrong or missing user name and password"
    )
