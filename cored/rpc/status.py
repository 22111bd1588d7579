"""Errors to gRPC statuses and back: the only place where either is translated."""

from __future__ import annotations

import asyncio

from cored.errors import Cancelled, CoredError, Internal, by_code, from_os_error

__all__ = ["to_error", "to_status"]

# bytes of a message: the status travels in a header, and all headers have 8 KiB on most clients
_LONGEST = 2000


def to_status(error: BaseException) -> tuple[int, str, bool]:
    """(numeric code, message, whether it was expected) of what an implementation raised."""
    code, message, expected = _translated(error)
    return code, _short(message), expected


def _short(message: str) -> str:
    data = message.encode(errors="backslashreplace")
    if len(data) <= _LONGEST:
        return data.decode()
    half = _LONGEST // 2
    return f"{data[:half].decode(errors='ignore')} … {data[-half:].decode(errors='ignore')}"


def _translated(error: BaseException) -> tuple[int, str, bool]:
    match error:
        case CoredError():
            return error.code, str(error), True
        case asyncio.CancelledError():
            return Cancelled.code, "the call was cancelled", True
        case OSError():
            found = from_os_error(error.filename or "system call", error)
            return found.code, str(found), not isinstance(found, Internal)
        case _:
            return Internal.code, f"internal error: {type(error).__name__}: {error}", False


def to_error(code: int, details: str) -> CoredError:
    """The error that a status stands for."""
    return by_code(code)(details)
