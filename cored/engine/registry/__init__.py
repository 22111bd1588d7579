"""The distribution client: manifests in and out, and the way to blobs for whoever fetches them."""

from __future__ import annotations

from cored.engine.registry.access import ANONYMOUS, Access, Credentials, known_user
from cored.engine.registry.client import Registry, Resolved
from cored.engine.registry.upload import Uploads

__all__ = [
    "ANONYMOUS",
    "Access",
    "Credentials",
    "Registry",
    "Resolved",
    "Uploads",
    "known_user",
]
