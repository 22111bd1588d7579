"""Where the OCI runtime is known, a life takes one process of it, and leaves as little."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import shims
from tests.integration.test_shim import crun_cgroups as crun_cgroups
from tests.shims import Zygote


@pytest.fixture(params=["runc", "crun"])
def counted(request: pytest.FixtureRequest, short_tmp: Path) -> Iterator[tuple[Zygote, Path]]:
    """A zygote whose runtime writes down what it is called for."""
    program = "/usr/sbin/runc"
    if request.param == "crun":
        request.getfixturevalue("crun_cgroups")
        program = "/usr/bin/crun"
    calls = short_tmp / "calls"
    script = short_tmp / request.param
    script.write_text(f'#!/bin/sh\necho "$*" >> {calls}\nexec {program} "$@"\n')
    script.chmod(0o755)
    with shims.zygote(short_tmp, str(script), fast=True) as running:
        yield running, calls


def commands(calls: Path) -> list[str]:
    known = {"create", "start", "delete", "kill"}
    return [
        word for line in calls.read_text().splitlines() for word in line.split() if word in known
    ]


def test_a_whole_life_takes_one_process_of_the_runtime(counted: tuple[Zygote, Path]) -> None:
    zygote, calls = counted
    task = zygote.task("sh", "-c", "exit 3")
    pid = task.create()
    inside = cgroups(pid)
    assert inside
    task.start()
    assert task.wait().exit_status == 3
    task.delete()
    assert commands(calls) == ["create"]
    assert [place for place in inside if place.exists()] == []
    assert not (zygote.place / "runtime" / task.id).exists()


def test_hooks_get_the_runtimes_own_commands(counted: tuple[Zygote, Path]) -> None:
    zygote, calls = counted
    trace = zygote.place / "hooked"
    # crun dies of SIGPIPE when a hook does not read
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"cat >/dev/null; echo hooked >> {trace}"]}
    task = zygote.task("sleep", "1000", hooks={"poststart": [hook], "poststop": [hook]})
    task.create()
    task.start()  # it is still there when crun asks for its state, for the hook
    task.kill(9)
    task.wait()
    task.delete()
    assert commands(calls) == ["create", "start", "delete"]
    assert trace.read_text() == "hooked\n" * 2


def test_what_is_still_in_use_is_left_to_the_runtime(counted: tuple[Zygote, Path]) -> None:
    zygote, calls = counted
    task = zygote.task("true")
    pid = task.create()
    below = [place / "below" for place in cgroups(pid) if "pids" in place.parts]
    for place in below:
        place.mkdir()
    task.start()
    task.wait()
    task.delete()
    assert commands(calls)[:2] == ["create", "delete"]
    assert not (zygote.place / "runtime" / task.id).exists()


def cgroups(pid: int) -> list[Path]:
    """The cgroup directories of a process that is not in ours."""
    found = []
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        place = Path("/sys/fs/cgroup", controllers.removeprefix("name="), path.lstrip("/"))
        if path != "/" and place.exists():
            found.append(place)
    return found
