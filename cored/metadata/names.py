"""What names and labels may look like: containerd's rules."""

from __future__ import annotations

import re
from collections.abc import Mapping

from cored.errors import InvalidArgument

__all__ = ["check_identifier", "check_labels", "check_namespace"]

_IDENTIFIER = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*")
_LONGEST = 76
_LABEL_BYTES = 4096


def check_identifier(what: str, name: str) -> None:
    """InvalidArgument unless ``name`` is alphanumeric words joined by single ``. _ -``, <= 76."""
    if not name:
        raise InvalidArgument(f"{what}: its name is empty")
    if len(name) > _LONGEST:
        raise InvalidArgument(f"{what} {name!r}: longer than {_LONGEST} characters")
    if not _IDENTIFIER.fullmatch(name):
        raise InvalidArgument(
            f"{what} {name!r}: invalid name",
            hint="letters and digits, joined by single dots, dashes or underscores",
        )


def check_namespace(name: str) -> None:
    """InvalidArgument unless ``name`` can be a namespace's."""
    check_identifier("namespace", name)


def check_labels(what: str, labels: Mapping[str, str | None]) -> None:
    """InvalidArgument for a label whose key and value together exceed 4,096 bytes."""
    for key, value in labels.items():
        size = len(key.encode()) + len((value or "").encode())
        if size > _LABEL_BYTES:
            raise InvalidArgument(
                f"{what}: label {key[:64]!r} and its value have {size} bytes,"
                f" {_LABEL_BYTES} allowed"
            )
