"""The zygote: has imported what a shim needs, and keeps a fork of itself waiting for work."""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
import traceback
from typing import Any

from coreshim import fast, metrics, shim, stdio, task
from coreshim.hibernation import Parcel
from coreshim.keeper import Keeper, prepare
from coreshim.warmup import warm_up

__all__ = ["run"]

# the next fork waits until the shim that was taken has got going, ms
_LEISURE = 10

_PRELOADED = (fast, metrics, stdio, task)


def run(fd: int) -> None:
    """Serve requests on the SOCK_SEQPACKET descriptor ``fd`` until its other end closes.

    Requests are read by the waiting fork, which tells the zygote through a pipe that it is taken
    and becomes the shim; so a request costs no fork. Shims outlive the zygote.
    """
    # whatever the daemon was given by its own parent is nobody's business here, nor a container's
    os.closerange(3, fd)
    os.closerange(fd + 1, 1 << 16)
    channel = socket.socket(fileno=fd)
    taken, take = os.pipe()
    awake, wake = socket.socketpair()
    prepare()
    warm_up()
    for end in (awake, wake):
        end.setblocking(False)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    gc.collect()  # sockets too, which every shim would have
    gc.freeze()
    poll = select.poll()
    poll.register(taken, select.POLLIN)
    poll.register(awake, select.POLLIN)
    poll.register(channel, 0)  # its end alone: what arrives is for the fork
    ours = (taken, awake.fileno(), wake.fileno())
    waiting = _fork(channel, take, ours)
    while True:
        found = dict(poll.poll(-1 if waiting else _LEISURE))
        events = found.get(channel.fileno(), 0)
        if events & (select.POLLHUP | select.POLLERR):
            signal.set_wakeup_fd(-1)
            if waiting:
                os.kill(waiting, signal.SIGKILL)
                os.waitpid(waiting, 0)
            return
        if not waiting and (events or not found):
            poll.modify(channel, 0)
            waiting = _fork(channel, take, ours)
        if taken in found:
            os.read(taken, 1)
            waiting = 0
            poll.modify(channel, select.POLLIN)  # the next request is in a hurry
        if awake.fileno() in found:
            awake.recv(4096)
            if waiting in _reaped():  # killed by somebody before there was work for it
                waiting = _fork(channel, take, ours)


def _reaped() -> set[int]:
    """The pids of shims that have ended."""
    pids: set[int] = set()
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return pids
        if pid == 0:
            return pids
        pids.add(pid)


def _fork(channel: socket.socket, take: int, zygote_s: tuple[int, ...]) -> int:
    """Fork a keeper whose worker waits, without the zygote's own descriptors; its pid."""
    pid = os.fork()
    if pid:
        return pid  # what is written to before the next fork is this one's alone: do little
    try:
        signal.set_wakeup_fd(-1)
        for fd in zygote_s:
            os.close(fd)
        passed = (channel.fileno(), take)
        Keeper(lambda line, parcel: _work(channel, take, line, parcel), passed).run()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(0)


def _work(channel: socket.socket, take: int, line: socket.socket, parcel: Parcel | None) -> None:
    """A worker's life: the first one waits for something to do."""
    if parcel is not None:
        shim.resume(line, parcel)
        return
    data = channel.recv(1 << 20)
    if data:
        os.write(take, b"1")
        os.close(take)
        _become(line, channel, json.loads(data))


def _become(line: socket.socket, channel: socket.socket, request: dict[str, Any]) -> None:
    """The rest of the first worker's life."""
    answered = False

    def ready(address: str) -> None:
        nonlocal answered
        answered = True
        answer = {"n": request["n"], "version": 3, "address": address, "protocol": "ttrpc"}
        channel.send(json.dumps({**answer, "pid": os.getppid()}).encode())
        channel.close()

    try:
        order = shim.Order(
            request["namespace"],
            request["id"],
            request["bundle"],
            shim.socket_path(request["address"], request["namespace"], request["id"]),
            f"{request['address']}.ttrpc",
            False,
            request.get("idle", shim.IDLE),
        )
        shim.serve(line, order, ready)
    except BaseException as error:
        if not answered:
            text = f"{type(error).__name__}: {error}"
            channel.send(json.dumps({"n": request["n"], "error": text}).encode())
        raise
