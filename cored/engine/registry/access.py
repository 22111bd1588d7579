"""How one transfer reaches its registry: who it is there, and what it sends along."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

__all__ = ["ANONYMOUS", "Access", "Credentials", "known_user"]


@dataclass(frozen=True, slots=True)
class Credentials:
    """What proves who one is at a registry; never shown.

    Either ``username`` and ``password``, or a refresh ``token`` for the token server (docker's
    identity token), or a ready Authorization ``header``.
    """

    username: str = ""
    password: str = ""
    token: str = ""
    header: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, …)"

    @property
    def basic(self) -> str:
        """The Authorization header of user name and password."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


@dataclass(frozen=True, slots=True)
class Access:
    """One transfer's way to a registry.

    ``ask`` answers the credentials for a host, None for an anonymous user; it is called in a
    thread, when a registry asks for them, once for each host. ``identity`` tells users apart.
    ``headers`` go with every request; ``scheme`` is http or https where nothing else decides.
    ``hosts`` is a directory like ``certs.d``, in place of the configured ones.
    """

    ask: Callable[[str], Credentials | None] = field(default=lambda host: None, compare=False)
    identity: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    scheme: str = ""
    hosts: str = ""


ANONYMOUS = Access()


def known_user(credentials: Credentials | None) -> Access:
    """Access with credentials that are at hand, for every host that asks."""
    if credentials is None:
        return ANONYMOUS
    secrets = (credentials.username, credentials.password, credentials.token, credentials.header)
    identity = hashlib.sha256("\0".join(secrets).encode()).hexdigest()
    return Access(lambda host: credentials, identity)
