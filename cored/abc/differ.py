"""The differ seam: layers into snapshots, and snapshots into layers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from cored.abc.values import NO_LABELS, Descriptor, Labels, Mount, Typed

__all__ = ["Differ"]


class Differ(ABC):
    """Applies layer archives to mounts and makes layers from the difference of two.

    A media type or mount that a differ does not know is Unimplemented: the daemon asks the next.
    """

    @abstractmethod
    async def apply(
        self,
        layer: Descriptor,
        mounts: Sequence[Mount],
        *,
        sync: bool = False,
        payloads: Mapping[str, Typed] | None = None,
    ) -> Descriptor:
        """Extract the blob ``layer`` into ``mounts``; answer the *uncompressed* descriptor.

        The answer's digest is the diff id. InvalidArgument for an archive that is broken or tries
        to leave the root; NotFound for a blob that is not in the store.
        """

    @abstractmethod
    async def compare(
        self,
        lower: Sequence[Mount],
        upper: Sequence[Mount],
        *,
        media_type: str,
        ref: str = "",
        labels: Labels = NO_LABELS,
        source_date_epoch: int | None = None,
        targets: Sequence[str] = (),
    ) -> Descriptor:
        """Write a layer with what ``upper`` changed over ``lower`` into the content store.

        What is empty at ``targets`` of mounts, and was made for them, is better left out.
        """
