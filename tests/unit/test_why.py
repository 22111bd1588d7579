"""Why containers fail: what can be told from files, exit codes and words."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from cored.engine.why import hints, holders
from cored.engine.why.endings import ending
from cored.engine.why.executables import Root, problem
from cored.engine.workload import ContainerConfig, ContainerState
from cored.oci import capabilities
from cored.oci.resources import Resources
from tests.programs import HERE, elf

OTHER, NAME = (183, "aarch64") if HERE == 62 else (62, "x86_64")
PROCESS = {"env": ["PATH=/bin:/usr/bin"], "cwd": "/work"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "root"
    for name in ("bin", "work", "usr/bin"):
        (place / name).mkdir(parents=True)
    put(place / "bin/sh", elf())
    put(place / "usr/bin/env", elf())
    os.symlink("/bin/sh", place / "bin/link")
    return place


def put(path: Path, data: bytes, mode: int = 0o755) -> None:
    path.write_bytes(data)
    path.chmod(mode)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (elf(), ""),
        (b"#!/bin/sh\n", ""),
        (b"#! /bin/link -e\n", ""),
        (b"#!/usr/bin/env sh\n", ""),
        (b"#!/usr/bin/env python3\n", "wants the interpreter 'python3', which is not in $PATH"),
        (b"#!/bin/bash\n", "wants the interpreter '/bin/bash', and there is no '/bin/bash'"),
        (b"#!/bin/sh\r\n", "ends as on Windows"),
        (b"#!\n", "names no interpreter"),
        (b"echo x\n", "is neither a program nor begins with #!"),
        (b"", "is empty"),
        (elf(OTHER), f"is a program for {NAME}, this host is"),
        (elf(loader="/lib/ld-musl.so.1"), "needs the loader '/lib/ld-musl.so.1', which the image"),
        (elf(loader="/bin/sh"), ""),
        (b"\x7fELF", "is a program with a damaged header"),
        (elf()[:30], "is a program with a damaged header"),
    ],
)
def test_a_file_says_why_it_cannot_be_run(root: Path, data: bytes, words: str) -> None:
    put(root / "bin/tool", data)
    said = problem(Root(str(root)), PROCESS, "tool")
    assert words in said if words else said == ""


def test_what_is_not_there_not_executable_or_a_directory_is_told(root: Path) -> None:
    put(root / "work/plain", b"#!/bin/sh\n", 0o644)
    files = Root(str(root))
    assert problem(files, PROCESS, "shh") == "there is no 'shh' in /bin:/usr/bin; there is 'sh'"
    assert problem(files, PROCESS, "/bin/shh") == "there is no '/bin/shh'; there is 'sh'"
    assert "has mode 0644: make it executable" in problem(files, PROCESS, "./plain")
    assert problem(files, PROCESS, "/work") == "'/work' is a directory"


def test_files_of_binds_are_looked_up_where_they_are(root: Path, tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    put(tmp_path / "host/run", b"#!/nowhere\n")
    for target, source, command in (
        ("/mnt", "host", "/mnt/run"),
        ("/mnt/file", "host/run", "/mnt/file"),
    ):
        files = Root(str(root), [(target, str(tmp_path / source))])
        assert "there is no '/nowhere'" in problem(files, PROCESS, command)


@pytest.mark.parametrize(
    ("status", "signalled", "kind", "words"),
    [
        (139, True, "signal", "killed by signal 11 (SIGSEGV): it touched memory"),
        (139, False, "exit", "exit code 139: as shells tell that what they ran was killed by"),
        (159, None, "seccomp", "killed by signal 31 (SIGSYS)"),
        (127, None, "exit", "a command that is not there"),
        (3, True, "exit", "exit code 3"),
        (200, None, "exit", "exit code 200"),
    ],
)
def test_endings_have_words(status: int, signalled: bool | None, kind: str, words: str) -> None:
    cause = ending(status, signalled=signalled)
    assert cause.kind == kind
    assert words in cause.text


def told(line: str, **config: Any) -> list[str]:
    process = {"capabilities": {"bounding": list(capabilities.DEFAULT)}}
    causes = hints.denials(["before", line], ContainerConfig("i", **config), process)
    return [f"{one.text} ({one.hint})" for one in causes]


def test_words_of_programs_are_seen_in_the_light_of_their_rights() -> None:
    (said,) = told("mount: permission denied (are you root?)")
    assert said == (
        "it has no CAP_SYS_ADMIN, which that takes: mount: permission denied (are you root?)"
        " (--cap-add SYS_ADMIN)"
    )
    (said,) = told("x: Operation not permitted", cap_drop=("CHOWN",))
    assert "has dropped CHOWN" in said
    (said,) = told("x: Operation not permitted")
    assert "it has 14 capabilities of 41; see --cap-add, and a seccomp filter" in said
    assert told("/x: Read-only file system") == []
    assert "its root is read-only" in told("/x: Read-only file system", read_only=True)[0]
    assert "full" in told("write: No space left on device")[0]
    limited = {"resources": Resources(pids_limit=5)}
    assert "its pids limit is 5" in told("sh: can't fork: Resource busy", **limited)[0]
    assert told("all is well") == []


def test_mounts_are_known_by_both_runtimes_words() -> None:
    runc = 'error mounting "/a" to rootfs at "/etc/b": mount /a:/etc/b: not a directory'
    assert hints.mount_problem(runc) == ("/a", "/etc/b")
    assert hints.mount_problem("mount `/a` to `etc/b`: Not a directory") == ("/a", "/etc/b")
    assert hints.mount_problem("no mount at all") is None


def test_holders_of_ports_are_processes() -> None:
    for protocol, kind in (("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)):
        with socket.socket(socket.AF_INET, kind) as taken:
            taken.bind(("127.0.0.1", 0))
            if protocol == "tcp":
                taken.listen()
            port = taken.getsockname()[1]
            assert any(
                f"(pid {os.getpid()})" in one for one in holders.port_holders(protocol, port)
            )
        assert holders.port_holders(protocol, port) == []


def test_lives_are_kept_ten_of_them() -> None:
    state = ContainerState(started_at=1)
    for number in range(15):
        ended = ContainerState(number + 1, number + 2, number, restarts=number, lives=state.lives)
        state = ended.after(number + 1, number + 2)
    assert [life.exit_status for life in state.lives] == list(range(5, 15))
    assert state.restarts == 15
