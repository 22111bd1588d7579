"""Files that options name: variables and labels by line; and numbers in them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from cored.errors import InvalidArgument, NotFound

__all__ = ["environment", "lines", "mode", "pairs", "ports"]


def lines(paths: Sequence[str]) -> list[str]:
    """What is in files, line by line, without comments and empty lines. NotFound."""
    found: list[str] = []
    for path in paths:
        try:
            text = Path(path).read_text("utf-8-sig")
        except OSError as error:
            raise NotFound(f"file '{path}': {(error.strerror or 'unreadable').lower()}") from error
        except UnicodeDecodeError as error:
            raise InvalidArgument(f"file '{path}': is not UTF-8") from error
        kept = (line.lstrip() for line in text.splitlines())
        found += [line for line in kept if line and not line.startswith("#")]
    return found


def environment(paths: Sequence[str]) -> list[str]:
    """Variables of --env-file; a name alone takes our value. InvalidArgument."""
    found = []
    for line in lines(paths):
        name, equals, _ = line.partition("=")
        if not name or any(letter.isspace() for letter in name.rstrip()):
            raise InvalidArgument(f"--env-file: '{line}' is not NAME=VALUE")
        if equals:
            found.append(line)
        elif name in os.environ:
            found.append(f"{name}={os.environ[name]}")
    return found


def pairs(given: Iterable[str], option: str = "") -> dict[str, str]:
    """``NAME=VALUE``, a name alone with nothing. InvalidArgument where ``option`` has no name."""
    given = list(given)
    if option and (wrong := next((one for one in given if one[:1] in ("", "=")), None)) is not None:
        raise InvalidArgument(f"--{option} '{wrong}': no name", hint="write NAME=VALUE")
    return {name: value for name, _, value in (text.partition("=") for text in given)}


def ports(given: Sequence[str]) -> list[str]:
    """``80``, ``80-90/udp``, as they are. InvalidArgument."""
    for text in given:
        if not re.fullmatch(r"\d{1,5}(-\d{1,5})?(/(tcp|udp|sctp))?", text):
            raise InvalidArgument(f"--expose '{text}': not understood", hint="write 80 or 53/udp")
    return list(given)


def mode(text: str) -> int | None:
    """Octal digits; None for nothing. InvalidArgument."""
    if not text:
        return None
    try:
        number = int(text, 8)
    except ValueError:
        number = -1
    if not 0 <= number <= 0o777:
        raise InvalidArgument(f"--umask '{text}': not an octal number to 777", hint="write 0027")
    return number
