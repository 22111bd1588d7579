"""Credentials that a client sent along with its request, by registry; in memory only."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from cored.engine.registry.access import ANONYMOUS, Access, Credentials

__all__ = ["keyring"]

_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})


def keyring(credentials: Mapping[str, Credentials]) -> Access:
    """Access that answers each registry with its own credentials, and the others with none.

    Tokens are shared among those who show the same secret, not the same name: whoever types a
    wrong password must not get in on somebody else's right one.
    """
    if not credentials:
        return ANONYMOUS
    known = {_named(host): each for host, each in credentials.items()}
    told = hashlib.sha256()
    for host, each in sorted(known.items()):
        for part in (host, each.username, each.password, each.token, each.header):
            told.update(part.encode() + b"\0")
    return Access(lambda host: known.get(_named(host)), f"keyring-{told.hexdigest()}")


def _named(host: str) -> str:
    return "docker.io" if host in _HUB else host
