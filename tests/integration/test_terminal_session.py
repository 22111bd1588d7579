"""A person at a terminal: run -it, a window that changes its size, leaving and coming back, Ctrl-C,
progress bars; and what the same commands say where no terminal is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import pytest

from tests import images
from tests.daemons import CORECTL, Daemon
from tests.registries import Registry, registry

pytestmark = pytest.mark.root

_PATIENCE = 60


@contextmanager
def person(
    daemon: Daemon, *words: str, rows: int = 24, columns: int = 80
) -> Iterator[pexpect.spawn]:
    """Somebody who has typed ``corectl WORDS`` into a terminal of that size."""
    program, *arguments = [*CORECTL, "--address", str(daemon.address), *words]
    session = pexpect.spawn(
        program, arguments, timeout=_PATIENCE, dimensions=(rows, columns),
        env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    try:
        yield session
    finally:
        session.close(force=True)


def ends(session: pexpect.spawn) -> int:
    """What the program ended with."""
    session.expect(pexpect.EOF)
    session.wait()
    assert session.exitstatus is not None
    return session.exitstatus


def test_a_session_from_run_to_exit(daemon: Daemon) -> None:
    prompt = r"/ # "
    with person(daemon, "run", "-it", "--name", "desk", "busybox", "sh", rows=31, columns=91) as me:
        me.expect(prompt)
        me.sendline("stty size; KEPT=yes")
        me.expect("31 91")
        me.expect(prompt)
        me.setwinsize(20, 66)
        # SIGWINCH reaches the shell inside, and what it starts sees the new size
        me.sendline("until [ \"$(stty size)\" = '20 66' ]; do sleep 0.1; done; echo resized-$KEPT")
        me.expect("resized-yes")
        me.expect(prompt)
        me.sendline("echo asleep-$((1 + 1)); sleep 1000")
        me.expect("asleep-2")
        me.sendintr()
        me.expect(prompt)
        me.sendline("echo interrupted-$?")
        me.expect("interrupted-130")
        me.sendcontrol("p")
        me.sendcontrol("q")
        me.expect("read escape sequence")
        assert ends(me) == 0
    assert daemon.corectl("ps", "--format", "{{.Names}}").stdout == b"desk\n"
    with person(daemon, "attach", "desk", rows=25, columns=70) as me:
        me.sendline("stty size; echo back-$KEPT")
        me.expect("25 70")
        me.expect("back-yes")
        me.sendline("exit 7")
        assert ends(me) == 7
    daemon.corectl("rm", "desk", check=True)


def test_ctrl_c_ends_a_command_in_the_foreground(daemon: Daemon) -> None:
    script = "trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.1; done"
    with person(daemon, "run", "--rm", "busybox", "sh", "-c", script) as me:
        me.expect("ready")
        me.sendintr()
        me.expect("caught")
        assert ends(me) == 3


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Registry, str]]:
    place = tmp_path_factory.mktemp("registry")
    made = images.make([images.layer({f"file{n}": os.urandom(2 << 20)}) for n in range(3)])
    (place / "blobs").mkdir()
    with registry(place / "blobs") as running:
        yield (
            running,
            running.push(images.write_layout(made, place / "image.tar", "big:1"), "big:1"),
        )


def test_a_pull_shows_bars_on_a_terminal(daemon: Daemon, image: tuple[Registry, str]) -> None:
    _, reference = image
    with person(daemon, "pull", reference, columns=100) as me:
        assert ends(me) == 0
        shown = me.before.decode()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    # a bar for each layer, full at the end, with what was moved, and redrawn in its place
    assert len(set(re.findall(r"([0-9a-f]{12}) +done +━+ +\d", text))) >= 3
    assert "\x1b[" in shown
    assert reference in text
    daemon.corectl("rmi", reference, check=True)


def test_a_pull_is_plain_where_no_terminal_is(
    daemon: Daemon, image: tuple[Registry, str], tmp_path: Path
) -> None:
    _, reference = image
    done = daemon.corectl("pull", reference, check=True)
    assert b"\x1b" not in done.stdout + done.stderr
    assert b"\r" not in done.stdout + done.stderr
    assert reference.encode() in done.stdout
    daemon.corectl("rmi", reference, check=True)
    quiet = daemon.corectl("run", "-q", "--rm", reference, "true")
    # there is nothing to run in it; what matters is that fetching it was not told
    assert quiet.returncode == 127
    assert b"done" not in quiet.stderr
    daemon.corectl("rmi", reference, check=True)
