"""Copies between descriptors and real named pipes; which signals a process hears."""

from __future__ import annotations

import os
import select
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from corectl.fifos import Fifos
from corectl.relay import Relays
from corectl.signals import heard


@pytest.fixture
def fifos(tmp_path: Path) -> Iterator[Fifos]:
    with Fifos.make(stdin=True, terminal=False, below=tmp_path) as made:
        yield made
    assert list(tmp_path.iterdir()) == []


class Ends:
    """Pipes in place of our standard streams."""

    def __init__(self) -> None:
        self.stdin, self.keyboard = os.pipe()
        self.screen, self.stdout = os.pipe()
        self.errors, self.stderr = os.pipe()
        self.broken = 0

    def lost(self) -> None:
        self.broken += 1

    def relays(self, fifos: Fifos, *, errors_later: bool = False) -> Relays:
        return Relays(
            fifos, stdin=self.stdin, stdout=self.stdout, stderr=self.stderr, broken=self.lost,
            errors_later=errors_later,
        )  # fmt: skip


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    for fd in (made.stdin, made.keyboard, made.screen, made.stdout, made.errors, made.stderr):
        try:
            os.close(fd)
        except OSError:
            continue


def within(seconds: float, condition: Callable[[], object]) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_pipes_are_private(fifos: Fifos) -> None:
    assert stat.S_IMODE(fifos.directory.stat().st_mode) == 0o700
    for path in (fifos.stdin, fifos.stdout, fifos.stderr):
        mode = Path(path).stat().st_mode
        assert stat.S_ISFIFO(mode)
        assert stat.S_IMODE(mode) == 0o600


def test_a_terminal_has_one_output(tmp_path: Path) -> None:
    with Fifos.make(stdin=False, terminal=True, below=tmp_path) as made:
        assert (made.stdin, made.stderr) == ("", "")


@pytest.mark.parametrize("started", [True, False])
def test_errors_wait_until_the_command_runs(fifos: Fifos, ends: Ends, *, started: bool) -> None:
    with ends.relays(fifos, errors_later=True) as relays:
        writer = os.open(fifos.stderr, os.O_WRONLY)
        os.write(writer, b"not found")
        os.close(writer)
        if started:
            os.close(os.open(fifos.stdout, os.O_WRONLY))
            relays.begin_errors()
            assert relays.drain(60)
    os.close(ends.stderr)
    assert os.read(ends.errors, 100) == (b"not found" if started else b"")


def test_what_is_written_at_once_and_closed_arrives(fifos: Fifos, ends: Ends) -> None:
    with ends.relays(fifos) as relays:
        for path, data in ((fifos.stdout, b"out"), (fifos.stderr, b"err")):
            writer = os.open(path, os.O_WRONLY)
            os.write(writer, data)
            os.close(writer)
        assert relays.drain(60)
        assert not relays.open
    assert (os.read(ends.screen, 100), os.read(ends.errors, 100)) == (b"out", b"err")


def test_a_container_that_never_comes_blocks_nothing(fifos: Fifos, ends: Ends) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with ends.relays(fifos) as relays:
        assert relays.open
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_pipe_that_stays_open_is_given_up_after_silence(fifos: Fifos, ends: Ends) -> None:
    writer = os.open(fifos.stdout, os.O_RDWR)
    with ends.relays(fifos) as relays:
        begun = time.monotonic()
        assert not relays.drain(0.3)
        assert time.monotonic() - begun > 0.25
    os.close(writer)


def test_a_slow_reader_is_not_silence(fifos: Fifos, ends: Ends) -> None:
    size = 3 << 20
    data = bytearray()

    def read_slowly() -> None:
        time.sleep(2.5)
        while len(data) < size:
            data.extend(os.read(ends.screen, 1 << 20))

    def write() -> None:
        with open(fifos.stdout, "wb") as out, open(fifos.stderr, "wb"):
            out.write(bytes(size))

    threads = [threading.Thread(target=target) for target in (read_slowly, write)]
    with ends.relays(fifos) as relays:
        for thread in threads:
            thread.start()
        within(60, lambda: select.select([ends.screen], [], [], 0)[0])
        assert relays.drain(1.5)
        for thread in threads:
            thread.join()
    assert len(data) == size


def test_input_waits_for_its_reader_and_ends_there(fifos: Fifos, ends: Ends) -> None:
    os.write(ends.keyboard, b"typed early")
    os.close(ends.keyboard)
    with ends.relays(fifos) as relays:
        relays.begin_input()
        time.sleep(0.1)
        with open(fifos.stdin, "rb") as reader:
            assert reader.read() == b"typed early"


def test_input_that_nobody_takes_any_more_ends_quietly(fifos: Fifos, ends: Ends) -> None:
    with ends.relays(fifos) as relays:
        relays.begin_input()
        reader = os.open(fifos.stdin, os.O_RDONLY)
        os.write(ends.keyboard, b"first")
        assert os.read(reader, 5) == b"first"
        os.close(reader)
        os.write(ends.keyboard, b"second")
    assert ends.broken == 0


def test_a_reader_of_ours_that_leaves_is_told_once_and_nothing_blocks(
    fifos: Fifos, ends: Ends
) -> None:
    os.close(ends.screen)
    with ends.relays(fifos) as relays:
        with open(fifos.stdout, "wb") as out, open(fifos.stderr, "wb"):
            out.write(bytes(5 << 20))
        assert relays.drain(60)
    assert ends.broken == 1


def process(script: str) -> subprocess.Popen[bytes]:
    running = subprocess.Popen(
        [sys.executable, "-S", "-c", f"import signal,time\n{script}\nprint('ready',flush=True)\n"
         "time.sleep(60)"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert running.stdout is not None
    running.stdout.readline()
    return running


@pytest.mark.parametrize(
    ("script", "hears"),
    [
        ("signal.signal(signal.SIGTERM, lambda *_: None)", True),
        ("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])", True),
        ("signal.signal(signal.SIGTERM, signal.SIG_IGN)", False),
        ("signal.signal(signal.SIGTERM, signal.SIG_DFL)", False),
    ],
)
def test_which_signals_a_first_process_hears(script: str, hears: bool) -> None:
    running = process(script)
    with running:
        assert heard(running.pid, signal.SIGTERM) is hears
        running.kill()


def test_a_process_that_cannot_be_looked_at_is_given_its_time() -> None:
    assert heard(2**22 + 1, signal.SIGTERM)
