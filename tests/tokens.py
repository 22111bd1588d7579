"""A token server as docker's registry trusts it: JSON web tokens, signed with openssl."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qsl, urlsplit

from tests.certificates import authority

__all__ = ["TokenServer", "token_server"]

SERVICE = "the-registry"
ISSUER = "the-issuer"


@dataclass
class TokenServer:
    """Gives tokens for what is asked to users with their passwords or identity tokens.

    ``anonymous`` repositories may be pulled by everybody. ``life`` is the seconds of a token.
    ``methods`` are those that it knows; ``asked`` is what came: (method, values).
    """

    place: Path
    port: int = 0
    users: dict[str, str] = field(default_factory=lambda: {"alice": "se:cret"})
    identities: dict[str, str] = field(default_factory=lambda: {"identity-token": "alice"})
    anonymous: set[str] = field(default_factory=set)
    life: int = 300
    told: int | None = None
    """What it says of the life, if that is something else."""
    methods: set[str] = field(default_factory=lambda: {"GET", "POST"})
    asked: list[tuple[str, dict[str, list[str]]]] = field(default_factory=list)

    @property
    def realm(self) -> str:
        return f"http://127.0.0.1:{self.port}/token"

    @property
    def settings(self) -> str:
        """The auth section of the registry's configuration."""
        return (
            f"auth: {{token: {{realm: '{self.realm}', service: {SERVICE}, issuer: {ISSUER},"
            f" rootcertbundle: {self.place}/ca.crt}}}}"
        )

    def token(self, user: str | None, scopes: list[str]) -> str:
        """A token for those of the scopes that the user may have."""
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            if user is None:
                actions = "pull" if name in self.anonymous else ""
            allowed = [a for a in actions.split(",") if a]
            access.append({"type": kind, "name": name, "actions": allowed})
        now = int(time.time())
        claims = {
            "iss": ISSUER, "aud": SERVICE, "sub": user or "", "jti": str(time.time_ns()),
            "exp": now + self.life, "nbf": now - 60, "iat": now, "access": access,
        }  # fmt: skip
        pem = (self.place / "ca.crt").read_text().split("-----")[2]
        header = {"alg": "RS256", "typ": "JWT", "x5c": ["".join(pem.split())]}
        text = f"{_packed(json.dumps(header).encode())}.{_packed(json.dumps(claims).encode())}"
        signed = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", str(self.place / "ca.key")],
            input=text.encode(), check=True, capture_output=True,
        )  # fmt: skip
        return f"{text}.{_packed(signed.stdout)}"

    def answer(
        self, method: str, values: dict[str, list[str]], authorization: str
    ) -> tuple[int, dict[str, object]]:
        self.asked.append((method, values))
        if method not in self.methods:
            return 404, {}
        user: str | None = None
        name, password = values.get("username", [""])[0], values.get("password", [""])[0]
        if authorization.startswith("Basic "):
            name, _, password = base64.b64decode(authorization[6:]).decode().partition(":")
        refresh = values.get("refresh_token", [""])[0]
        if name:
            if self.users.get(name) != password:
                return 401, {}
            user = name
        elif refresh:
            if refresh not in self.identities:
                return 401, {}
            user = self.identities[refresh]
        scopes = [each for value in values.get("scope", []) for each in value.split()]
        answer: dict[str, object] = {
            "access_token": self.token(user, scopes),
            "expires_in": self.told or self.life,
        }
        if values.get("offline_token") == ["true"] and user:
            answer["refresh_token"] = next(t for t, u in self.identities.items() if u == user)
        return 200, answer


@contextmanager
def token_server(place: Path) -> Iterator[TokenServer]:
    """A server that ends with the body."""
    authority(place, kind=("rsa:2048",))
    server = TokenServer(place)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(urlsplit(self.path).query)

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["Content-Length"])).decode())

        def _answer(self, text: str) -> None:
            values: dict[str, list[str]] = {}
            for key, value in parse_qsl(text):
                values.setdefault(key, []).append(value)
            authorization = self.headers.get("Authorization", "")
            status, document = server.answer(self.command, values, authorization)
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.port = http.server_address[1]
        thread = Thread(target=http.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


def _packed(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
