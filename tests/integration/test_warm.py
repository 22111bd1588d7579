"""The installed corectl leaves a process behind for the next calls, and nobody can tell."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.daemons import Daemon
from tests.patience import eventually

pytestmark = pytest.mark.root
CORECTL = Path(sys.executable).with_name("corectl")


@dataclass
class Callers:
    """Of one likeness, which nobody else has: a mark in the environment is a part of it."""

    daemon: Daemon
    mark: str
    seconds: str = "60"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "CORED_ADDRESS": str(self.daemon.address),
            "CORECTL_WARM": self.seconds,
            "MALLOC_MARK": self.mark,
        }

    def __call__(self, *words: str | bytes, **options: Any) -> subprocess.CompletedProcess[bytes]:
        options = {"capture_output": True, "timeout": 120, "env": self.environment, **options}
        return subprocess.run([CORECTL, *words], check=False, **options)

    @contextmanager
    def open(
        self, keeper: int, *words: str, **options: Any
    ) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
        """A call under way and its worker. On a busy machine one may do without: the next, then."""
        options = {"stdout": subprocess.PIPE, "env": self.environment, **options}
        while True:
            with subprocess.Popen([CORECTL, *words], **options) as call:
                try:
                    eventually(lambda: self.workers(keeper) or self.alone(call.pid))
                    if workers := self.workers(keeper):
                        yield call, workers[0]
                        return
                finally:
                    call.kill()

    @staticmethod
    def alone(caller: int) -> bool:
        """Whether it has imported what a command needs to speak to the daemon."""
        return "google/_upb" in Path(f"/proc/{caller}/maps").read_text()

    def keepers(self) -> list[int]:
        return [
            int(place.name)
            for place in Path("/proc").iterdir()
            if place.name.isdecimal() and self._is_keeper(place)
        ]

    def _is_keeper(self, place: Path) -> bool:
        try:
            parent = (place / "stat").read_text().rpartition(")")[2].split()[1]
            return (
                b"corectl.warm.keeper" in (place / "cmdline").read_bytes()
                and self.mark.encode() in (place / "environ").read_bytes()
                # not a worker, which is a fork of its keeper
                and b"corectl.warm.keeper" not in Path(f"/proc/{parent}/cmdline").read_bytes()
            )
        except (FileNotFoundError, ProcessLookupError):
            return False

    def kept(self) -> int:
        """The keeper, once it is there; a first call leaves it."""
        assert self("--help").returncode == 0
        [keeper] = eventually(self.keepers)
        eventually(lambda: self.place(keeper).is_socket())
        return int(keeper)

    @staticmethod
    def place(keeper: int) -> Path:
        words = Path(f"/proc/{keeper}/cmdline").read_bytes().split(b"\0")
        return Path(os.fsdecode(words[words.index(b"corectl.warm.keeper") + 1]))

    @staticmethod
    def workers(keeper: int) -> list[int]:
        children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
        return [int(child) for child in children]


@pytest.fixture
def corectl(daemon: Daemon) -> Iterator[Callers]:
    callers = Callers(daemon, uuid.uuid4().hex)
    yield callers
    for keeper in callers.keepers():
        with suppress(ProcessLookupError):
            os.kill(keeper, signal.SIGTERM)
            os.kill(keeper, signal.SIGCONT)
    eventually(lambda: not callers.keepers())


def test_the_second_call_is_a_workers(corectl: Callers) -> None:
    keeper = corectl.kept()
    with corectl.open(keeper, "events") as (call, worker):
        file = os.readlink(f"/proc/{call.pid}/fd/1")
        eventually(lambda: os.readlink(f"/proc/{worker}/fd/1") == file)
        call.terminate()
    eventually(lambda: not corectl.workers(keeper))


def test_it_tells_and_ends_as_without(corectl: Callers) -> None:
    corectl.kept()
    cold = {**corectl.environment, "CORECTL_WARM": "0"}
    for words in (
        ["version"],
        ["ps", "-a", "--format", "json"],
        ["nothing-such"],
        ["run"],
        ["inspect", "nothing-such"],
        ["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7"],
        ["run", "--rm", "busybox", "sh", "-c", "kill -9 $$"],
        ["run", "--rm", b"busybox", "echo", b"\xff\xfe is no UTF-8"],
    ):
        warm, itself = corectl(*words), corectl(*words, env=cold)
        assert (warm.returncode, warm.stdout) == (itself.returncode, itself.stdout), words
        assert warm.stderr.splitlines()[:1] == itself.stderr.splitlines()[:1], words


def test_it_has_the_callers_files_directory_and_environment(
    corectl: Callers, tmp_path: Path
) -> None:
    corectl.kept()
    environment = {**corectl.environment, "WORD": "from here", "PLACE": str(CORECTL)}
    run = ("run", "--rm", "busybox")
    done = corectl(
        "run", "--rm", "-e", "WORD", "busybox", "sh", "-c", "echo $WORD", env=environment
    )
    assert done.stdout == b"from here\n"
    (tmp_path / "names").write_text("A=1\n")
    done = corectl("run", "--rm", "--env-file", "names", "busybox", "env", cwd=tmp_path)
    assert b"A=1" in done.stdout.split()
    # a file of the shell's, by its number
    script = "$PLACE run --rm --env-file <(echo B=2) busybox env"
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, check=True, timeout=120
    )
    assert b"B=2" in done.stdout.split()
    data = os.urandom(1 << 20)
    done = corectl("run", "--rm", "-i", *run[2:], "cat", input=data)
    assert done.stdout == data


@pytest.mark.parametrize("seconds", ["0", "60"])
def test_nobody_reading_is_told_by_the_exit_code_alone(corectl: Callers, seconds: str) -> None:
    keeper = corectl.kept()
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        environment = {**corectl.environment, "CORECTL_WARM": seconds}
        done = corectl(
            "version", env=environment, capture_output=False, stdout=nobody, stderr=subprocess.PIPE
        )
    assert (done.returncode, done.stderr) == (141, b"")
    assert corectl.keepers() == [keeper]
    assert corectl.place(keeper).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_the_command(corectl: Callers, number: signal.Signals) -> None:
    keeper = corectl.kept()
    script = "trap 'echo caught; exit 5' INT TERM; echo ready; while :; do sleep 0.1; done"
    with corectl.open(keeper, "run", "--rm", "busybox", "sh", "-c", script) as (call, _):
        assert call.stdout is not None
        assert call.stdout.readline() == b"ready\n"
        call.send_signal(number)
        assert call.stdout.readline() == b"caught\n"
        assert call.wait(60) == 5


def test_a_stopped_call_stops_its_worker(corectl: Callers) -> None:
    def state(pid: int) -> str:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]

    keeper = corectl.kept()
    with corectl.open(keeper, "events") as (call, worker):
        eventually(lambda: state(worker) == "S")
        call.send_signal(signal.SIGTSTP)
        eventually(lambda: (state(call.pid), state(worker)) == ("T", "T"))
        call.send_signal(signal.SIGCONT)
        eventually(lambda: "T" not in (state(call.pid), state(worker)))
        call.terminate()


def test_who_kills_the_call_kills_its_worker(corectl: Callers) -> None:
    keeper = corectl.kept()
    with corectl.open(keeper, "events") as (call, _):
        call.kill()
    eventually(lambda: not corectl.workers(keeper))
    assert corectl("version").returncode == 0


def test_a_killed_keeper_is_told_and_replaced(corectl: Callers) -> None:
    keeper = corectl.kept()
    with corectl.open(keeper, "events", stderr=subprocess.PIPE) as (call, worker):
        os.kill(keeper, signal.SIGKILL)
        assert call.wait(60) == 1
        assert call.stderr is not None
        assert b"CORECTL_WARM=0" in call.stderr.read()
    eventually(lambda: not Path(f"/proc/{worker}").exists())
    assert corectl("version").returncode == 0
    assert eventually(corectl.keepers) != [keeper]


def test_what_a_killed_keeper_leaves_goes_with_the_next_of_any_kind(corectl: Callers) -> None:
    keeper = corectl.kept()
    place = corectl.place(keeper)
    os.kill(keeper, signal.SIGKILL)
    eventually(lambda: not corectl.keepers())
    assert place.exists()
    corectl.mark = uuid.uuid4().hex
    corectl.kept()
    assert not list(place.parent.glob(f"{place.name}*"))


def test_many_at_once_leave_one(corectl: Callers) -> None:
    calls = [
        subprocess.Popen([CORECTL, "version"], stdout=subprocess.PIPE, env=corectl.environment)
        for _ in range(20)
    ]
    outputs = {call.communicate(timeout=120)[0] for call in calls}
    assert (len(outputs), {call.returncode for call in calls}) == (1, {0})
    assert len(eventually(corectl.keepers)) == 1


def test_a_keeper_that_hangs_is_done_without(corectl: Callers) -> None:
    keeper = corectl.kept()
    os.kill(keeper, signal.SIGSTOP)
    assert corectl("version").returncode == 0


def test_other_code_makes_another_keeper(corectl: Callers) -> None:
    import corectl as package

    keeper = corectl.kept()
    assert package.__file__ is not None
    os.utime(package.__file__)
    assert corectl("version").returncode == 0
    eventually(lambda: keeper not in corectl.keepers() and corectl.keepers())


def test_callers_of_another_kind_have_another_keeper(corectl: Callers) -> None:
    keeper = corectl.kept()
    before = len(corectl.keepers())
    assert corectl("version", umask=0o077).returncode == 0
    eventually(lambda: len(corectl.keepers()) == before + 1)
    done = corectl("version", preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    assert done.returncode == 0
    eventually(lambda: len(corectl.keepers()) == before + 2)
    assert keeper in corectl.keepers()


def test_nobody_calling_it_goes(corectl: Callers) -> None:
    corectl.seconds = "1"
    keeper = corectl.kept()
    place = corectl.place(keeper)
    eventually(lambda: not corectl.keepers())
    assert not place.exists()


def test_a_directory_that_others_may_enter_is_not_believed(
    corectl: Callers, tmp_path: Path
) -> None:
    place = Path("/run/corectl")
    place.mkdir(mode=0o700, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", place], check=True)
    try:
        assert corectl("version").returncode == 0
        time.sleep(0.3)
        assert (corectl.keepers(), list(place.iterdir())) == ([], [])
    finally:
        subprocess.run(["umount", place], check=True)


def test_what_reads_the_keyboard_is_its_own_process(corectl: Callers) -> None:
    import pexpect

    keeper = corectl.kept()
    shell = pexpect.spawn(
        str(CORECTL), ["run", "--rm", "-it", "busybox"],
        env=corectl.environment, encoding="utf-8", timeout=60,
    )  # fmt: skip
    shell.expect("/ # ")
    assert corectl.workers(keeper) == []
    shell.sendline("exit 3")
    shell.expect(pexpect.EOF)
    shell.close()
    assert shell.exitstatus == 3


@pytest.mark.parametrize("seconds", ["soon", "-1", ""])
def test_wrong_seconds_are_refused(corectl: Callers, seconds: str) -> None:
    corectl.seconds = seconds
    done = corectl("version")
    assert done.returncode == 2
    assert b"CORECTL_WARM" in done.stderr
