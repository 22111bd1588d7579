"""``corectl why``, and the end of a run that failed: each cause, by a real container."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cored import linux
from cored.engine.why import holders
from tests import daemons
from tests.daemons import Daemon
from tests.patience import eventually
from tests.programs import HERE, elf

pytestmark = pytest.mark.root
HUNGRY = "echo begin; a=aaaaaaaaaa; while true; do a=$a$a; done"


@pytest.fixture(autouse=True)
def empty(daemon: Daemon) -> Iterator[None]:
    yield
    ids = daemon.corectl("ps", "-aq").stdout.decode().split()
    if ids:
        daemon.corectl("rm", "-f", *ids, check=True)


def failed(daemon: Daemon, *arguments: str | Path) -> tuple[int, str]:
    """A run's exit code and what it says on stderr."""
    done = daemon.corectl("run", *map(str, arguments))
    return done.returncode, done.stderr.decode()


def why(daemon: Daemon, name: str) -> dict[str, Any]:
    found = json.loads(daemon.corectl("why", name, "--format", "json", check=True).stdout)
    assert isinstance(found, dict)
    return found


def causes(daemon: Daemon, name: str) -> dict[str, str]:
    return {one["Kind"]: f"{one['Text']} ({one['Hint']})" for one in why(daemon, name)["Causes"]}


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_out_of_memory_is_told_with_limit_and_peak(daemon: Daemon, runtime: str) -> None:
    limit = ("--name", "hungry", "-m", "20m", "--runtime", runtime)
    code, said = failed(daemon, *limit, "busybox", "sh", "-c", HUNGRY)
    assert code == 137
    assert said == (
        "corectl: hungry: out of memory: the kernel killed it; its limit is 20 MiB, it came to"
        " 20 MiB (give it more with --memory)\n"
    )
    told = daemon.corectl("why", "hungry", check=True).stdout.decode().splitlines()
    assert told[0].startswith("hungry (busybox, ")
    assert "ended, exit code 137" in told[0]
    assert told[1:3] == [
        "  out of memory: the kernel killed it; its limit is 20 MiB, it came to 20 MiB",
        "    hint: give it more with --memory",
    ]
    assert told[-2:] == ["  its last words:", "    begin"]


def test_memory_is_known_to_have_run_out_while_no_daemon_was_there(busybox: Path) -> None:
    with daemons.cored() as own:
        own.ctr("images", "import", str(busybox))
        script = f"sleep 2; {HUNGRY}"
        words = ["run", "-d", "--name", "late", "-m", "20m", "busybox", "sh", "-c", script]
        id = own.corectl(*words, check=True).stdout.decode().strip()
        own.kill()
        bundle = own.home / "state/runtime.shim/default" / id
        eventually((bundle / "exit.json").exists)
        own.start()
        eventually(lambda: why(own, "late")["Status"] == "stopped")
        assert "its limit is 20 MiB, it came to 20 MiB" in causes(own, "late")["oom"]
        (state,) = (json.loads(own.corectl("inspect", "-f", "{{json .State}}", "late").stdout),)
        assert state["OOMKilled"] is True


def test_signals_are_told_from_exit_codes(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "ill").write_bytes(elf())
    (tmp_path / "ill").chmod(0o755)
    code, said = failed(daemon, "--name", "ill", "-v", f"{tmp_path}:/x", "busybox", "/x/ill")
    assert code == 132
    assert "killed by signal 4 (SIGILL): it ran into an instruction" in said
    code, said = failed(daemon, "--name", "shell", "busybox", "sh", "-c", "exit 132")
    assert (code, said) == (132, "")
    assert "as shells tell" in causes(daemon, "shell")["exit"]


def test_a_seccomp_filter_that_kills_is_named(daemon: Daemon, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    option = f"seccomp={profile}"
    code, said = failed(daemon, "--security-opt", option, "busybox", "mkdir", "/made")
    assert code == 159
    assert "killed by signal 31 (SIGSYS): it made a system call that its seccomp filter" in said
    assert "--security-opt seccomp=unconfined" in said


def test_missing_rights_are_named(daemon: Daemon) -> None:
    code, said = failed(daemon, "busybox", "mount", "-t", "tmpfs", "x", "/mnt")
    assert code == 1
    assert "it has no CAP_SYS_ADMIN, which that takes" in said
    assert "(--cap-add SYS_ADMIN)" in said


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_a_command_that_cannot_be_run_says_why(
    daemon: Daemon, tmp_path: Path, runtime: str
) -> None:
    files = {
        "script": b"#!/usr/bin/python9\n", "plain": b"#!/bin/sh\n", "text": b"echo\n",
        "loader": elf(loader="/lib/ld-none.so"), "other": elf(183 if HERE == 62 else 62),
    }  # fmt: skip
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(0o644 if name == "plain" else 0o755)
    expected = {
        "shh": (127, "there is no 'shh' in "),
        "/bin/shh": (127, "there is no '/bin/shh'; there is 'sh'"),
        "/x/plain": (126, "'/x/plain' has mode 0644: make it executable"),
        "/x": (126, "'/x' is a directory"),
        "/x/script": (1, "wants the interpreter '/usr/bin/python9', and there is no"),
        "/x/text": (1, "'/x/text' is neither a program nor begins with #!"),
        "/x/loader": (1, "needs the loader '/lib/ld-none.so', which the image does not have"),
        "/x/other": (1, f"'/x/other' is a program for {'aarch64' if HERE == 62 else 'x86_64'}"),
    }
    for command, (code, words) in expected.items():
        options = ("--rm", "--runtime", runtime, "--name", "gone", "-v", f"{tmp_path}:/x")
        done, said = failed(daemon, *options, "busybox", command)
        assert words in said
        if code != 1:  # the others are runtimes' own: 1, 255
            assert done == code
        # the container is gone, what is known of it is not
        assert any(words in text for text in causes(daemon, "gone").values())


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_a_mount_that_does_not_fit_is_explained(
    daemon: Daemon, tmp_path: Path, runtime: str
) -> None:
    options = ("--runtime", runtime, "-v", f"{tmp_path}:/etc/passwd")
    code, said = failed(daemon, *options, "busybox", "true")
    assert code == 125
    assert f"'{tmp_path}' is a directory of the host, '/etc/passwd' is a file of the image" in said


def test_who_has_something_mounted_is_found(tmp_path: Path) -> None:
    linux.mount("tmpfs", str(tmp_path), "tmpfs", 0, "")
    try:
        # one process speaks for all of a mount namespace
        (holder,) = holders.mount_holders(str(tmp_path))
        found = re.search(r"\(pid (\d+)\)", holder)
        assert found is not None
        assert os.readlink(f"/proc/{found[1]}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
    finally:
        linux.unmount(str(tmp_path))
    assert holders.mount_holders(str(tmp_path)) == []


def test_who_has_a_port_is_named(daemon: Daemon) -> None:
    daemon.corectl("run", "-d", "--name", "first", "-p", "8123:80", "busybox", "sleep", "1000")
    code, said = failed(daemon, "-d", "--name", "second", "-p", "8123:80", "busybox", "true")
    assert code == 125
    assert "container 'first' has it" in said
    assert "container 'first' has it" in causes(daemon, "second")["port"]
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 8124))
        taken.listen()
        _, said = failed(daemon, "-d", "--name", "third", "-p", "8124:80", "busybox", "true")
    assert f"(pid {os.getpid()}) has it" in said


def test_health_restarts_and_who_stopped_it_are_told(daemon: Daemon) -> None:
    check = ["--health-cmd", "echo broken pipe; exit 7", "--health-interval", "100ms"]
    daemon.corectl(
        "run", "-d", "--name", "ill", *check, "--health-retries", "2", "busybox", "sleep", "1000",
        check=True,
    )  # fmt: skip
    eventually(lambda: causes(daemon, "ill").get("health", "").startswith("unhealthy"))
    assert "last with exit code 7: broken pipe" in causes(daemon, "ill")["health"]
    daemon.corectl("stop", "-t", "0", "ill", check=True)
    assert "was stopped by somebody with SIGTERM, and 0 s later" in causes(daemon, "ill")["asked"]
    words = ["run", "-d", "--name", "fails", "--restart", "on-failure:2", "busybox"]
    daemon.corectl(*words, "sh", "-c", "echo oops; exit 3", check=True)
    eventually(lambda: "given up" in causes(daemon, "fails").get("restarts", ""))
    found = why(daemon, "fails")
    assert [life["ExitCode"] for life in found["Lives"]] == [3, 3]
    assert found["Log"] == ["oops", "oops", "oops"]
    text = daemon.corectl("why", "fails", check=True).stdout.decode()
    assert "was started again 2 times by its restart policy on-failure:2" in text


def test_pids_and_a_missing_image_are_told(daemon: Daemon) -> None:
    daemon.corectl("tag", "busybox", "short:lived", check=True)
    script = "for n in 1 2 3 4 5 6 7 8; do sleep 5 & done; exit 9"
    options = ("--name", "crowd", "--pids-limit", "4")
    _, said = failed(daemon, *options, "short:lived", "sh", "-c", script)
    assert "its pids limit of 4 refused" in said
    daemon.corectl("rmi", "-f", "short:lived", check=True)
    assert "short:lived is not here any more" in causes(daemon, "crowd")["image"]


def test_nothing_is_said_where_there_is_nothing_to_say(daemon: Daemon) -> None:
    assert failed(daemon, "--name", "plain", "busybox", "sh", "-c", "exit 3") == (3, "")
    assert failed(daemon, "--rm", "busybox", "true") == (0, "")
    done = daemon.corectl("why", "nobody")
    assert done.returncode == 1
    assert b"container 'nobody': not found" in done.stderr
