"""Which parts of an image a transfer is about: platforms, and what becomes snapshots."""

from __future__ import annotations

from dataclasses import dataclass

from cored.abc.values import Descriptor, Platform
from cored.errors import NotFound
from cored.oci import platforms
from cored.oci.manifest import Index

__all__ = ["Selection", "Unpack", "single"]


@dataclass(frozen=True, slots=True)
class Unpack:
    """One platform's image is to be unpacked; ``snapshotter`` '' is the default one."""

    platform: Platform
    snapshotter: str = ""


@dataclass(frozen=True, slots=True)
class Selection:
    """What of an index is wanted.

    ``platforms`` none means all; ``limit`` is the most manifests (0: no limit), best first;
    ``metadata``: manifests and configs of the other platforms too, without their layers.
    """

    platforms: tuple[Platform, ...] = ()
    limit: int = 0
    metadata: bool = False
    unpacks: tuple[Unpack, ...] = ()

    def manifests(self, index: Index, what: str) -> tuple[Descriptor, ...]:
        """The wanted manifests, best first. NotFound says which platforms there are."""
        if not self.platforms:
            found = index.manifests
        else:
            ranked = []
            for number, entry in enumerate(index.manifests):
                rank = self._rank(entry)
                if rank is not None:
                    ranked.append((rank, number, entry))
            # a relative is taken where there is nothing better, not as well
            proper = {rank[0] for rank, _, _ in ranked if rank[1] < platforms.RELATIVE}
            found = tuple(
                entry
                for rank, _, entry in sorted(ranked, key=lambda r: r[:2])
                if rank[1] < platforms.RELATIVE or rank[0] not in proper
            )
        if not found:
            there = sorted({platforms.format(e.platform) for e in index.manifests if e.platform})
            wanted = ", ".join(platforms.format(p) for p in self.platforms) or "any platform"
            raise NotFound(
                f"image {what!r}: has nothing for {wanted}",
                hint=f"there is {', '.join(there) or 'nothing'}",
            )
        return found[: self.limit] if self.limit else found

    def allows(self, platform: Platform) -> bool:
        """Whether an image for ``platform`` is among what is wanted."""
        return not self.platforms or any(platforms.matches(p, platform) for p in self.platforms)

    def unpack(self, platform: Platform) -> tuple[Unpack, ...]:
        """What is to be unpacked of an image for ``platform``."""
        return tuple(u for u in self.unpacks if platforms.matches(u.platform, platform))

    def _rank(self, entry: Descriptor) -> tuple[int, int] | None:
        """(which of the platforms, how well); an entry that names none fits last."""
        if entry.annotations.get("vnd.docker.reference.type") == "attestation-manifest":
            return None
        if entry.platform is None:
            return (len(self.platforms), 0)
        for number, wanted in enumerate(self.platforms):
            rank = platforms.rank(wanted, entry.platform)
            if rank is not None:
                return (number, rank)
        return None


def single(platform: str, snapshotter: str = "") -> Selection:
    """One platform ('' is the host's), unpacked: what people mean who say no more."""
    wanted = platforms.parse(platform)
    return Selection((wanted,), 1, unpacks=(Unpack(wanted, snapshotter),))
