"""Tables, templates, sizes, ages and JSON on standard output."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

__all__ = [
    "NONE",
    "Fields",
    "age",
    "as_json",
    "choice",
    "digest",
    "familiar",
    "image_name",
    "instant",
    "iso",
    "listing",
    "local",
    "size",
    "table",
    "template_option",
    "templated",
]

NONE = "<none>"
"""What has no name, as docker writes it."""

Command = TypeVar("Command", bound=Callable[..., Any])


class Fields(dict[str, Any]):
    """A record, and what only templates see of it: ``unset`` has what JSON leaves out, too."""

    def __init__(self, values: Mapping[str, Any], unset: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.unset = unset


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


def template_option(command: Command) -> Command:
    """Decorate with docker's option --format: table, json, a template, or table and a template."""
    option = click.option(
        "--format",
        "form",
        default="",
        metavar="table|json|TEMPLATE",
        help="A table, JSON, or a Go template such as {{.ID}}; 'table TEMPLATE' has a head.",
    )
    return option(command)


def listing(
    form: str,
    columns: Mapping[str, str],
    records: Sequence[Mapping[str, Any]],
    *,
    headings: Mapping[str, str] | None = None,
) -> None:
    """Print records as docker's listings do.

    ``form`` is '' or table, json (a line for each), a template (a line for each), or ``table``
    and a template, whose columns tabs divide. ``columns`` are the fields of the plain table with
    their headings, ``headings`` those of other fields.
    """
    heads = {**(headings or {}), **columns}
    if form in ("", "table"):
        rows = [[str(record[name]) for name in columns] for record in records]
        table(list(columns.values()), rows)
        return
    if form == "json":
        form = "{{json .}}"
    from corectl.templates import Template

    # a shell hands \\t and \\n over as they are written
    text = form.replace("\\t", "\t").replace("\\n", "\n")
    if not text.startswith("table"):
        template = Template(text)
        for record in records:
            click.echo(template.render(record))
        return
    template = Template(text.removeprefix("table").strip(" "))
    lines = [template.headers(heads), *(template.render(record) for record in records)]
    cells = [line.split("\t") for line in lines]
    width = max(map(len, cells))
    padded = [[*row, *[""] * (width - len(row))] for row in cells]
    table(padded[0], padded[1:])


def templated(form: str, records: Sequence[Mapping[str, Any]]) -> None:
    """Print what inspect found: a JSON list, or a template's line for each."""
    if form in ("", "json"):
        as_json(records)
    else:
        listing(form, {}, records)


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


def instant(text: str) -> float:
    """RFC 3339 as Unix seconds; 0 for what is no time."""
    from datetime import UTC, datetime

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def local(seconds: int) -> str:
    """A time (Unix seconds) as docker writes it: 2026-01-31 12:00:00 +0100 CET."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(seconds))


def image_name(name: str) -> tuple[str, str]:
    """Repository and tag of an image's complete name, as people write them; ``<none>``."""
    from cored.errors import InvalidArgument
    from cored.oci.digest import is_digest
    from cored.oci.reference import parse

    if is_digest(name):
        return NONE, NONE
    try:
        reference = parse(name)
    except InvalidArgument:
        return name, NONE
    repository = reference.familiar.partition("@")[0]
    return repository.removesuffix(f":{reference.tag}"), reference.tag or NONE


def familiar(name: str) -> str:
    """An image's complete name as people write it."""
    from cored.errors import InvalidArgument
    from cored.oci.reference import parse

    try:
        return parse(name).familiar
    except InvalidArgument:
        return name


def iso(seconds: int, nanos: int) -> str:
    """A time as RFC 3339 in UTC; empty for never."""
    if seconds <= 0:
        return ""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanos:09}Z"


def digest(value: str) -> str:
    """The first twelve digits of a digest or id."""
    return value.rpartition(":")[2][:12]
