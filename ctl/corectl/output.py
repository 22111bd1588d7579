"""Tables, sizes, ages and JSON on standard output."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

__all__ = ["age", "as_json", "choice", "digest", "iso", "size", "table"]

Command = TypeVar("Command", bound=Callable[..., Any])

_STEPS = ((31_536_000, "year"), (2_592_000, "month"), (604_800, "week"), (86_400, "day"),
          (3_600, "hour"), (60, "minute"), (1, "second"))  # fmt: skip


def choice(command: Command) -> Command:
    """Decorate with the option --format table|json."""
    option = click.option(
        "--format",
        "form",
        type=click.Choice(["table", "json"]),
        default="table",
        help="Table for people, or JSON for programs.",
    )
    return option(command)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns, left-aligned, two spaces or more apart."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("   ".join(cells).rstrip())


def as_json(value: Sequence[Mapping[str, Any]] | Mapping[str, Any]) -> None:
    """Print JSON."""
    import json

    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def size(count: int) -> str:
    """Bytes as people read them: 1.5 MB (thousands, as docker)."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def age(seconds: int) -> str:
    """How long ago a time (Unix seconds; 0 is never) was: 3 minutes."""
    if seconds <= 0:
        return ""
    passed = int(time.time()) - seconds
    for length, name in _STEPS:
        if passed >= length:
            count = passed // length
            return f"{count} {name}{'s' if count > 1 else ''}"
    return "moments"


def iso(seconds: int, nanos: int) -> str:
    """A time as RFC 3339 in UTC; empty for never."""
    if seconds <= 0:
        return ""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanos:09}Z"


def digest(value: str) -> str:
    """The first twelve digits of a digest or id."""
    return value.rpartition(":")[2][:12]
