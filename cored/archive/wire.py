"""Length-prefixed pickles between the daemon and the workers that it started itself."""

from __future__ import annotations

import pickle
import struct

from cored.archive.jobs import (
    DiffJob,
    DiffResult,
    LayerJob,
    LayerResult,
    Refusal,
    Route,
    VerifyJob,
    VerifyResult,
)
from cored.dataclass import dataclass

__all__ = ["PREFIX", "Done", "Failed", "Message", "Progress", "packed", "unpacked"]

PREFIX = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class Progress:
    """So many bytes of the blob are there."""

    size: int


@dataclass(frozen=True, slots=True)
class Done:
    """The job is finished."""

    result: LayerResult | DiffResult | VerifyResult


@dataclass(frozen=True, slots=True)
class Failed:
    """The job failed with the error of this gRPC code."""

    code: int
    message: str
    hint: str | None = None


Message = LayerJob | DiffJob | VerifyJob | Progress | Done | Failed | Refusal | Route


def packed(message: Message) -> bytes:
    """One message with its length before it."""
    data = pickle.dumps(message, protocol=5)
    return PREFIX.pack(len(data)) + data


def unpacked(data: bytes) -> Message:
    """The message in ``data``, without its length."""
    message: Message = pickle.loads(data)
    return message
