"""Where a piece of a Dockerfile stands, and errors that show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cored.errors import InvalidArgument

__all__ = ["DockerfileError", "Range", "Source", "nearest"]

_AROUND = 2


@dataclass(frozen=True, slots=True)
class Range:
    """Lines from ``first`` to ``last``, counted from 1."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Source:
    """A Dockerfile's text under the name that errors call it by."""

    name: str
    lines: tuple[str, ...]

    def excerpt(self, where: Range) -> str:
        """The lines and what is around them, the lines themselves marked."""
        first = max(1, where.first - _AROUND)
        last = min(len(self.lines), where.last + _AROUND)
        shown = [
            f"{n:4} | {'>>>' if where.first <= n <= where.last else '   '} {self.lines[n - 1]}"
            for n in range(first, last + 1)
        ]
        return "\n".join(line.rstrip() for line in shown)

    def error(self, where: Range, what: str, hint: str | None = None) -> DockerfileError:
        """An error about these lines."""
        return DockerfileError(self, where, what, hint)


class DockerfileError(InvalidArgument):
    """What cannot be read, with its file, line and text."""

    def __init__(self, source: Source, where: Range, what: str, hint: str | None = None) -> None:
        told = what if hint is None else f"{what} ({hint})"
        super().__init__(f"{source.name}:{where.first}: {told}\n{source.excerpt(where)}")
        self.where = where
        self.what = what
        self.hint = hint


def nearest(word: str, known: Sequence[str]) -> str | None:
    """A hint at the known word that somebody may have meant."""
    import difflib  # only for those who err

    found = difflib.get_close_matches(word, known, 1)
    return f"did you mean {found[0]}?" if found else None
