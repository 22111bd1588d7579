"""The distribution client: manifests in, and the way to blobs for whoever fetches them."""

from __future__ import annotations

from cored.engine.registry.client import Credentials, Registry, Resolved

__all__ = ["Credentials", "Registry", "Resolved"]
