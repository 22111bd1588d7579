"""The ``delete`` action: whatever a shim has left or still is, gone, by somebody else's hand."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time

from cored import linux
from coreshim.codec import encode
from coreshim.runtime import chosen, command

__all__ = ["clean_up"]

_PATIENCE = 2.0


def clean_up(bundle: str, namespace: str, id: str, path: str) -> bytes:
    """End the container of ``bundle`` and the shim at socket ``path``; a DeleteResponse."""
    deletion = [*command(chosen(bundle, namespace, "", "")), "delete", "--force", id]
    try:
        done = subprocess.run(deletion, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(f"{' '.join(deletion)}: {done.stderr.strip()}", file=sys.stderr)
    except OSError as error:
        print(f"{deletion[0]}: {error.strerror}", file=sys.stderr)
    shim = _listener(path)
    record = _record(bundle)
    end = time.monotonic() + _PATIENCE
    while shim and record is None and os.path.exists(f"{bundle}/init.pid"):
        if time.monotonic() > end:
            break
        time.sleep(0.01)  # it has been told of the end by the kernel, and is writing it down
        record = _record(bundle)
    if shim:
        _kill(shim)
    linux.unmount_all(os.path.join(bundle, "rootfs"), lazy=True)
    if os.path.exists(path):
        os.unlink(path)
    if record is None:
        # it never ended by itself: the kill above is its end
        record = {"pid": 0, "status": 128 + signal.SIGKILL, "exited_at": time.time_ns()}
    at = record["exited_at"]
    answer = {
        "pid": record["pid"],
        "exit_status": record["status"],
        "exited_at": {"seconds": at // 10**9, "nanos": at % 10**9},
    }
    return encode("DeleteResponse", answer)


def _record(bundle: str) -> dict[str, int] | None:
    try:
        with open(os.path.join(bundle, "exit.json")) as file:
            return dict(json.load(file))
    except FileNotFoundError:
        return None


def _listener(path: str) -> int:
    """The pid of who listens at ``path``; 0 for nobody. No file can be out of date like that."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return 0
        given = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", given)[0])


def _kill(pid: int) -> None:
    """SIGKILL, and wait until it is gone."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        os.kill(pid, signal.SIGKILL)
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.poll(_PATIENCE * 1000)
    except ProcessLookupError:
        return
    finally:
        os.close(handle)
