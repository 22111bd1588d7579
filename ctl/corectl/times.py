"""What --since and --until mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cored.moments import duration, moment

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

__all__ = ["duration", "moment", "stamp"]


def stamp(text: str) -> Timestamp | None:
    """The moment as a message; None for nothing. InvalidArgument."""
    if not text:
        return None
    from google.protobuf.timestamp_pb2 import Timestamp

    ns = moment(text)
    return Timestamp(seconds=ns // 10**9, nanos=ns % 10**9)
