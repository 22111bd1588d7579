"""docker's filters of images, and what they say of a record."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from cored.engine.image_filters import ImageFilters
from cored.errors import InvalidArgument

NAME = "docker.io/library/debian:bookworm"
DAYS = {"old:1": "2020-01-01T00:00:00Z", "new:1": "2024-01-01T00:00:00.123456789Z"}


async def passes(
    *filters: str, name: str = NAME, created: str = "2022-06-01T12:00:00Z", **labels: str
) -> bool:
    async def made(image: str) -> str:
        return DAYS[image]

    found = await ImageFilters.parsed(filters, made)
    return found.pass_(name, created, labels)


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("debian", True),
        ("debian:bookworm", True),
        ("deb*", True),
        ("*:bookworm", True),
        ("docker.io/library/debian", True),
        ("*/library/*", True),
        ("debian:trixie", False),
        ("*bookworm/x", False),
        ("d[aeiou]bian", True),
        ("debia?", True),
        ("library/*", False),
    ],
)
async def test_references_are_patterns(pattern: str, fits: bool) -> None:
    assert await passes(f"reference={pattern}") is fits


async def test_one_of_several_references_is_enough_and_every_label_is_needed() -> None:
    assert await passes("reference=nothing", "reference=debian")
    assert await passes("label=a", "label=b=2", a="1", b="2")
    assert not await passes("label=a", "label=b=3", a="1", b="2")
    assert not await passes("label!=a", a="1")
    assert await passes("label!=a=2", a="1")


async def test_what_has_no_name_dangles() -> None:
    digest = "sha256:" + "ab" * 32
    assert await passes("dangling=true", name=digest)
    assert not await passes("dangling=true")
    assert await passes("dangling=false")


async def test_times_are_those_of_other_images_or_given() -> None:
    assert await passes("since=old:1", "before=new:1")
    assert not await passes("since=new:1")
    assert not await passes("before=old:1")
    assert await passes("until=2023-01-01")
    assert not await passes("until=2022-06-01T11:59:59Z")
    now = datetime.fromtimestamp(time.time() - 3600, UTC).isoformat()
    assert await passes("until=30m", created=now)
    assert not await passes("until=1h30m", created=now)


@pytest.mark.parametrize("text", ["nonsense", "colour=red", "dangling=maybe", "until=soon"])
async def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        await passes(text)
