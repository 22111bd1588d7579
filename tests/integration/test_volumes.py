"""Volumes: named, anonymous, filled from the image, shared, read-only, mounted by options."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.daemons import Daemon

pytestmark = pytest.mark.root


def said(daemon: Daemon, *arguments: str) -> str:
    return daemon.corectl(*arguments, check=True).stdout.decode().strip()


def volumes(daemon: Daemon, *arguments: str) -> set[str]:
    return set(said(daemon, "volume", "ls", "-q", *arguments).split())


def looked(daemon: Daemon, name: str) -> dict[str, Any]:
    (found,) = json.loads(said(daemon, "volume", "inspect", name))
    return dict(found)


def test_a_named_volume_outlives_its_containers(daemon: Daemon) -> None:
    daemon.corectl(
        "run", "--rm", "-v", "kept:/d", "busybox", "sh", "-c", "echo 1 >/d/f", check=True
    )
    assert said(daemon, "run", "--rm", "-v", "kept:/d:ro", "busybox", "cat", "/d/f") == "1"
    refused = daemon.corectl("run", "--rm", "-v", "kept:/d:ro", "busybox", "touch", "/d/g")
    assert b"Read-only" in refused.stderr
    daemon.corectl("volume", "rm", "kept", check=True)


def test_an_anonymous_volume_goes_with_rm_v_and_with_rm(daemon: Daemon) -> None:
    before = volumes(daemon)
    daemon.corectl("run", "--rm", "-v", "/d", "busybox", "true", check=True)
    assert volumes(daemon) == before
    daemon.corectl("create", "--name", "has", "-v", "/d", "busybox", "true", check=True)
    (made,) = volumes(daemon) - before
    assert volumes(daemon, "-f", "dangling=true") == before
    daemon.corectl("rm", "has", check=True)
    assert volumes(daemon, "-f", "dangling=true") == before | {made}
    assert made in said(daemon, "volume", "prune", "-f").split()


def test_a_volume_in_use_is_not_removed(daemon: Daemon) -> None:
    daemon.corectl("create", "--name", "user", "-v", "used:/d", "busybox", "true", check=True)
    refused = daemon.corectl("volume", "rm", "used")
    assert refused.returncode == 1
    assert b"is in use by" in refused.stderr
    assert "used" not in said(daemon, "volume", "prune", "-af").split()
    daemon.corectl("rm", "-v", "user", check=True)
    # it has a name: it is not the container's to take along
    daemon.corectl("volume", "rm", "used", check=True)
    assert b"not found" in daemon.corectl("volume", "rm", "used").stderr
    daemon.corectl("volume", "rm", "-f", "used", check=True)


def test_an_empty_volume_is_filled_with_what_the_image_has_there(daemon: Daemon) -> None:
    base = "mkdir -p /site/in; echo page >/site/in/f; ln /site/in/f /site/g;"
    base += "chown 7:8 /site/in/f; chmod 750 /site"
    daemon.corectl("run", "--name", "made", "busybox", "sh", "-c", base, check=True)
    daemon.corectl("commit", "made", "site:1", check=True)
    look = ("site:1", "stat", "-c", "%u:%g %h", "/site/in/f")
    assert said(daemon, "run", "--rm", "-v", "filled:/site", *look) == "7:8 2"
    assert (
        said(daemon, "run", "--rm", "-v", "filled:/x", "busybox", "stat", "-c", "%a", "/x") == "750"
    )
    said(daemon, "run", "--rm", "-v", "filled:/site", "site:1", "rm", "-r", "/site/in")
    # no longer empty: it stays as it is
    assert said(daemon, "run", "--rm", "-v", "filled:/site", "site:1", "ls", "/site") == "g"
    assert said(daemon, "run", "--rm", "-v", "plain:/site:nocopy", "site:1", "ls", "/site") == ""
    daemon.corectl("rm", "made", check=True)
    daemon.corectl("volume", "rm", "filled", "plain", check=True)


def test_volumes_from_another_container(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("host\n")
    daemon.corectl(
        "run", "--name", "giver", "-v", "given:/d", "-v", f"{tmp_path}:/h", "busybox",
        "sh", "-c", "echo volume >/d/f", check=True,
    )  # fmt: skip
    both = ("busybox", "sh", "-c", "cat /d/f /h/f; touch /d/g")
    assert said(daemon, "run", "--rm", "--volumes-from", "giver", *both) == "volume\nhost"
    refused = daemon.corectl("run", "--rm", "--volumes-from", "giver:ro", *both)
    assert b"Read-only" in refused.stderr
    daemon.corectl("rm", "giver", check=True)
    daemon.corectl("volume", "rm", "given", check=True)


def test_mounts_in_long_words(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x\n")
    done = said(
        daemon, "run", "--rm",
        "--mount", f"type=bind,src={tmp_path},dst=/b,readonly",
        "--mount", "type=volume,src=long,dst=/v,volume-label=a=b",
        "--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700",
        "busybox", "sh", "-c", "cat /b/f; stat -c %a /t; touch /v/g; df -k /t | tail -1",
    )  # fmt: skip
    assert done.splitlines()[:2] == ["x", "700"]
    assert done.split()[3] == "1024"
    assert looked(daemon, "long")["Labels"] == {"a": "b"}
    missing = daemon.corectl("run", "--mount", "type=bind,src=/none,dst=/b", "busybox", "true")
    assert missing.returncode == 125
    assert b"no such file" in missing.stderr
    said(daemon, "run", "--rm", "--mount", "src=long,dst=/v", "busybox", "mkdir", "/v/sub")
    inside = ("--mount", "src=long,dst=/v,volume-subpath=sub", "busybox", "ls", "/v")
    assert said(daemon, "run", "--rm", *inside) == ""
    daemon.corectl("volume", "rm", "long", check=True)


def test_a_volume_by_options_is_mounted_while_it_is_used(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("there\n")
    daemon.corectl(
        "volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={tmp_path}", "opt",
        check=True,
    )  # fmt: skip
    daemon.corectl("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m",
                   "memory", check=True)  # fmt: skip
    assert said(daemon, "run", "--rm", "-v", "opt:/d", "busybox", "cat", "/d/f") == "there"
    place = looked(daemon, "opt")["Mountpoint"]
    mounts = Path(f"/proc/{daemon.process.pid}/mounts").read_text()  # type: ignore[union-attr]
    assert place not in mounts
    # two containers have the same one
    for number in ("1", "2"):
        daemon.corectl("run", "-d", "--name", number, "-v", "memory:/d", "busybox", "sleep", "1000",
                       check=True)  # fmt: skip
    said(daemon, "exec", "1", "touch", "/d/seen")
    assert said(daemon, "exec", "2", "ls", "/d") == "seen"
    daemon.corectl("rm", "-f", "1", "2", check=True)
    daemon.corectl("volume", "rm", "opt", "memory", check=True)
    assert (tmp_path / "f").exists()
    assert b"no device" in daemon.corectl("volume", "create", "-o", "type=nfs", "x").stderr
    assert b"not found" in daemon.corectl("volume", "create", "-d", "none", "x").stderr


def test_creation_twice_and_names(daemon: Daemon) -> None:
    assert said(daemon, "volume", "create", "--label", "a=b", "twice") == "twice"
    assert said(daemon, "volume", "create", "twice") == "twice"
    assert looked(daemon, "twice")["Labels"] == {"a": "b"}
    assert volumes(daemon, "-f", "label=a=b", "-f", "name=twi") == {"twice"}
    assert b"is another one" in daemon.corectl(
        "volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "twice"
    ).stderr  # fmt: skip
    assert b"invalid" in daemon.corectl("volume", "create", "../x").stderr
    assert len(said(daemon, "volume", "create")) == 64
    said(daemon, "volume", "prune", "-af")


def test_nothing_stays_of_a_container_that_cannot_be_made(daemon: Daemon) -> None:
    before = volumes(daemon)
    done = daemon.corectl("run", "-v", "/anonymous", "--log-opt", "max-size=ten", "busybox", "true")
    assert done.returncode == 125
    assert volumes(daemon) == before


def test_volumes_outlive_the_daemon_and_are_namespaces_own(daemon: Daemon) -> None:
    daemon.corectl("volume", "create", "stays", check=True)
    daemon.kill()
    daemon.start()
    assert "stays" in volumes(daemon)
    other = daemon.corectl("--namespace", "other", "volume", "ls", "-q", check=True)
    assert other.stdout == b""
    daemon.corectl("volume", "rm", "stays", check=True)
    assert os.listdir(daemon.home / "root/volumes/default") == []


def test_a_part_of_a_volume_that_became_a_link_leads_nowhere_else(
    daemon: Daemon, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("of the host\n")
    daemon.corectl("volume", "create", "parts", check=True)
    place = Path(looked(daemon, "parts")["Mountpoint"])
    (place / "sub").mkdir()
    (place / "sub/mine").touch()
    (place / "file").write_text("text\n")
    mounts = ("--mount", "src=parts,dst=/v,volume-subpath=sub",
              "--mount", "src=parts,dst=/f,volume-subpath=file")  # fmt: skip
    command = ("busybox", "sh", "-c", "ls /v; cat /f; touch /v/new")
    assert said(daemon, "run", "--name", "part", *mounts, *command) == "mine\ntext"
    assert (place / "sub/new").exists()
    assert said(daemon, "start", "-a", "part") == "mine\nnew\ntext"
    assert not [
        line for line in Path("/proc/self/mounts").read_text().splitlines() if "part-" in line
    ]
    (place / "sub").rename(place / "old")
    (place / "sub").symlink_to(tmp_path)
    done = daemon.corectl("start", "-a", "part")
    assert done.returncode != 0 and b"secret" not in done.stdout
    (place / "sub").unlink()
    (place / "sub").symlink_to("/old")
    assert said(daemon, "start", "-a", "part") == "mine\nnew\ntext"
    daemon.corectl("rm", "part", check=True)
    assert (place / "old/mine").exists()
    daemon.corectl("volume", "rm", "parts", check=True)
