""".dockerignore: which files of a context do not belong to it (moby's patternmatcher's rules).

One pattern a line; ``#`` at the beginning is a comment; a leading ``!`` takes back; the last line
that fits decides; ``**`` is any number of directories; a pattern that fits a directory fits all in
it. Patterns are relative to the root of the context, with or without a slash at the beginning.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Ignore", "glob", "read"]


@dataclass(frozen=True, slots=True)
class _Pattern:
    negated: bool
    expression: re.Pattern[str]
    text: str


@dataclass(frozen=True, slots=True)
class Ignore:
    """The patterns of one file, in its order."""

    patterns: tuple[_Pattern, ...]

    @classmethod
    def of(cls, patterns: Iterable[str]) -> Ignore:
        """From cleaned patterns. ValueError names the one that cannot be."""
        made = []
        for text in patterns:
            negated = text.startswith("!")
            bare = text[1:] if negated else text
            made.append(_Pattern(negated, re.compile(glob(bare)), bare))
        return cls(tuple(made))

    def ignored(self, path: str) -> bool:
        """Whether ``path`` (relative, with slashes) is left out, by itself or by what it is in."""
        left_out = False
        parents = _parents(path)
        for pattern in self.patterns:
            if pattern.negated != left_out:
                continue
            if any(pattern.expression.fullmatch(entry) for entry in parents):
                left_out = not pattern.negated
        return left_out

    def prunable(self, directory: str) -> bool:
        """Whether nothing in an ignored directory can come back."""
        for pattern in self.patterns:
            if not pattern.negated:
                continue
            if "*" in pattern.text.split("/")[0] or "?" in pattern.text or "[" in pattern.text:
                return False
            fixed = pattern.text.split("*")[0]
            if f"{fixed}/".startswith(f"{directory}/") or f"{directory}/".startswith(f"{fixed}/"):
                return False
            if "*" in pattern.text and directory.startswith(fixed.rpartition("/")[0]):
                return False
        return True


def _parents(path: str) -> Sequence[str]:
    parts = path.split("/")
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


def read(text: str) -> Ignore:
    """The patterns of a .dockerignore. ValueError names the one that cannot be."""
    patterns = []
    for line in text.removeprefix("\ufeff").splitlines():
        if line.startswith("#") or not line.strip():
            continue
        pattern = line.strip()
        negated = pattern.startswith("!")
        if negated:
            pattern = pattern[1:].strip()
            if not pattern:
                raise ValueError("pattern '!': takes back nothing")
        pattern = posixpath.normpath(pattern).replace("//", "/")
        if len(pattern) > 1:
            pattern = pattern.lstrip("/")
        if pattern == ".":
            continue
        patterns.append(f"!{pattern}" if negated else pattern)
    return Ignore.of(patterns)


def glob(pattern: str) -> str:
    """A pattern as a regular expression for the whole of a path. ValueError."""
    out = []
    place = 0
    while place < len(pattern):
        char = pattern[place]
        place += 1
        if char == "*":
            if pattern[place : place + 1] == "*":
                place += 1
                if pattern[place : place + 1] == "/":
                    place += 1
                    out.append("(?:.*/)?")
                else:
                    out.append(".*")
            else:
                out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "\\" and place < len(pattern):
            out.append(re.escape(pattern[place]))
            place += 1
        elif char == "[":
            end = pattern.find("]", place + 1)
            if end < 0:
                raise ValueError(f"pattern {pattern!r}: a bracket has no end")
            inside = pattern[place:end]
            inside = f"^{inside[1:]}" if inside.startswith(("^", "!")) else inside
            out.append(f"[{inside}]")
            place = end + 1
        else:
            out.append(re.escape(char))
    return "".join(out)
