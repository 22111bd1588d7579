"""The zygote: has imported what a shim needs, and forks one for each request."""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
import traceback
from typing import Any

from coreshim import metrics, shim, stdio, task

__all__ = ["run"]

_PRELOADED = (metrics, stdio, task)


def run(fd: int) -> None:
    """Serve requests on the SOCK_SEQPACKET descriptor ``fd`` until its other end closes."""
    # whatever the daemon was given by its own parent is nobody's business here, nor a container's
    os.closerange(3, fd)
    os.closerange(fd + 1, 1 << 16)
    channel = socket.socket(fileno=fd)
    gc.freeze()
    while True:
        data = channel.recv(1 << 20)
        if not data:
            return
        request = json.loads(data)
        _fork(channel, request)


def _fork(channel: socket.socket, request: dict[str, Any]) -> None:
    """Fork twice: the shim becomes an orphan, and is nobody's child but init's."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setsid()
            if os.fork() == 0:
                _become(channel, request)
            status = 0
        finally:
            os._exit(status)
    os.waitpid(pid, 0)


def _become(channel: socket.socket, request: dict[str, Any]) -> None:
    """The rest of the child's life."""
    answered = False

    def ready(address: str) -> None:
        nonlocal answered
        answered = True
        answer = {"n": request["n"], "version": 3, "address": address, "protocol": "ttrpc"}
        channel.send(json.dumps({**answer, "pid": os.getpid()}).encode())
        channel.close()

    try:
        shim.detach(request["bundle"])
        path = shim.socket_path(request["address"], request["namespace"], request["id"])
        shim.serve(request["namespace"], request["id"], request["bundle"], path, "", ready)
    except BaseException as error:
        traceback.print_exc()
        sys.stderr.flush()
        if not answered:
            text = f"{type(error).__name__}: {error}"
            channel.send(json.dumps({"n": request["n"], "error": text}).encode())
        os._exit(1)
    os._exit(0)
