"""From a Dockerfile's text to its logical lines: directives, continuations, comments, heredocs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from cored_service_build.dockerfile.source import Range, Source

__all__ = ["Heredoc", "Line", "directives", "logical_lines"]

_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*$")
_KNOWN = ("syntax", "escape", "check")
_COMMENT = re.compile(r"\s*#")
_KEYWORD = re.compile(r"\s*(\S+)\s*(.*)", re.DOTALL)
_HEREDOC = re.compile(r"(\d*)<<(-?)([^<\s]+)$")
_TAKES_HEREDOCS = ("RUN", "COPY", "ADD")


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A document in the file; ``expand`` says whether its variables mean anything."""

    name: str
    content: str
    expand: bool = True
    chomp: bool = False
    descriptor: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One instruction as written: its word as typed, and all behind it in one line."""

    word: str
    rest: str
    where: Range
    heredocs: tuple[Heredoc, ...] = ()
    empty_continuation: int = 0
    """A blank line within it, which a later version of the syntax may refuse; 0 for none."""

    @property
    def keyword(self) -> str:
        return self.word.upper()


@dataclass(slots=True)
class _Reader:
    source: Source
    escape: str
    number: int = 0
    pattern: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        escape = re.escape(self.escape)
        self.pattern = re.compile(rf"(?:(?<=[^{escape}])|^){escape}[ \t]*$")

    def next(self) -> str | None:
        if self.number >= len(self.source.lines):
            return None
        self.number += 1
        return self.source.lines[self.number - 1]


def directives(source: Source) -> Mapping[str, str]:
    """The parser directives at the top (syntax, escape, check), values as written.

    DockerfileError for one that is there twice, and an escape that is none.
    """
    found: dict[str, str] = {}
    for number, text in enumerate(source.lines, 1):
        match = _DIRECTIVE.match(text.strip())
        if match is None or match[1].lower() not in _KNOWN:
            break
        name = match[1].lower()
        if name in found:
            raise source.error(Range(number, number), f"directive {name!r}: is there twice")
        if name == "escape" and match[2] not in ("\\", "`"):
            raise source.error(
                Range(number, number), f"escape {match[2]!r}: unknown", hint="\\ or `"
            )
        found[name] = match[2]
    return found


def logical_lines(source: Source, escape: str = "\\") -> Iterator[Line]:
    """The instructions. DockerfileError for a here-document without its end."""
    reader = _Reader(source, escape)
    while (text := reader.next()) is not None:
        if not text.strip() or _COMMENT.match(text):
            continue
        first = reader.number
        whole, blank = _continued(reader, text)
        match = _KEYWORD.match(whole)
        assert match is not None
        word, rest = match[1], match[2].strip()
        heredocs = _heredocs(reader, word, rest, first)
        yield Line(word, rest, Range(first, reader.number), heredocs, blank)


def _continued(reader: _Reader, text: str) -> tuple[str, int]:
    """The line with those that go on with it, comments and blank lines left out."""
    parts, blank, last = [], 0, reader.number
    while True:
        cut = reader.pattern.sub("", text)
        parts.append(cut)
        if cut == text:
            break
        last = reader.number
        empty = 0
        following = reader.next()
        while following is not None and (not following.strip() or _COMMENT.match(following)):
            empty = empty or (0 if following.strip() else reader.number)
            following = reader.next()
        if following is None:
            reader.number = last
            break
        blank = blank or empty
        text = following
    return "".join(parts), blank


def _heredocs(reader: _Reader, word: str, rest: str, first: int) -> tuple[Heredoc, ...]:
    """The documents that the words of ``rest`` begin, read from the lines that follow."""
    words = rest.split()
    keyword = word.upper()
    if keyword == "ONBUILD" and words:
        keyword = words[0].upper()
    if keyword not in _TAKES_HEREDOCS or "<<" not in rest or rest.startswith("["):
        return ()
    return tuple(
        _document(reader, match, first) for text in _outside_quotes(rest)
        if (match := _HEREDOC.match(text))
    )  # fmt: skip


def _outside_quotes(text: str) -> list[str]:
    """Words between blanks; those within quotes stay part of one word."""
    return re.findall(r"""(?:[^\s'"]|'[^']*'|"(?:\\.|[^"\\])*")+""", text)


def _document(reader: _Reader, match: re.Match[str], first: int) -> Heredoc:
    name = match[3]
    bare = name.replace("'", "").replace('"', "")
    chomp = bool(match[2])
    lines: list[str] = []
    while (text := reader.next()) is not None:
        text = text.lstrip("\t") if chomp else text
        if text == bare:
            content = "".join(f"{line}\n" for line in lines)
            return Heredoc(bare, content, bare == name, chomp, match[1])
        lines.append(text)
    raise reader.source.error(
        Range(first, first), f"here-document {bare!r}: has no end", hint=f"a line {bare}"
    )
