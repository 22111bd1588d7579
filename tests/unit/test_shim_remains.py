"""What shims leave that were killed when no daemon knew of them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from cored_runtime_shim.remains import sweep_sockets


def _socket(path: Path, age: float) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.bind(str(path))
    made.listen()
    there = path.stat().st_mtime - age
    os.utime(path, (there, there))
    return made


def test_only_sockets_that_nobody_listens_on_are_removed(short_tmp: Path) -> None:
    with _socket(short_tmp / "lives.sock", 1000):
        for name, age in (("dead.sock", 1000), ("dead.console", 1000), ("begins.sock", 0)):
            _socket(short_tmp / name, age).close()
        (short_tmp / "file.sock").touch()
        (short_tmp / "link.sock").symlink_to("dead.sock")
        sweep_sockets(short_tmp)
        left = sorted(path.name for path in short_tmp.iterdir())
    assert left == ["begins.sock", "file.sock", "link.sock", "lives.sock"]


@pytest.mark.root
def test_a_listener_of_another_network_is_left_alone(short_tmp: Path) -> None:
    listen = f"""
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind({str(short_tmp / "far.sock")!r})
listener.listen()
print(flush=True)
sys.stdin.read()
"""
    command = ["unshare", "--net", sys.executable, "-c", listen]
    far = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert far.stdout is not None
    assert far.stdout.readline() == b"\n"
    path = short_tmp / "far.sock"
    os.utime(path, (0, 0))
    assert str(path) not in Path("/proc/net/unix").read_text()
    sweep_sockets(short_tmp)
    assert path.exists()
    far.communicate()
    sweep_sockets(short_tmp)
    assert not short_tmp.exists()
    short_tmp.mkdir()
