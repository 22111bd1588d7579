"""What the daemon reads of an image's files: plain ones of a size that it can hold."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cored import plainfiles
from cored.engine.why.executables import Root, problem


def test_a_file_is_found_by_the_images_links(tmp_path: Path) -> None:
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr/passwd").write_bytes(b"root:x:0:0\n\xff")
    (tmp_path / "passwd").symlink_to("/../../usr/passwd")
    assert plainfiles.text(str(tmp_path), "/passwd") == "root:x:0:0\n�"
    assert plainfiles.text(str(tmp_path), "/nothing") == ""


def test_what_is_no_plain_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "passwd", 0o755)  # to open it to read would wait for a writer
    assert plainfiles.text(str(tmp_path), "/passwd") == ""
    assert "plain file" in problem(Root(str(tmp_path)), {}, "/passwd")
    with pytest.raises(OSError, match="plain file"):
        plainfiles.head(str(tmp_path), ".", 1)


def test_of_a_huge_file_only_whole_lines_of_the_beginning_are_read(tmp_path: Path) -> None:
    line = b"0123456789\n"
    with (tmp_path / "passwd").open("wb") as file:
        file.write(line * (5 << 20 >> 3))
        file.truncate(1 << 40)
    found = plainfiles.text(str(tmp_path), "/passwd")
    assert found == "0123456789\n" * ((4 << 20) // len(line))
