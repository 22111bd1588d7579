"""Small frozen values that several seams share."""

from __future__ import annotations

from collections.abc import Mapping

from cored.dataclass import dataclass
from cored.oci.values import Descriptor, Platform

__all__ = ["NO_LABELS", "Descriptor", "Labels", "Mount", "Platform", "Typed"]


Labels = Mapping[str, str]
NO_LABELS: Labels = {}


@dataclass(frozen=True, slots=True)
class Typed:
    """An opaque payload with the name of its type: protobuf's Any, without protobuf.

    ``type_url`` carries no ``type.googleapis.com/`` prefix; ``value`` is kept as it came.
    """

    type_url: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount(8): filesystem type, source, options as in fstab; ``target`` below a root or ''."""

    type: str
    source: str
    target: str = ""
    options: tuple[str, ...] = ()
