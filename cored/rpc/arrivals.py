"""Who calls over the network: said once for each connection."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from cored import log

__all__ = ["Arrivals"]

_LOG = log.get("rpc")
_REMEMBERED = 4096


class Arrivals:
    """Logs the subject of the certificate that a client has shown; never anything of its calls."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, None] = OrderedDict()

    def note(self, context: Any) -> None:
        """Called for each call, with gRPC's context of it."""
        peer = context.peer()
        if peer.startswith("unix:") or peer in self._seen:
            return
        self._seen[peer] = None
        while len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        shown = context.auth_context() or {}
        subject = b", ".join(shown.get("x509_subject") or shown.get("x509_common_name") or ())
        _LOG.info("client connected", peer=peer, subject=subject.decode(errors="replace"))
