"""The distribution client: manifests in and out, and the way to blobs for whoever fetches them."""

from __future__ import annotations

from cored.engine.registry.access import ANONYMOUS, Access, Credentials, known_user
from cored.engine.registry.client import Registry, Resolved, document, resolve, small_blob
from cored.engine.registry.keyring import keyring
from cored.engine.registry.listing import delete_blob, delete_manifest, tags
from cored.engine.registry.login import login
from cored.engine.registry.referrers import refer, referrers
from cored.engine.registry.session import Located, Session
from cored.engine.registry.upload import Uploads

__all__ = [
    "ANONYMOUS",
    "Access",
    "Credentials",
    "Located",
    "Registry",
    "Resolved",
    "Session",
    "Uploads",
    "delete_blob",
    "delete_manifest",
    "document",
    "keyring",
    "known_user",
    "login",
    "refer",
    "referrers",
    "resolve",
    "small_blob",
    "tags",
]
