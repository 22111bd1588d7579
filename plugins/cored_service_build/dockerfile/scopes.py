"""Arguments that need no declaration: proxies, platforms and the builder's own."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["PLATFORM", "PREDEFINED", "platform_arguments"]

PREDEFINED = frozenset(
    name
    for word in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (word, word.lower())
)
"""Usable in RUN without ARG, in no history, and no reason to run anything again."""

PLATFORM = (
    "TARGETPLATFORM", "TARGETOS", "TARGETARCH", "TARGETVARIANT",
    "BUILDPLATFORM", "BUILDOS", "BUILDARCH", "BUILDVARIANT",
)  # fmt: skip
"""Known before the first FROM, and in stages that declare them."""


def platform_arguments(target: str, build: str) -> Mapping[str, str]:
    """Values of :data:`PLATFORM` for two platforms ``os/arch[/variant]``."""
    found: dict[str, str] = {}
    for prefix, text in (("TARGET", target), ("BUILD", build)):
        os, architecture, *variant = text.split("/")
        found |= {
            f"{prefix}PLATFORM": text,
            f"{prefix}OS": os,
            f"{prefix}ARCH": architecture,
            f"{prefix}VARIANT": variant[0] if variant else "",
        }
    return found
