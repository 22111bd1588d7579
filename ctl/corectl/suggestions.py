"""What somebody may have meant who wrote a command or an option that is not there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

__all__ = ["commands", "near", "question"]

_AT_MOST = 3
_USUAL = ("container", "image", "volume")


def commands(word: str, here: Iterable[str], groups: Mapping[str, Iterable[str]]) -> list[str]:
    """Names like ``word`` among those of ``here``, or where some of ``groups`` have ``word``."""
    having = [group for group, names in groups.items() if word in names]
    having.sort(key=lambda group: (group not in _USUAL, group))
    return [f"{group} {word}" for group in having[:_AT_MOST]] or near(word, here)


def near(word: str, words: Iterable[str]) -> list[str]:
    """Those that begin with it, or look most like it: a few."""
    known = sorted(set(words))
    begun = [one for one in known if len(word) > 1 and one.startswith(word)]
    if begun:
        return begun[:_AT_MOST]
    return difflib.get_close_matches(word, known, _AT_MOST, 0.65)


def question(found: Iterable[str]) -> str:
    """``: did you mean …?``, nothing where nothing was found."""
    words = [f"'{one}'" for one in found]
    if not words:
        return ""
    *first, last = words
    text = f"{', '.join(first)} or {last}" if first else last
    return f": did you mean {text}?"
