"""Digests (image-spec, descriptor: digests): ``sha256:<hex>``."""

from __future__ import annotations

import hashlib
import re

from cored.errors import InvalidArgument

__all__ = ["check", "is_digest", "of"]

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


def check(text: object) -> str:
    """The digest itself; InvalidArgument for anything else."""
    if not isinstance(text, str) or not _DIGEST.fullmatch(text):
        raise InvalidArgument(f"digest {str(text)[:150]!r}: invalid", hint="sha256:<64 hex digits>")
    return text


def is_digest(text: str) -> bool:
    """Whether a text is a digest."""
    return _DIGEST.fullmatch(text) is not None


def of(data: bytes, like: str = "sha256:") -> str:
    """The digest of bytes, in the algorithm of another digest."""
    algorithm = like.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
