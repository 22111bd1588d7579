"""A shim's worker: its place in the world, its parts, its sleep and its end."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from coreshim import hibernation, rest
from coreshim.console import SOCKETS
from coreshim.hibernation import Luggage, Parcel, State
from coreshim.loop import Loop
from coreshim.publish import Publisher
from coreshim.reaper import Reaper
from coreshim.sandbox import SandboxService
from coreshim.server import Method, Server
from coreshim.task import TaskService

__all__ = ["IDLE", "SOCKETS", "Order", "resume", "serve", "socket_path"]

# a shim whose manager died before it created anything goes away by itself, seconds
_UNUSED = 60.0
# so long nothing happens before a worker goes to sleep; more than any delay in between, seconds
IDLE = 2.0


class Order(NamedTuple):
    """What a shim is to be, as its manager says.

    ``path`` is its socket, ``events`` where the manager takes events, and ``all_events`` whether
    it wants every one.
    """

    namespace: str
    id: str
    bundle: str
    path: str
    events: str
    all_events: bool
    idle: float = IDLE


def socket_path(address: str, namespace: str, id: str) -> str:
    """A shim's socket: short (sun_path has 107 bytes) and its own."""
    name = hashlib.sha256(f"{address}\0{namespace}\0{id}".encode()).hexdigest()[:32]
    return f"{SOCKETS}/{name}.sock"


def serve(line: socket.socket, order: Order, ready: Callable[[str], None]) -> None:
    """Be the first worker of a new shim: listen, tell ``ready`` the address, serve."""
    os.chdir(order.bundle)
    log = os.open("shim.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    _take_places(log)
    worker = _Worker(line, order, log)
    worker.listen()
    address = f"unix://{order.path}"
    with open("address", "w") as file:
        file.write(address)
    ready(address)
    worker.run()


def resume(line: socket.socket, parcel: Parcel) -> None:
    """Be the next worker of a shim, after one that went to sleep."""
    state, luggage = parcel.opened()
    order = Order(*state["order"])
    log = luggage.unpack(state["log"])
    os.chdir(order.bundle)
    rest.withdraw(order.bundle)
    _take_places(log)
    worker = _Worker(line, order, log)
    worker.unpack(state, luggage)
    worker.run()


class _Worker:
    """All parts of a shim; ``log`` is the descriptor of its own log."""

    def __init__(self, line: socket.socket, order: Order, log: int) -> None:
        self._line = line
        self._order = order
        self._log = log
        self._asleep = False
        shim = os.getppid()
        self._loop = loop = Loop()
        self._reaper = Reaper(loop, line)
        self._publisher = Publisher(loop, order.namespace, order.events, all=order.all_events)
        self._service = TaskService(
            loop, self._reaper, shim, order.namespace, order.id, order.bundle, self._publisher
        )
        self._sandbox = SandboxService(loop, shim, loop.stop)
        self._server: Server | None = None

    def listen(self) -> None:
        """Begin to serve."""
        path = self._order.path
        while self._server is None:
            os.makedirs(SOCKETS, mode=0o711, exist_ok=True)
            with suppress(FileNotFoundError):
                os.unlink(path)
            # if not: another shim, which thought itself the last, has removed the directory
            with suppress(FileNotFoundError):
                self._server = Server.listening(self._loop, path, self._methods())

    def unpack(self, state: State, luggage: Luggage) -> None:
        """Go on to serve."""
        # first what requests ask about: those that wait are asked again
        self._sandbox.unpack(state["sandbox"])
        self._service.unpack(state["task"], luggage)
        self._server = Server.unpacked(self._loop, state["server"], luggage, self._methods())

    def run(self) -> None:
        """Serve until Shutdown, or until there is nothing to do."""
        assert self._server is not None
        self._loop.later(_UNUSED, self._end_if_unused)
        self._loop.when_nothing_happens(self._order.idle, self._sleep_if_quiet)
        try:
            self._loop.run()
        finally:
            if not self._asleep:
                self._server.close()
                with suppress(OSError):  # the last one out; others may still be in
                    os.rmdir(SOCKETS)
            sys.stderr.flush()

    def _methods(self) -> Mapping[tuple[str, str], Method]:
        return self._service.methods() | self._sandbox.methods()

    def _end_if_unused(self) -> None:
        assert self._server is not None
        unused = self._service.idle and self._sandbox.idle
        if unused and not self._server.connections:
            self._loop.stop()
        elif unused:
            self._loop.later(_UNUSED, self._end_if_unused)

    def _sleep_if_quiet(self) -> None:
        """Hand over everything and end, unless something is not settled."""
        server, service = self._server, self._service
        assert server is not None
        unused = service.idle and self._sandbox.idle
        if unused or not (self._publisher.quiet and server.quiet and service.quiet):
            return
        if self._loop.running != server.waits + len(service.awaited):
            return  # somebody is in the middle of something
        self._publisher.close()
        luggage = Luggage()
        state: State = {
            "log": luggage.pack(self._log),
            "server": server.pack(luggage),
            "order": self._order,
            "task": service.pack(luggage),
            "sandbox": self._sandbox.pack(),
        }
        watched = {
            fd: events
            for fd, events in self._loop.watched.items()
            if fd not in self._reaper.descriptors
        }
        callers = [connection["channel"] for connection in state["server"]["connections"]]
        if not self._order.all_events:
            address = f"unix://{self._order.path}"
            rest.note(self._order.bundle, address, os.getppid(), state["task"]["processes"])
        if hibernation.send(self._line, state, luggage, watched, service.awaited, callers):
            self._asleep = True
            self._loop.stop()
        else:
            rest.withdraw(self._order.bundle)


def _take_places(log: int) -> None:
    """Standard streams of our own: nothing to read, and the log for what goes wrong."""
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    for target, source in ((0, null), (1, log), (2, log)):
        os.dup2(source, target)
    os.close(null)
