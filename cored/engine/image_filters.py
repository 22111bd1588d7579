"""docker's filters of images: reference=, label=, label!=, dangling=, before=, since=, until=."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cored.errors import InvalidArgument
from cored.moments import moment
from cored.oci.digest import is_digest
from cored.oci.reference import parse as parse_reference

__all__ = ["ImageFilters", "seconds"]

_KEYS = ("reference", "label", "label!", "dangling", "before", "since", "until")


@dataclass(slots=True)
class ImageFilters:
    """What a listing asks for: of one key any may fit (but all labels must), of all keys each."""

    references: list[re.Pattern[str]] = field(default_factory=list)
    labels: list[tuple[str, str | None]] = field(default_factory=list)
    without: list[tuple[str, str | None]] = field(default_factory=list)
    dangling: bool | None = None
    after: float | None = None
    before: float | None = None

    @classmethod
    async def parsed(
        cls, filters: Sequence[str], created: Callable[[str], Awaitable[str]]
    ) -> ImageFilters:
        """From ``key=value`` each; ``created`` answers when an image was made. InvalidArgument."""
        made = cls()
        for text in filters:
            key, equals, value = text.partition("=")
            if not equals or key not in _KEYS:
                raise InvalidArgument(
                    f"filter {text!r}: not understood", hint=f"key=value with {', '.join(_KEYS)}"
                )
            await made._add(key, value, created)
        return made

    async def _add(self, key: str, value: str, created: Callable[[str], Awaitable[str]]) -> None:
        name, equals, wanted = value.partition("=")
        match key:
            case "reference":
                self.references.append(_pattern(value))
            case "label":
                self.labels.append((name, wanted if equals else None))
            case "label!":
                self.without.append((name, wanted if equals else None))
            case "dangling":
                if value.lower() not in ("true", "false", "1", "0"):
                    raise InvalidArgument(f"filter dangling={value}: is neither true nor false")
                self.dangling = value.lower() in ("true", "1")
            case "since":
                self.after = seconds(await created(value))
            case "before":
                self.before = seconds(await created(value))
            case _:
                self.before = moment(value) / 10**9

    def pass_(self, name: str, created: str, labels: Mapping[str, str]) -> bool:
        """Whether an image fits: its record's name, its config's time and labels."""
        if self.dangling is not None and self.dangling != is_digest(name):
            return False
        if self.references and not any(_fits(p, name) for p in self.references):
            return False
        if not all(_labelled(labels, *each) for each in self.labels):
            return False
        if any(_labelled(labels, *each) for each in self.without):
            return False
        moment = seconds(created)
        if self.after is not None and moment <= self.after:
            return False
        return self.before is None or moment < self.before


def _labelled(labels: Mapping[str, str], name: str, value: str | None) -> bool:
    return name in labels and value in (None, labels[name])


def _fits(pattern: re.Pattern[str], name: str) -> bool:
    """A pattern is for the name as people write it, with or without its tag, or complete."""
    candidates = {name}
    try:
        reference = parse_reference(name)
    except InvalidArgument:
        pass
    else:
        for text in (str(reference), reference.familiar):
            candidates |= {text, text.removesuffix(f":{reference.tag}")}
    return any(pattern.fullmatch(candidate) for candidate in candidates)


def _pattern(text: str) -> re.Pattern[str]:
    """Go's path.Match: a star stops at slashes."""
    parts = re.split(r"(\*|\?|\[[^\]]+\])", text)
    made = ""
    for part in parts:
        match part[:1]:
            case "*":
                made += "[^/]*"
            case "?":
                made += "[^/]"
            case "[" if len(part) > 2:
                made += part
            case _:
                made += re.escape(part)
    try:
        return re.compile(made)
    except re.error as error:
        raise InvalidArgument(f"filter reference={text}: {error}") from error


def seconds(text: str) -> float:
    """RFC 3339 as Unix seconds; 0 for nothing, and for what is no time."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
