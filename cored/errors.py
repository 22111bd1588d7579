"""The errors of cored, one class for each gRPC status that a client can act on.

    CoredError
    ├── NotFound             NOT_FOUND             it is not there
    ├── AlreadyExists        ALREADY_EXISTS        it is there already
    ├── InvalidArgument      INVALID_ARGUMENT      the request can never work
    ├── FailedPrecondition   FAILED_PRECONDITION   not in the state that the request needs
    ├── OutOfRange           OUT_OF_RANGE          an offset beyond the end
    ├── ResourceExhausted    RESOURCE_EXHAUSTED    no space, no memory, no ids left
    ├── Unavailable          UNAVAILABLE           try again: something else is away or busy
    ├── Aborted              ABORTED               lost a race, start over
    ├── PermissionDenied     PERMISSION_DENIED     the rights do not suffice
    ├── Unimplemented        UNIMPLEMENTED         not built, or not by this plugin
    ├── Cancelled            CANCELLED             the caller went away
    ├── DeadlineExceeded     DEADLINE_EXCEEDED     took longer than allowed
    └── Internal             INTERNAL              our fault, or the disk's

A message reads ``subject: what is wrong (hint)``; the hint says what to do about it.
"""

from __future__ import annotations

import errno
from typing import ClassVar

__all__ = [
    "Aborted",
    "AlreadyExists",
    "Cancelled",
    "CoredError",
    "DeadlineExceeded",
    "FailedPrecondition",
    "Internal",
    "InvalidArgument",
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "ResourceExhausted",
    "Unavailable",
    "Unimplemented",
    "by_code",
    "from_mount_error",
    "from_os_error",
]


class CoredError(Exception):
    """Base of all errors that may cross a seam.

    ``code`` is the numeric gRPC status; ``hint`` says what the reader can do, without brackets.
    """

    code: ClassVar[int] = 2

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message if hint is None else f"{message} ({hint})")
        self.message = message
        self.hint = hint


class Cancelled(CoredError):
    code = 1


class InvalidArgument(CoredError):
    code = 3


class DeadlineExceeded(CoredError):
    code = 4


class NotFound(CoredError):
    code = 5


class AlreadyExists(CoredError):
    code = 6


class PermissionDenied(CoredError):
    code = 7


class ResourceExhausted(CoredError):
    code = 8


class FailedPrecondition(CoredError):
    code = 9


class Aborted(CoredError):
    code = 10


class OutOfRange(CoredError):
    code = 11


class Unimplemented(CoredError):
    code = 12


class Internal(CoredError):
    code = 13


class Unavailable(CoredError):
    code = 14


_BY_CODE: dict[int, type[CoredError]] = {
    cls.code: cls
    for cls in (
        Cancelled, InvalidArgument, DeadlineExceeded, NotFound, AlreadyExists, PermissionDenied,
        ResourceExhausted, FailedPrecondition, Aborted, OutOfRange, Unimplemented, Internal,
        Unavailable,
    )
}  # fmt: skip


def by_code(code: int) -> type[CoredError]:
    """The class for a numeric gRPC status; CoredError for those without a class of their own."""
    return _BY_CODE.get(code, CoredError)


def from_os_error(subject: str, error: OSError) -> CoredError:
    """The error that says what an OSError about ``subject`` means to a client."""
    text = f"{subject}: {error.strerror or error}"
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return ResourceExhausted(text, hint="free some space on the filesystem")
        case errno.ENOMEM | errno.EMFILE | errno.ENFILE:
            return ResourceExhausted(text)
        case errno.ENOENT:
            return NotFound(text)
        case errno.EEXIST:
            return AlreadyExists(text)
        case errno.EPERM | errno.EACCES:
            return PermissionDenied(text, hint="cored needs to run as root")
        case errno.ENAMETOOLONG | errno.ELOOP | errno.ENOTDIR | errno.EISDIR:
            return InvalidArgument(text)
        case _:
            return Internal(text)


def from_mount_error(subject: str, error: OSError) -> CoredError:
    """The error for a mount(2) that failed with what a client had described."""
    match error.errno:
        case errno.ENODEV:
            return InvalidArgument(
                f"{subject}: {error.strerror}", hint="this kernel has no such filesystem type"
            )
        case errno.EINVAL | errno.ENOTBLK | errno.E2BIG:
            return InvalidArgument(
                f"{subject}: {error.strerror}", hint="check its type, source and options"
            )
        case _:
            return from_os_error(subject, error)
