"""corectl with a daemon on another host: everything over mutual TLS, in real containers."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.remote import Remote, Wire, remote

pytestmark = pytest.mark.root

BIG = 12 << 20


@pytest.fixture(scope="module")
def there(busybox: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with remote(busybox, tmp_path_factory.mktemp("remote")) as running:
        yield running


@pytest.fixture(scope="module")
def box(there: Remote) -> Iterator[str]:
    there.corectl("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    yield "box"
    there.corectl("rm", "-f", "box")


def test_run_has_both_outputs_and_the_exit_code(there: Remote) -> None:
    script = "echo out; echo err >&2; exit 7"
    done = there.corectl("run", "--rm", "busybox", "sh", "-c", script, check=False)
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 7)


def test_input_ends_where_the_pipe_does(there: Remote) -> None:
    done = there.corectl("run", "-i", "--rm", "busybox", "wc", "-c", input=b"x" * 70_000)
    assert done.stdout.strip() == b"70000"


def test_exec_passes_streams_and_codes(there: Remote, box: str) -> None:
    done = there.corectl("exec", box, "sh", "-c", "echo out; echo err >&2; exit 9", check=False)
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 9)
    assert there.corectl("exec", box, "absent", check=False).returncode == 127


@pytest.mark.parametrize("command", [("run", "--rm", "-i", "busybox"), ("exec", "-i", "box")])
def test_large_binaries_pass_both_ways_unharmed(
    there: Remote, box: str, command: tuple[str, ...]
) -> None:
    data = os.urandom(BIG)
    done = there.corectl(*command, "cat", input=data)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()
