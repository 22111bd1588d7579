"""Image references: ``[host[:port]/]path[:tag][@digest]`` with docker's rules for short ones."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cored.errors import InvalidArgument
from cored.oci import digest as digests

__all__ = ["Reference", "parse"]

_DEFAULT_HOST = "docker.io"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
    r"|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
)


@dataclass(frozen=True, slots=True)
class Reference:
    """A complete reference; ``tag`` is '' when only a digest was given."""

    host: str
    path: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return (
            f"{self.host}/{self.path}"
            + (f":{self.tag}" if self.tag else "")
            + (f"@{self.digest}" if self.digest else "")
        )

    @property
    def target(self) -> str:
        """What a registry is asked for: the digest, or else the tag."""
        return self.digest or self.tag

    @property
    def familiar(self) -> str:
        """As people write it: without docker.io and library."""
        text = str(self)
        if self.host == _DEFAULT_HOST:
            text = text.removeprefix(f"{_DEFAULT_HOST}/").removeprefix("library/")
        return text


def parse(text: str) -> Reference:
    """Parse and complete a reference. InvalidArgument says what is wrong with it."""
    rest, at, digest = text.partition("@")
    if at:
        digests.check(digest)
    head, slash, tail = rest.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost"):
        host, path = head, tail
    else:
        host, path = _DEFAULT_HOST, rest
    name, colon, tag = path.rpartition(":")
    if not colon:
        name, tag = path, ""
    if host == "index.docker.io":
        host = _DEFAULT_HOST
    if host == _DEFAULT_HOST and "/" not in name:
        name = f"library/{name}"
    if not _HOST.fullmatch(host):
        raise InvalidArgument(f"image reference {text!r}: invalid registry {host!r}")
    if not _PATH.fullmatch(name) or len(name) > 255:
        hint = "repository names are lower case" if name.lower() != name else "like debian:bookworm"
        raise InvalidArgument(f"image reference {text!r}: invalid name", hint=hint)
    if (colon or tag) and not _TAG.fullmatch(tag):
        raise InvalidArgument(f"image reference {text!r}: invalid tag {tag!r}")
    return Reference(host, name, tag or ("" if digest else "latest"), digest)
