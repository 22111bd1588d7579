"""Whether a registry lets somebody in (docker's ``login``)."""

from __future__ import annotations

from dataclasses import replace

from cored.engine.registry.access import Access, Credentials, known_user
from cored.engine.registry.client import Registry
from cored.engine.registry.session import Call
from cored.oci.reference import Reference

__all__ = ["login"]


async def login(
    registry: Registry, host: str, user: Credentials, access: Access | None = None
) -> str:
    """Try ``user`` at a registry. Answers the identity token to keep in place of the password,
    '' where the registry has none. PermissionDenied; Unavailable.

    ``access`` says how the registry is reached, its credentials are not used.
    """
    known = known_user(user)
    way = replace(access, ask=known.ask, identity=known.identity) if access else known
    session = await registry.session(Reference(host, ""), way, offline=True)
    await session.send(Call("GET", "/", actions="", what=f"registry {host}"))
    return session.identity
