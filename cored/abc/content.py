"""The content seam: immutable blobs named by their digest, written through ingests.

Terms. A *blob* is named ``sha256:<hex>`` and never changes. An *ingest* is a write in progress,
named by a ``ref`` of the writer's choice; it outlives its writer and the daemon, and the next
writer of the same ref goes on where it stopped. ``commit`` checks size and digest, makes the blob
visible in one step and durable (fsync) before it returns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from types import TracebackType
from typing import Self

from cored.abc.values import NO_LABELS, Labels
from cored.dataclass import dataclass
from cored.errors import AlreadyExists, InvalidArgument

__all__ = ["ContentStore", "Info", "Reader", "Status", "Writer", "read_blob", "write_blob"]


@dataclass(frozen=True, slots=True)
class Info:
    """What is known of one blob."""

    digest: str
    size: int
    labels: Labels = field(default_factory=dict)
    created_at: int = 0
    updated_at: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of one ingest; ``total`` and ``expected`` are 0 and '' when nobody said."""

    ref: str
    offset: int
    total: int = 0
    expected: str = ""
    started_at: int = 0
    updated_at: int = 0


class Reader(ABC):
    """An open blob; close it (or use it as an async context manager)."""

    size: int

    @abstractmethod
    async def read_at(self, offset: int, count: int) -> bytes:
        """Up to ``count`` bytes from ``offset``; b'' at the end."""

    @property
    def path(self) -> Path | None:
        """The blob as a local, immutable file for code that can use one; None if there is none."""
        return None

    @abstractmethod
    async def close(self) -> None:
        """Let go of it. May be called twice."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


class Writer(ABC):
    """The one open writer of an ingest. Closing keeps the ingest for a later writer."""

    @property
    @abstractmethod
    def status(self) -> Status:
        """Where the ingest stands."""

    @abstractmethod
    async def write(self, data: bytes) -> None:
        """Append. ResourceExhausted when the disk is full."""

    @abstractmethod
    async def truncate(self, size: int) -> None:
        """Cut the ingest back to ``size`` bytes. OutOfRange beyond it.

        0 is what retries need; a store may answer Unimplemented to all other sizes.
        """

    @abstractmethod
    async def digest(self) -> str:
        """The digest of what has been written so far."""

    @abstractmethod
    async def commit(self, size: int = 0, expected: str = "", labels: Labels = NO_LABELS) -> str:
        """Make it a blob and answer its digest; the writer is closed.

        FailedPrecondition when size (if not 0) or digest (if not '') differ: the ingest stays.
        AlreadyExists when the blob is there already: the ingest is gone, the labels are not set.
        """

    @property
    def path(self) -> Path | None:
        """The ingest's file, when a local helper process may append to it; None if not.

        The helper then reports through :meth:`advance` what it wrote.
        """
        return None

    async def advance(self, offset: int, digest: str) -> None:
        """Take note that a trusted helper made the file ``offset`` long with this ``digest``."""
        raise NotImplementedError

    @abstractmethod
    async def close(self) -> None:
        """Let go of the ref; the bytes stay. May be called twice."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


class ContentStore(ABC):
    """A store of blobs and ingests.

    Errors: NotFound for an unknown digest or ref; Unavailable while another writer has the ref;
    AlreadyExists from ``writer`` when the expected blob is there already.
    """

    @abstractmethod
    async def info(self, digest: str) -> Info:
        """What is known of a blob. NotFound."""

    @abstractmethod
    async def update(
        self, digest: str, labels: Mapping[str, str | None], *, replace: bool = False
    ) -> Info:
        """Set labels (None removes one); with ``replace`` all others go. NotFound."""

    @abstractmethod
    def walk(self, filters: Sequence[str] = ()) -> AsyncIterator[Info]:
        """All blobs that match one of ``filters``, or all."""

    @abstractmethod
    async def delete(self, digest: str) -> None:
        """Remove a blob. NotFound."""

    @abstractmethod
    async def reader(self, digest: str) -> Reader:
        """Open a blob. NotFound."""

    @abstractmethod
    async def writer(self, ref: str, *, size: int = 0, expected: str = "") -> Writer:
        """Open or go on with the ingest ``ref``; Unavailable while somebody else has it open."""

    @abstractmethod
    async def status(self, ref: str) -> Status:
        """Where an ingest stands. NotFound."""

    @abstractmethod
    def ingests(self, filters: Sequence[str] = ()) -> AsyncIterator[Status]:
        """All ingests that match one of ``filters``, or all."""

    @abstractmethod
    async def abort(self, ref: str) -> None:
        """Throw an ingest away. NotFound; Unavailable while a writer has it open."""


async def read_blob(store: ContentStore, digest: str, limit: int = 8 << 20) -> bytes:
    """The whole of a small blob (manifests, configs); InvalidArgument above ``limit`` bytes."""
    async with await store.reader(digest) as blob:
        if blob.size > limit:
            raise InvalidArgument(
                f"blob {digest}: {blob.size} bytes, more than {limit} allowed here"
            )
        return await blob.read_at(0, blob.size)


async def write_blob(
    store: ContentStore, ref: str, data: bytes, *, expected: str = "", labels: Labels = NO_LABELS
) -> str:
    """Store a small blob and answer its digest; content that exists only gets the labels."""
    try:
        async with await store.writer(ref, size=len(data), expected=expected) as writer:
            await writer.truncate(0)
            await writer.write(data)
            digest = await writer.digest()
            return await writer.commit(len(data), expected, labels)
    except AlreadyExists:
        digest = expected or digest
        if labels.items() - (await store.info(digest)).labels.items():
            await store.update(digest, dict(labels))
        return digest
