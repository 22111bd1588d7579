"""Under which names a transferred image is kept."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cored.abc.records import Image
from cored.abc.values import NO_LABELS, Descriptor, Labels

__all__ = ["ExtraName", "Naming"]

_NAME = "io.containerd.image.name"
_REFERENCE = "org.opencontainers.image.ref.name"


@dataclass(frozen=True, slots=True)
class ExtraName:
    """One more name (containerd.types.transfer.ImageReference).

    With ``prefix`` the name is a repository: tags come from annotations, and ``overwrite`` lets a
    whole name in an annotation take its place. ``digest`` adds ``@<digest>``, unless
    ``skip_named`` is set and there is a name.
    """

    name: str
    prefix: bool = False
    overwrite: bool = False
    digest: bool = False
    skip_named: bool = False


@dataclass(frozen=True, slots=True)
class Naming:
    """Makes the records for a target: one by ``name``, and those of ``extras``."""

    name: str = ""
    labels: Labels = field(default_factory=dict)
    extras: tuple[ExtraName, ...] = ()

    def records(self, target: Descriptor) -> list[Image]:
        """For what was asked for by name: a pull's target, an import's index."""
        found = [Image(self.name, _bare(target), self.labels)] if self.name else []
        for extra in self.extras:
            if extra.prefix and not extra.digest:
                continue
            name = f"{extra.name}@{target.digest}" if extra.digest else extra.name
            found.append(Image(name, _bare(target), self._extra_labels()))
        return found

    def annotated(self, target: Descriptor, known: str = "") -> list[Image]:
        """For an entry of an archive's index, by its annotations or a name that is known."""
        found = []
        for extra in self.extras:
            if not extra.prefix:
                continue
            name = _annotated(target.annotations or {_NAME: known}, extra)
            names = [name] if name else []
            if extra.digest and not (name and extra.skip_named):
                names.append(f"{extra.name}@{target.digest}")
            found += [Image(each, _bare(target), self._extra_labels()) for each in names]
        return found

    def _extra_labels(self) -> Labels:
        """Further names live as long as the first one does."""
        if not self.name:
            return self.labels
        return {
            **self.labels,
            "containerd.io/gc.bref.image": self.name,
            "containerd.io/gc.expire": datetime.fromtimestamp(int(time.time()), UTC).isoformat(),
        }


def _bare(target: Descriptor) -> Descriptor:
    """A record's target: what it is, without what an index says of it."""
    return Descriptor(target.media_type, target.digest, target.size, NO_LABELS)


def _annotated(annotations: Mapping[str, str], extra: ExtraName) -> str:
    """The name that annotations give; '' when they give none, or none that fits."""
    whole = annotations.get(_NAME, "")
    name = whole or annotations.get(_REFERENCE, "")
    if re.search("[/:@]", name):
        return name if extra.overwrite or _within(name, extra.name) else ""
    # a complete name is taken as it is, or not at all; a tag makes one
    return f"{extra.name}:{name}" if name and not whole else ""


def _within(name: str, prefix: str) -> bool:
    """Whether a name is one of the repository ``prefix``."""
    return name.startswith(prefix) and name[len(prefix) : len(prefix) + 1] in ("", ":", "@", "/")
