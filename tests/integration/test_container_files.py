"""Files of containers: cp both ways, diff, commit, export."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemons import Daemon

pytestmark = pytest.mark.root

_TREE = """
mkdir -p /src/sub /dir; echo a >/src/a; echo b >/src/sub/b; ln -s /src/a /src/link
ln /src/a /src/hard; ln -s /src /to-src; chown 5:6 /src/a; chmod 600 /src/a; sleep 1000
"""


def said(daemon: Daemon, *arguments: str, **options: object) -> str:
    return daemon.corectl(*arguments, check=True, **options).stdout.decode().strip()


@pytest.fixture(scope="module", params=["running", "stopped"])
def box(daemon: Daemon, request: pytest.FixtureRequest) -> Iterator[str]:
    """A container with a small tree."""
    name = str(request.param)
    daemon.corectl("run", "-d", "--name", name, "busybox", "sh", "-c", _TREE, check=True)
    while daemon.corectl("exec", name, "sh", "-c", 'test "$(stat -c %a /src/a)" = 600').returncode:
        continue
    if name == "stopped":
        daemon.corectl("stop", "-t", "0", name, check=True)
    yield name
    daemon.corectl("rm", "-f", name, check=True)


def test_a_file_out(daemon: Daemon, box: str, tmp_path: Path) -> None:
    said(daemon, "cp", f"{box}:/src/a", str(tmp_path / "new"))
    assert (tmp_path / "new").read_text() == "a\n"
    said(daemon, "cp", f"{box}:/src/a", str(tmp_path))
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "a").stat().st_uid == os.geteuid()
    said(daemon, "cp", "-a", f"{box}:/src/a", str(tmp_path))
    assert (tmp_path / "a").stat().st_uid == 5


def test_a_directory_out(daemon: Daemon, box: str, tmp_path: Path) -> None:
    said(daemon, "cp", f"{box}:/src", str(tmp_path))
    assert (tmp_path / "src/sub/b").read_text() == "b\n"
    assert os.readlink(tmp_path / "src/link") == "/src/a"
    assert (tmp_path / "src/hard").stat().st_ino == (tmp_path / "src/a").stat().st_ino
    said(daemon, "cp", f"{box}:/src", str(tmp_path / "other"))
    assert (tmp_path / "other/a").exists()
    said(daemon, "cp", f"{box}:/src/.", str(tmp_path / "dot"))
    assert sorted(os.listdir(tmp_path / "dot")) == ["a", "hard", "link", "sub"]
    (tmp_path / "file").touch()
    assert b"is a file" in daemon.corectl("cp", f"{box}:/src", str(tmp_path / "file")).stderr


def test_links_out(daemon: Daemon, box: str, tmp_path: Path) -> None:
    said(daemon, "cp", f"{box}:/src/link", str(tmp_path / "as-it-is"))
    assert os.readlink(tmp_path / "as-it-is") == "/src/a"
    said(daemon, "cp", "-L", f"{box}:/src/link", str(tmp_path / "followed"))
    assert (tmp_path / "followed").read_text() == "a\n"
    assert not (tmp_path / "followed").is_symlink()
    said(daemon, "cp", f"{box}:/to-src/.", str(tmp_path / "through"))
    assert (tmp_path / "through/sub/b").exists()


def test_files_in(daemon: Daemon, box: str, tmp_path: Path) -> None:
    (tmp_path / "one").write_text("1\n")
    (tmp_path / "tree/deep").mkdir(parents=True)
    (tmp_path / "tree/deep/f").write_text("deep\n")

    def inside(path: str) -> str:
        return said(daemon, "cp", f"{box}:{path}", "-", text=False) and subprocess.run(
            ["tar", "xO"],
            input=daemon.corectl("cp", f"{box}:{path}", "-", check=True).stdout,
            capture_output=True, check=True,
        ).stdout.decode()  # fmt: skip

    said(daemon, "cp", str(tmp_path / "one"), f"{box}:/dir")
    assert inside("/dir/one") == "1\n"
    said(daemon, "cp", str(tmp_path / "one"), f"{box}:/dir/two")
    assert inside("/dir/two") == "1\n"
    said(daemon, "cp", str(tmp_path / "tree"), f"{box}:/dir")
    assert inside("/dir/tree/deep/f") == "deep\n"
    said(daemon, "cp", f"{tmp_path}/tree/.", f"{box}:/dir")
    assert inside("/dir/deep/f") == "deep\n"
    said(daemon, "cp", str(tmp_path / "one"), f"{box}:/to-src")
    assert inside("/src/one") == "1\n"
    missing = daemon.corectl("cp", str(tmp_path / "one"), f"{box}:/none/there")
    assert missing.returncode == 1
    assert b"no such file" in missing.stderr
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        member = tarfile.TarInfo("from-tar")
        member.uid = 11
        archive.addfile(member)
    daemon.corectl("cp", "-", f"{box}:/dir", input=tar.getvalue(), check=True)
    found = daemon.corectl("cp", f"{box}:/dir/from-tar", "-", check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(found)) as archive:
        assert archive.getmembers()[0].uid == 11


def test_no_link_leads_out_of_a_container(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the host\n")
    script = f"ln -s {tmp_path} /out; ln -s {tmp_path}/secret /file; sleep 1000"
    daemon.corectl("run", "-d", "--name", "escapes", "busybox", "sh", "-c", script, check=True)
    while daemon.corectl("exec", "escapes", "test", "-L", "/file").returncode:
        continue
    for options in ((), ("-L",)):
        done = daemon.corectl("cp", *options, "escapes:/out/secret", "-")
        assert done.returncode == 1
        assert b"of the host" not in done.stdout
    assert daemon.corectl("cp", "-L", "escapes:/file", "-").returncode == 1
    (tmp_path / "mine").write_text("x")
    assert daemon.corectl("cp", str(tmp_path / "mine"), "escapes:/out/secret").returncode == 1
    assert (tmp_path / "secret").read_text() == "of the host\n"
    daemon.corectl("rm", "-f", "escapes", check=True)


def test_volumes_are_seen_by_cp_and_not_by_export(daemon: Daemon, tmp_path: Path) -> None:
    daemon.corectl("run", "--name", "vols", "-v", "/data", "busybox", "sh", "-c", "echo v >/data/f",
                   check=True)  # fmt: skip
    said(daemon, "cp", "vols:/data/f", str(tmp_path / "f"))
    assert (tmp_path / "f").read_text() == "v\n"
    said(daemon, "export", "-o", str(tmp_path / "tar"), "vols")
    with tarfile.open(tmp_path / "tar") as archive:
        names = archive.getnames()
    assert "data" in names
    assert "data/f" not in names
    assert "bin/busybox" in names
    daemon.corectl("rm", "-v", "vols", check=True)


def test_diff_tells_additions_changes_and_deletions(daemon: Daemon) -> None:
    script = "echo x >/new; mkdir /d; touch /d/f; echo y >>/etc/passwd; rm /etc/group"
    daemon.corectl("run", "--name", "differs", "busybox", "sh", "-c", script, check=True)
    assert said(daemon, "diff", "differs").splitlines() == [
        "A /d", "A /d/f", "C /etc", "D /etc/group", "C /etc/passwd", "A /new",
    ]  # fmt: skip
    daemon.corectl("rm", "differs", check=True)
    daemon.corectl("run", "--name", "same", "busybox", "true", check=True)
    assert said(daemon, "diff", "same") == ""
    daemon.corectl("rm", "same", check=True)


def test_commit_makes_an_image_that_runs(daemon: Daemon) -> None:
    daemon.corectl("run", "-d", "--name", "grows", "-e", "KEPT=yes", "busybox", "sh", "-c",
                   "echo grown >/grown; sleep 1000", check=True)  # fmt: skip
    while daemon.corectl("exec", "grows", "test", "-s", "/grown").returncode:
        continue
    id = said(
        daemon, "commit", "-a", "me", "-m", "why",
        "-c", "ENV A=1 B=2", "-c", 'CMD ["cat","/grown"]',
        "-c", "LABEL x=y", "-c", "EXPOSE 80", "-c", "USER 7", "-c", "WORKDIR /tmp", "grows",
        "grown:1",
    )  # fmt: skip
    (image,) = json.loads(said(daemon, "image", "inspect", "grown:1"))
    assert image["Id"] == id
    assert {"A=1", "B=2", "KEPT=yes"} <= set(image["Config"]["Env"])
    assert (image["Config"]["User"], image["Config"]["WorkingDir"]) == ("7", "/tmp")
    assert image["Config"]["Labels"] == {"x": "y"}
    assert "why" in said(daemon, "history", "grown:1")
    assert said(daemon, "run", "--rm", "grown:1") == "grown"
    assert "running" in said(daemon, "ps", "--format", "{{.State}}")
    assert b"not understood" in daemon.corectl("commit", "-c", "RUN x", "grows").stderr
    nameless = said(daemon, "commit", "grows")
    assert said(daemon, "run", "--rm", nameless, "cat", "/grown") == "grown"
    daemon.corectl("rm", "-f", "grows", check=True)


@pytest.mark.parametrize("status", ["running", "created"])
def test_who_reads_its_files_leaves_a_container_able_to_write(
    daemon: Daemon, tmp_path: Path, status: str
) -> None:
    name = f"writes-{status}"
    daemon.corectl("create", "--name", name, "busybox", "sleep", "1000", check=True)
    (tmp_path / "in").write_text("came in\n")
    try:
        if status == "running":
            said(daemon, "start", name)
            said(daemon, "exec", name, "sh", "-c", "echo new > /root/new; rm /bin/wc")
        archive = tmp_path / "all.tar"
        said(daemon, "export", "-o", str(archive), name)
        said(daemon, "commit", name, f"{name}:1")
        said(daemon, "diff", name)
        said(daemon, "why", name)
        said(daemon, "cp", f"{name}:/etc", str(tmp_path / "etc"))
        said(daemon, "cp", str(tmp_path / "in"), f"{name}:/usr")
        if status == "running":
            with tarfile.open(archive) as tar:
                names = {one.name.removeprefix("./") for one in tar}
            assert "root/new" in names
            assert "bin/wc" not in names
            layered = said(daemon, "run", "--rm", f"{name}:1", "sh", "-c", "ls /bin /root")
            assert "new" in layered.split()
            assert "wc" not in layered.split()
        else:
            said(daemon, "start", name)
        # directories that were not written to before: the kernel makes them above
        said(daemon, "exec", name, "sh", "-c", "echo x > /tmp/x; echo x > /var/x; rm /bin/vi")
        assert said(daemon, "exec", name, "cat", "/usr/in", "/tmp/x", "/var/x") == "came in\nx\nx"
    finally:
        daemon.corectl("rm", "-f", name)
        daemon.corectl("rmi", f"{name}:1")
