"""The files that make us known to a daemon on another host, and it to us."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

__all__ = ["TLS"]

_NAMES = ("ca.pem", "cert.pem", "key.pem")


@dataclass(frozen=True, slots=True)
class TLS:
    """PEM files: the authority that signed the daemon's certificate; our certificate and its key.

    ``server_name`` is the name in the daemon's certificate, where another one is dialled.
    """

    ca: str | os.PathLike[str]
    certificate: str | os.PathLike[str]
    key: str | os.PathLike[str]
    server_name: str = ""

    @classmethod
    def within(cls, directory: str | os.PathLike[str]) -> Self:
        """``ca.pem``, ``cert.pem`` and ``key.pem`` of a directory, docker's names."""
        ca, certificate, key = (Path(directory) / name for name in _NAMES)
        return cls(ca, certificate, key)
