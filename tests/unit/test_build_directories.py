"""Contexts as they are received: what listings may say, what is kept, what is asked for."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from cored_service_build.directories import Entry, Kept, Receiving

from cored import scope
from cored.errors import InvalidArgument

FILE, DIRECTORY, LINK = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    (tmp_path / "spool").mkdir()
    with scope.entered(scope.Scope("default")):
        yield Kept(tmp_path / "contexts", 100)


def received(kept: Kept, place: Path, entries: list[Entry], data: bytes, key: str = "k") -> int:
    """How many files were wanted."""
    receiving = Receiving(place, key, entries)
    wanted = receiving.begin(kept)
    try:
        receiving.write(data)
        receiving.end()
    finally:
        receiving.close()
    receiving.keep(kept)
    return len(wanted)


@pytest.mark.parametrize(
    "entries",
    [
        [Entry("../out", FILE)],
        [Entry("/absolute", FILE)],
        [Entry("a//b", FILE)],
        [Entry("", DIRECTORY)],
        [Entry("a\0b", FILE)],
        [Entry("a", FILE), Entry("a", FILE)],
        [Entry("a", LINK, link="/etc"), Entry("a/passwd", FILE)],
        [Entry("a", FILE), Entry("a/b", FILE)],
        [Entry("device", stat.S_IFBLK | 0o600)],
    ],
)
def test_a_listing_that_leads_elsewhere_is_refused(
    entries: list[Entry], kept: Kept, tmp_path: Path
) -> None:
    with pytest.raises(InvalidArgument):
        Receiving(tmp_path / "spool/0", "k", entries).begin(kept)


def test_keys_are_no_paths(kept: Kept, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument):
        Receiving(tmp_path / "spool/0", "../k", []).begin(kept)


@pytest.mark.parametrize(("data", "told"), [(b"abc", "more data"), (b"a", "ended within 'f'")])
def test_data_is_what_was_announced(data: bytes, told: str, kept: Kept, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=told):
        received(kept, tmp_path / "spool/0", [Entry("f", FILE, 2)], data)


def test_directories_that_nobody_listed_come_and_go_with_their_files(
    kept: Kept, tmp_path: Path
) -> None:
    first, second = tmp_path / "spool/0", tmp_path / "spool/1"
    assert received(kept, first, [Entry("d/e/f", FILE, 1), Entry("g", FILE, 1)], b"fg") == 2
    assert Receiving(second, "k", [Entry("g", FILE, 1)]).begin(kept) == []
    assert [path.name for path in second.iterdir()] == ["g"]


def test_the_least_recently_used_goes_when_all_are_too_large(kept: Kept, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        entries = [Entry("f", FILE, 40, stamp=name)]
        assert received(kept, tmp_path / f"spool/{name}", entries, b"x" * 40, name) == 1
    assert kept.take("a", tmp_path / "spool/d") == {}
    assert set(kept.take("b", tmp_path / "spool/e")) == {"f"}
    assert not list((tmp_path / "spool").glob("gone-*"))
