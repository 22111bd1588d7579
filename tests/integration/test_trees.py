"""Trees that are deeper than a path can be long, than Python recurses, than files may be open."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cored.copies import copy_tree
from cored.trees import disk_usage, opened_directory, remove_tree

DEPTH = 3000
NAME = "directory"  # 3000 of them are seven times PATH_MAX


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    top = tmp_path / "deep"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for level in range(DEPTH):
        os.mkdir(NAME, dir_fd=here)
        if level % 100 == 0:
            os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        following = os.open(NAME, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = following
    file = os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here)
    os.write(file, b"at the bottom")
    os.close(file)
    os.close(here)
    return top


@pytest.fixture(autouse=True)
def gone(tmp_path: Path) -> object:
    """pytest itself could not remove such a tree."""
    yield
    subprocess.run(["rm", "-rf", *tmp_path.iterdir()], check=True)


def bottom(top: Path) -> bytes:
    handle = os.open(top, os.O_RDONLY)
    try:
        with opened_directory(handle, "/".join([NAME] * DEPTH)) as here:
            file = os.open("file", os.O_RDONLY, dir_fd=here)
            try:
                return os.read(file, 100)
            finally:
                os.close(file)
    finally:
        os.close(handle)


def test_a_deep_tree_is_measured(deep: Path) -> None:
    assert disk_usage(deep).inodes == 1 + DEPTH + 31


def test_a_deep_tree_is_removed(deep: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    remove_tree(deep)
    assert not deep.exists()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_deep_tree_is_copied(deep: Path, tmp_path: Path) -> None:
    (deep / "second").hardlink_to(deep / "file")
    target = tmp_path / "copy"
    target.mkdir()
    copy_tree(deep, target)
    assert disk_usage(target) == disk_usage(deep)
    assert bottom(target) == b"at the bottom"
    assert (target / "second").samefile(target / "file")


def test_usage_counts_each_file_once_and_no_holes(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "d").mkdir(parents=True)
    empty = disk_usage(top)
    (top / "file").write_bytes(b"x" * 8192)
    for name in ("a", "d/b"):
        (top / name).hardlink_to(top / "file")
    with (top / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    (top / "link").symlink_to("/usr")
    found = disk_usage(top)
    assert found.inodes == empty.inodes + 3
    assert found.size == empty.size + 8192


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").touch()
    (tmp_path / "top/d").mkdir(parents=True)
    (tmp_path / "top/link").symlink_to("../kept")
    (tmp_path / "top/d/link").symlink_to("../../kept")
    remove_tree(tmp_path / "top")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept/file").exists()
    with pytest.raises(FileNotFoundError):
        remove_tree(tmp_path / "top")
