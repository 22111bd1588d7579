"""Mount options as fstab writes them."""

from __future__ import annotations

import pytest

from cored import linux
from cored.linux import parse_options


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ([], 0),
        (["defaults"], 0),
        (["ro"], linux.MS_RDONLY),
        (["rbind", "ro"], linux.MS_BIND | linux.MS_REC | linux.MS_RDONLY),
        (["bind", "nosuid", "nodev", "noexec"], linux.MS_BIND | 2 | 4 | 8),
        (["noatime", "nodiratime", "relatime"], 1024 | 2048 | (1 << 21)),
        (["strictatime", "lazytime", "sync", "dirsync"], (1 << 24) | (1 << 25) | 16 | 128),
        (["remount", "silent", "mand", "nosymfollow"], 32 | 32768 | 64 | 256),
    ],
)
def test_names_become_flags(options: list[str], flags: int) -> None:
    assert parse_options(options) == (flags, [], [])


@pytest.mark.parametrize(
    ("on", "off"),
    [
        ("ro", "rw"),
        ("nosuid", "suid"),
        ("nodev", "dev"),
        ("noexec", "exec"),
        ("sync", "async"),
        ("noatime", "atime"),
        ("relatime", "norelatime"),
        ("strictatime", "nostrictatime"),
        ("lazytime", "nolazytime"),
        ("silent", "loud"),
    ],
)
def test_of_opposites_the_last_one_counts(on: str, off: str) -> None:
    set_flags, _, _ = parse_options([off, on])
    assert set_flags != 0
    assert parse_options([on, off]) == (0, [], [])


def test_propagation_is_told_apart_and_keeps_its_order() -> None:
    assert parse_options(["rslave", "rbind", "shared"]) == (
        linux.MS_BIND | linux.MS_REC,
        [linux.MS_SLAVE | linux.MS_REC, linux.MS_SHARED],
        [],
    )


def test_what_is_no_flag_is_for_the_filesystem_in_its_order() -> None:
    options = ["index=off", "ro", "lowerdir=/a:/b", "", "size=1m", "userxattr"]
    flags, _, data = parse_options(options)
    assert flags == linux.MS_RDONLY
    assert data == ["index=off", "lowerdir=/a:/b", "size=1m", "userxattr"]
