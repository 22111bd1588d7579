"""A layer worker's end, which is the daemon's."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from cored.archive.jobs import DiffJob
from cored.archive.wire import packed


@pytest.mark.parametrize("unread", [False, True])
def test_a_worker_ends_with_the_daemon(unread: bool) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        worker = subprocess.Popen(
            [sys.executable, "-P", "-m", "cored.archive.worker", str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
        )
    with ours:
        if unread:  # its answer waits when we go: the kernel tells it of a reset
            ours.sendall(packed(DiffJob("", "/nowhere/at/all", "/nowhere/layer")))
            ours.recv(1, socket.MSG_PEEK)
    assert worker.wait(60) == 0
