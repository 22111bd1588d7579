"""Files of containers through ``cored.chrooted``: nothing of the container's is run for it."""

from __future__ import annotations

import bz2
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

_PATIENCE = 60


def _run(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "cored.chrooted", *arguments],
        input=given, capture_output=True, timeout=_PATIENCE, check=False,
    )  # fmt: skip


def test_no_names_are_looked_up_in_the_container(tmp_path: Path) -> None:
    """glibc would load libraries that a container's nsswitch.conf names; here it would hang."""
    (tmp_path / "etc").mkdir()
    for name in ("nsswitch.conf", "passwd", "group"):
        os.mkfifo(tmp_path / "etc" / name)
    (tmp_path / "file").write_text("content")
    done = _run("out", str(tmp_path), "/file")
    assert done.returncode == 0, done.stderr
    line, _, data = done.stdout.partition(b"\n")
    assert json.loads(line)["name"] == "file"
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        (member,) = archive.getmembers()
        assert (member.uid, member.uname, member.gname) == (os.getuid(), "", "")
        found = archive.extractfile(member)
        assert found is not None
        assert found.read() == b"content"


def test_nothing_is_imported_from_the_container(tmp_path: Path) -> None:
    """Python's own path leads into the container once the root has been changed."""
    trap = "open('/trapped', 'w')\nraise ImportError\n"
    for place in (*filter(None, sys.path), "/"):
        home = tmp_path / place.lstrip("/")
        if not place.endswith(".zip"):
            home.mkdir(parents=True, exist_ok=True)
            for name in ("bz2", "_bz2", "lzma", "zlib", "linecache", "traceback"):
                (home / f"{name}.py").write_text(trap)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("came")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"here"))
    done = _run("in", str(tmp_path), "/", given=bz2.compress(packed.getvalue()))
    assert not (tmp_path / "trapped").exists()
    assert (tmp_path / "came").read_bytes() == b"here", done.stderr


def test_a_tree_with_every_kind_of_file_comes_out(tmp_path: Path) -> None:
    (tmp_path / "tree/inner").mkdir(parents=True)
    (tmp_path / "tree/file").write_text("x")
    (tmp_path / "tree/link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "tree/fifo")
    os.link(tmp_path / "tree/file", tmp_path / "tree/same")
    done = _run("out", str(tmp_path), "/tree")
    assert done.returncode == 0, done.stderr
    data = done.stdout.partition(b"\n")[2]
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        kinds = {member.name: member.type for member in archive.getmembers()}
    assert kinds == {
        "tree": tarfile.DIRTYPE,
        "tree/fifo": tarfile.FIFOTYPE,
        "tree/file": tarfile.REGTYPE,
        "tree/inner": tarfile.DIRTYPE,
        "tree/link": tarfile.SYMTYPE,
        "tree/same": tarfile.LNKTYPE,
    }
