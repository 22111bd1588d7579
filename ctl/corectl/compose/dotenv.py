"""Files of environment variables: .env and env_file."""

from __future__ import annotations

import re
from pathlib import Path

from corectl.compose.interpolation import Lookup, Missing, substitute
from cored.errors import InvalidArgument, NotFound

__all__ = ["parse", "read"]

_LINE = re.compile(
    r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.\-\[\]]*)[ \t]*(?:([=:])[ \t]*|(?=\n|\Z|#))"
)
_BARE = re.compile(r"[^\n]*")
_SKIP = re.compile(r"(?:\s+|#[^\n]*)*")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "f": "\f", "b": "\b"}


def read(path: Path, lookup: Lookup, *, raw: bool = False) -> dict[str, str]:
    """The variables of a file. NotFound, InvalidArgument.

    Their values may use variables of ``lookup`` and of the lines before; a name alone takes the
    value that ``lookup`` has. ``raw``: a value is all behind the equals sign, as it is.
    """
    try:
        text = path.read_text()
    except FileNotFoundError as error:
        raise NotFound(f"env file {path}: not found") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"env file {path}: cannot be read: {error}") from error
    return _raw(text, lookup) if raw else parse(text, str(path), lookup)


def _raw(text: str, lookup: Lookup) -> dict[str, str]:
    found = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if not name.strip() or name.lstrip().startswith("#"):
            continue
        own = value if equals else lookup(name.strip())
        if own is not None:
            found[name.strip()] = own
    return found


def parse(text: str, file: str, lookup: Lookup) -> dict[str, str]:
    """The variables of a file's text. InvalidArgument names the line."""
    found: dict[str, str] = {}

    def value_of(name: str) -> str | None:
        own = lookup(name)
        return found.get(name) if own is None else own

    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    at = 0
    while True:
        skipped = _SKIP.match(text, at)
        at = skipped.end() if skipped else at
        if at >= len(text):
            return found
        line = text.count("\n", 0, at) + 1
        head = _LINE.match(text, at)
        if head is None:
            word = text[at:].partition("\n")[0]
            raise InvalidArgument(f"{file}:{line}: '{word}': not NAME=VALUE")
        at = head.end()
        if head[2] is None:
            if (own := value_of(head[1])) is not None:
                found[head[1]] = own
            continue
        try:
            found[head[1]], at = _value(text, at, value_of)
        except Missing as error:
            raise InvalidArgument(f"{file}:{line}: {head[1]}: {error}") from error
        except ValueError as error:
            raise InvalidArgument(f"{file}:{line}: {head[1]}: {error}") from error


def _value(text: str, at: int, lookup: Lookup) -> tuple[str, int]:
    quote = text[at : at + 1]
    if quote not in ("'", '"') or not quote:
        bare = _BARE.match(text, at)
        assert bare is not None
        words = re.split(r"(?:^|[ \t])#", bare[0], maxsplit=1)[0]
        return substitute(words.strip(), lookup), bare.end()
    end = at + 1
    while end < len(text) and text[end] != quote:
        end += 2 if text[end] == "\\" else 1
    if end >= len(text):
        raise ValueError(f"a quote {quote} is not closed")
    inner, rest = text[at + 1 : end], _BARE.match(text, end + 1)
    assert rest is not None
    if rest[0].strip() and not rest[0].strip().startswith("#"):
        raise ValueError(f"'{rest[0].strip()}' behind the closing quote")
    if quote == "'":
        return inner.replace("\\'", "'"), rest.end()
    return substitute(_unescaped(inner), lookup), rest.end()


def _unescaped(text: str) -> str:
    """Escapes of a double-quoted value; ``\\$`` becomes what interpolation takes for a dollar."""

    def one(found: re.Match[str]) -> str:
        letter = found[1]
        return "$$" if letter == "$" else _ESCAPES.get(letter, f"\\{letter}")

    return re.sub(r"\\(.)", one, text, flags=re.DOTALL)
