"""docker's ``config.json``: read and written as docker does, with all that is not ours kept.

The file is shared with docker, podman, buildah and skopeo: ``auths``, ``credsStore`` and
``credHelpers`` mean here what they mean there.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cored.errors import InvalidArgument

__all__ = ["HUB", "DockerConfig", "hostname", "server_key"]

HUB = "https://index.docker.io/v1/"
"""What Docker Hub is called in the file."""

_HUBS = frozenset(
    {"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}
)


def hostname(server: str) -> str:
    """``host[:port]`` of what may be an URL."""
    return server.removeprefix("https://").removeprefix("http://").partition("/")[0]


def server_key(server: str) -> str:
    """A registry as the file calls it: its host, or Docker Hub's old address."""
    host = hostname(server)
    return HUB if not host or host in _HUBS else host


class DockerConfig:
    """The file's content; :meth:`save` writes it back whole."""

    def __init__(self, path: Path, document: dict[str, Any]) -> None:
        self.path = path
        self._document = document

    @classmethod
    def load(cls, environment: Mapping[str, str] = os.environ) -> DockerConfig:
        """From $DOCKER_CONFIG or ~/.docker; an absent file is empty. InvalidArgument."""
        folder = environment.get("DOCKER_CONFIG", "")
        place = Path(folder) if folder else Path(environment.get("HOME") or "~").expanduser()
        path = place / "config.json" if folder else place / ".docker" / "config.json"
        try:
            text = path.read_text()
        except FileNotFoundError:
            return cls(path, {})
        try:
            document = json.loads(text) if text.strip() else {}
        except ValueError as error:
            # the message may not quote the file: there are passwords in it
            raise InvalidArgument(
                f"{path}: is not JSON", hint="mend it, or move it away"
            ) from error
        if not isinstance(document, dict):
            raise InvalidArgument(f"{path}: is not a JSON object")
        return cls(path, document)

    def helper(self, key: str) -> str:
        """The credential helper for a server's key; '' when the file itself keeps its secret."""
        helpers = self._object("credHelpers")
        for name in (key, hostname(key), *(("docker.io",) if key == HUB else ())):
            if helpers.get(name):
                return str(helpers[name])
        return str(self._document.get("credsStore") or "")

    def detect(self) -> None:
        """A file without any logins yet takes the store that the machine has, as docker's does."""
        if any(self._document.get(name) for name in ("auths", "credHelpers", "credsStore")):
            return
        import shutil  # for those who log in

        store = "pass" if shutil.which("pass") else "secretservice"
        if shutil.which(f"docker-credential-{store}"):
            self._document["credsStore"] = store

    def entry(self, key: str) -> tuple[str, str, str] | None:
        """User name, password and identity token that the file has for a server."""
        auths = self._object("auths")
        found = auths.get(key)
        if found is None:
            # older files name servers by URLs
            same = (value for name, value in auths.items() if hostname(name) == hostname(key))
            found = next(same, None)
        if not isinstance(found, dict):
            return None
        username, password = str(found.get("username") or ""), str(found.get("password") or "")
        if found.get("auth"):
            username, password = _decoded(self.path, key, str(found["auth"]))
        token = str(found.get("identitytoken") or "")
        return (username, password, token) if username or token else None

    def put(self, key: str, username: str, password: str, token: str) -> None:
        """Keep a secret in the file; without any, only that there is a login."""
        entry: dict[str, str] = {}
        if username or password:
            text = f"{username}:{'' if token else password}".encode()
            entry["auth"] = base64.b64encode(text).decode()
        if token:
            entry["identitytoken"] = token
        self._document.setdefault("auths", {})[key] = entry

    def drop(self, key: str) -> bool:
        """Forget a server, under whatever name; whether there was something."""
        auths = self._object("auths")
        mine = [name for name in auths if name == key or hostname(name) == hostname(key)]
        for name in mine:
            del auths[name]
        return bool(mine)

    def servers(self) -> list[str]:
        """The keys of all logins in the file."""
        return list(self._object("auths"))

    def save(self) -> None:
        """Write the file: whole or not at all, and for nobody else to read."""
        path = self.path.resolve()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        import tempfile

        fd, scratch = tempfile.mkstemp(dir=path.parent, prefix="config.json")
        try:
            with os.fdopen(fd, "w") as file:  # mkstemp's are 0600
                json.dump(self._document, file, indent="\t", ensure_ascii=False)
                file.flush()
                os.fsync(fd)
            with contextlib.suppress(FileNotFoundError):
                there = path.stat()
                os.chown(scratch, there.st_uid, there.st_gid)
            Path(scratch).replace(path)
        except BaseException:
            Path(scratch).unlink(missing_ok=True)
            raise

    def proxies(self) -> dict[str, str]:
        """Variables for builds, from what the file says of proxies of all daemons."""
        proxies = self._document.get("proxies")
        given = proxies.get("default") if isinstance(proxies, dict) else None
        found = {}
        for kind in ("http", "https", "ftp", "no", "all"):
            value = given.get(f"{kind}Proxy") if isinstance(given, dict) else None
            if value and isinstance(value, str):
                found[f"{kind}_proxy"] = found[f"{kind.upper()}_PROXY"] = value
        return found

    def _object(self, key: str) -> dict[str, Any]:
        value = self._document.get(key)
        if value is not None and not isinstance(value, dict):
            raise InvalidArgument(f"{self.path}: {key} is not an object")
        return value if value is not None else {}


def _decoded(path: Path, key: str, text: str) -> tuple[str, str]:
    try:
        decoded = base64.b64decode(text, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        decoded = ""
    username, colon, password = decoded.partition(":")
    if not colon:
        # not raised from the error: that one has the secret in it
        raise InvalidArgument(f"{path}: auth of {key} is damaged", hint="log in again") from None
    return username, password.rstrip("\0")
