"""Where a daemon listens: ``/path``, ``unix:///path`` or ``tcp://host:port``."""

from __future__ import annotations

from dataclasses import dataclass

from cored.errors import InvalidArgument

__all__ = ["PORT", "Tcp", "parsed"]

PORT = 2376  # docker's for TLS


@dataclass(frozen=True, slots=True)
class Tcp:
    """An address of the network; IPv6 without its brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"tcp://{self.authority}"

    @property
    def authority(self) -> str:
        """``host:port``, as URLs have it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parsed(text: str) -> str | Tcp:
    """The path of a unix socket, or where it is on the network. InvalidArgument."""
    if text.startswith("tcp://"):
        return _tcp(text)
    path = text.removeprefix("unix://")
    if "://" in path or not path:
        raise InvalidArgument(
            f"address '{text}': not understood", hint="unix:///path or tcp://host:port"
        )
    return path


def _tcp(text: str) -> Tcp:
    rest = text.removeprefix("tcp://").removesuffix("/")
    hint = "write tcp://host:port, an IPv6 address in brackets"
    if rest.startswith("["):
        host, bracket, port = rest[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise InvalidArgument(f"address '{text}': not understood", hint=hint)
        port = port.removeprefix(":")
    else:
        host, _, port = rest.partition(":")
    number = int(port) if port.isdecimal() else PORT if not port else -1
    if not host or not 0 <= number < 1 << 16:
        raise InvalidArgument(f"address '{text}': not understood", hint=hint)
    return Tcp(host, number)
