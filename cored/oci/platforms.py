"""Platforms: ``os/arch[/variant]`` in Go's words (image-spec, image index: platform)."""

from __future__ import annotations

import platform as _platform
import re

from cored.errors import InvalidArgument
from cored.oci.values import Platform

__all__ = ["RELATIVE", "format", "host", "matches", "parse", "rank"]

_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "arm64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armhf": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armel": ("arm", "v6"),
    "i386": ("386", ""),
    "i686": ("386", ""),
}
# whose programs a processor runs as well
_RELATIVES = {
    "amd64": Platform("linux", "386"),
    "arm64": Platform("linux", "arm", "v8"),
}
RELATIVE = 100
"""Ranks from here on are those of a relative architecture."""

_PART = re.compile(r"[A-Za-z0-9_.-]+")


def host() -> Platform:
    """This machine's platform."""
    machine = _platform.machine()
    architecture, variant = _ARCHITECTURES.get(machine, (machine, ""))
    return Platform("linux", architecture, variant)


def parse(text: str) -> Platform:
    """``linux/arm64/v8``, ``linux/amd64``, ``arm64``, ``linux``; '' is the host's."""
    if not text:
        return host()
    parts = text.lower().split("/")
    if len(parts) > 3 or not all(_PART.fullmatch(part) for part in parts):
        raise InvalidArgument(f"platform {text!r}: invalid", hint="os/arch[/variant]")
    here = host()
    if len(parts) == 1:
        if parts[0] in ("linux", "windows", "darwin", "freebsd"):
            return Platform(parts[0], here.architecture, here.variant)
        parts = ["linux", *parts]
    return normalized(Platform(parts[0], parts[1], parts[2] if len(parts) > 2 else ""))


def normalized(platform: Platform) -> Platform:
    """Aliases of architectures by their customary names; variants that go without saying."""
    architecture, variant = _ARCHITECTURES.get(platform.architecture, (platform.architecture, ""))
    variant = platform.variant or variant
    if architecture == "arm64" and not variant:
        variant = "v8"
    if architecture == "arm" and not variant:
        variant = "v7"
    if architecture == "amd64" and variant == "v1":
        variant = ""
    return Platform(
        platform.os.lower(), architecture, variant, platform.os_version, platform.os_features
    )


def format(platform: Platform) -> str:
    """``os/arch[/variant]``."""
    return "/".join(part for part in (platform.os, platform.architecture, platform.variant) if part)


def matches(wanted: Platform, offered: Platform) -> bool:
    """Whether an image for ``offered`` runs where ``wanted`` is."""
    return rank(wanted, offered) is not None


def rank(wanted: Platform, offered: Platform) -> int | None:
    """How well ``offered`` fits: 0 is exact, larger is an older variant; None does not run.

    64-bit processors take what is for their 32-bit relatives, last of all. What an image asks of
    the OS by ``os.features`` must be wanted.
    """
    want, offer = normalized(wanted), normalized(offered)
    if want.os != offer.os or not set(offer.os_features) <= set(want.os_features):
        return None
    if want.architecture == offer.architecture:
        return _older(want, offer)
    relative = _RELATIVES.get(want.architecture)
    if relative is None or relative.architecture != offer.architecture:
        return None
    rank = _older(relative, offer)
    return None if rank is None else RELATIVE + rank


def _older(want: Platform, offer: Platform) -> int | None:
    """How many levels of the same architecture lie between; None where it does not run."""
    if want.variant == offer.variant:
        return 0
    have, has = _number(want), _number(offer)
    if have is None or has is None or has > have:
        return None
    return have - has


def _number(platform: Platform) -> int | None:
    """A variant's level; amd64 without one is v1."""
    variant = platform.variant or ("v1" if platform.architecture == "amd64" else "")
    return int(variant[1:]) if re.fullmatch(r"v\d+", variant) else None
