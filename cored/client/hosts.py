"""Which daemon is meant: what is said, the environment, or the one of this host."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cored.client.tls import TLS

__all__ = ["DEFAULT", "host_of", "tls_of"]

DEFAULT = "/run/cored/cored.sock"
_NO = ("0", "false", "no", "off")


def host_of(given: str = "", environment: Mapping[str, str] = os.environ) -> str:
    """``given``, CORED_HOST, CORED_ADDRESS, or the usual socket; a path without ``unix://``."""
    found = given or environment.get("CORED_HOST") or environment.get("CORED_ADDRESS") or DEFAULT
    return found.removeprefix("unix://")


def tls_of(
    host: str,
    ca: str = "",
    certificate: str = "",
    key: str = "",
    environment: Mapping[str, str] = os.environ,
) -> TLS | None:
    """The files for a host of the network; None for a socket of this host.

    Those that are not given are ``ca.pem``, ``cert.pem`` and ``key.pem`` in CORED_CERT_PATH, or in
    ``~/.cored``. InvalidArgument when CORED_TLS_VERIFY asks for a connection without checks.
    """
    if not host.startswith("tcp://"):
        return None
    # imported here: for a daemon of this host nothing of it is needed
    from pathlib import Path

    from cored.client.tls import TLS

    if environment.get("CORED_TLS_VERIFY", "").lower() in _NO:
        from cored.errors import InvalidArgument

        raise InvalidArgument(
            f"daemon at {host}: is never talked to without TLS that is checked",
            hint="take CORED_TLS_VERIFY out of the environment",
        )
    usual = TLS.within(environment.get("CORED_CERT_PATH") or Path.home() / ".cored")
    return TLS(ca or usual.ca, certificate or usual.certificate, key or usual.key)
