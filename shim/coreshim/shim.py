"""A shim's life: its place in the world, its socket, its end."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress

from cored import linux
from coreshim.console import SOCKETS
from coreshim.loop import Loop
from coreshim.publish import Publisher
from coreshim.sandbox import SandboxService
from coreshim.server import Method, Server
from coreshim.task import TaskService

__all__ = ["SOCKETS", "become_subreaper", "detach", "serve", "socket_path"]

_PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 15, 36
# a shim whose manager died before it created anything goes away by itself, seconds
_UNUSED = 60.0


def socket_path(address: str, namespace: str, id: str) -> str:
    """A shim's socket: short (sun_path has 107 bytes) and its own."""
    name = hashlib.sha256(f"{address}\0{namespace}\0{id}".encode()).hexdigest()[:32]
    return f"{SOCKETS}/{name}.sock"


def detach(bundle: str) -> None:
    """Become nobody's: a session of one's own, the bundle as directory, no streams of others."""
    os.chdir(bundle)
    null = os.open(os.devnull, os.O_RDWR)
    log = os.open("shim.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    for target, source in ((0, null), (1, log), (2, log)):
        os.dup2(source, target)
    os.close(null)
    os.close(log)
    _protect_manager()
    linux.prctl(_PR_SET_NAME, b"cored-shim")
    become_subreaper(True)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)


def become_subreaper(on: bool) -> None:
    """Whether orphans among our descendants become our children (prctl(2))."""
    linux.prctl(_PR_SET_CHILD_SUBREAPER, int(on))


def _protect_manager() -> None:
    """Where the manager is protected from the OOM killer, be one step before it."""
    with open("/proc/self/oom_score_adj", "r+") as file:
        score = int(file.read())
        if score < 0:  # otherwise leave it: containers inherit it, and may be unable to lower it
            file.seek(0)
            file.write(str(score + 1))


def _listening(loop: Loop, path: str, methods: Mapping[tuple[str, str], Method]) -> Server:
    while True:
        os.makedirs(SOCKETS, mode=0o711, exist_ok=True)
        with suppress(FileNotFoundError):
            os.unlink(path)
        try:
            return Server(loop, path, methods)
        except FileNotFoundError:
            continue  # another shim, which thought itself the last, has removed the directory


def serve(
    namespace: str,
    id: str,
    bundle: str,
    path: str,
    events: str,
    ready: Callable[[str], None],
    *,
    all_events: bool = True,
) -> None:
    """Listen on ``path``, tell ``ready`` the address, and serve until Shutdown.

    ``events`` is where the manager takes events, and ``all_events`` whether it wants every one.
    """
    loop = Loop()
    publisher = Publisher(loop, namespace, events, all=all_events)
    service = TaskService(loop, namespace, id, bundle, publisher)
    sandbox = SandboxService(loop, loop.stop)
    server = _listening(loop, path, service.methods() | sandbox.methods())
    address = f"unix://{path}"
    with open("address", "w") as file:
        file.write(address)
    ready(address)

    def unused() -> None:
        idle = service.idle and sandbox.idle
        if idle and not server.connections:
            loop.stop()
        elif idle:
            loop.later(_UNUSED, unused)

    loop.later(_UNUSED, unused)
    try:
        loop.run()
    finally:
        server.close()
        with suppress(OSError):  # the last one out; others may still be in
            os.rmdir(SOCKETS)
        sys.stderr.flush()
