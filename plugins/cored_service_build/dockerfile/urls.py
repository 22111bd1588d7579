"""Which sources are elsewhere: URLs of files, and repositories of git."""

from __future__ import annotations

import re

__all__ = ["is_git", "is_url"]

_GIT = re.compile(r"(git@|git://|ssh://|github\.com/).*|https?://[^#]*\.git(#.*)?")


def is_url(source: str) -> bool:
    return source.startswith(("http://", "https://")) and not is_git(source)


def is_git(source: str) -> bool:
    return bool(_GIT.fullmatch(source))
