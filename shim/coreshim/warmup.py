"""A life in play, before the first fork: what it makes ready, every shim shares and none pays for.

Python specialises code as it runs and fills caches at first use, by writing into its objects; done
in the zygote, those pages stay shared.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import tempfile
from typing import Any

from cored.rpc.ttrpc import REQUEST, Decoder, Frame
from cored.rpc.ttrpc import encode as encode_frame
from coreshim.codec import decode, encode
from coreshim.hibernation import Luggage, receive, send
from coreshim.keeper import Keeper, become_subreaper
from coreshim.loop import Loop
from coreshim.messages import MESSAGES
from coreshim.publish import Publisher
from coreshim.reaper import Reaper
from coreshim.server import Server
from coreshim.stdio import Streams
from coreshim.task import TaskService

__all__ = ["warm_up"]

_ROUNDS = 12
# undoing a create calls the runtime: not a real one here
_RUNTIME = b'{"binary": "/bin/true", "root": "/nowhere"}'
_CONFIG = b'{"linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}]}}'


def warm_up() -> None:
    """Serve requests that fail, start a program, relay a stream; leaves nothing behind."""
    place = tempfile.mkdtemp(prefix="cored-zygote-")
    before = os.getcwd()
    try:
        os.chdir(place)
        become_subreaper(False)
        with open("config.json", "wb") as file:
            file.write(_CONFIG)
        with open("runtime", "wb") as file:
            file.write(_RUNTIME)
        for _ in range(_ROUNDS):
            _life(place)
            _sleep()
    finally:
        os.chdir(before)
        shutil.rmtree(place)


def _life(place: str) -> None:
    loop = Loop()
    line, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reaper = Reaper(loop, line)
    publisher = Publisher(loop, "zygote", "")
    service = TaskService(loop, reaper, os.getpid(), "zygote", "zygote", place, publisher)
    server = Server.listening(loop, os.path.join(place, "s"), service.methods())
    client = socket.socket(socket.AF_UNIX)
    try:
        client.connect(os.path.join(place, "s"))
        for number, (method, request) in enumerate(_requests(place)):
            name = "CreateTaskRequest" if method == "Create" else f"{method}Request"
            payload = encode(
                "Request",
                {
                    "service": "containerd.task.v3.Task",
                    "method": method,
                    "payload": encode(name, request),
                    "metadata": [{"key": "containerd-namespace-ttrpc", "value": "zygote"}],
                },
            )
            client.send(encode_frame(Frame(number * 2 + 1, REQUEST, payload)))
        loop.spawn(_play(loop, service, place))
        loop.run()
        for frame in Decoder().feed(client.recv(1 << 16)):
            decode("Response", frame.payload)
        for name in MESSAGES:
            decode(name, encode(name, {}))
    finally:
        client.close()
        server.close()
        reaper.close()
        loop.close()
        line.close()
        far.close()


def _sleep() -> None:
    """What a keeper does, but for the forks."""
    keeper = Keeper(lambda line, parcel: None, ())
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind("")
        luggage = Luggage()
        luggage.pack(os.dup(2))
        luggage.pack(os.dup(listener.fileno()))
        watched = {luggage.descriptors[1]: select.POLLIN}
        send(keeper.far, {"order": []}, luggage, watched, [1])
        for fd in luggage.descriptors:
            os.close(fd)
        parcel = receive(keeper.line)
        assert parcel is not None
        keeper.tell(1, 0)
        keeper.sleep(parcel)
        keeper.reap()
        for fd in parcel.descriptors:
            os.close(fd)
    finally:
        listener.close()
        keeper.close()


def _requests(place: str) -> list[tuple[str, dict[str, Any]]]:
    """One of each that a container's life has; all of them fail for want of a runtime."""
    mount = {"type": "none", "source": "none", "options": ["ro", "lowerdir=/a:/b"]}
    create: dict[str, Any] = {
        "id": "zygote",
        "bundle": place,
        "rootfs": [mount],
        "stdout": "/nowhere/at/all",
        "options": {"type_url": "containerd.runc.v1.Options", "value": b""},
    }
    return [
        ("Create", create),
        ("State", {"id": "zygote"}),
        ("Start", {"id": "zygote"}),
        ("Wait", {"id": "zygote"}),
        ("Kill", {"id": "zygote", "signal": 9}),
        ("Delete", {"id": "zygote"}),
        ("Connect", {"id": "zygote"}),
    ]


async def _play(loop: Loop, service: TaskService, place: str) -> None:
    """A process with streams and an exit, then the end."""
    fifo = os.path.join(place, "fifo")
    os.mkfifo(fifo)
    streams = Streams(loop)
    streams.open("", fifo, f"json-file://{place}/log.json", False)
    await service.run_program(["/bin/true"], streams.files)
    streams.started()
    streams.ended()
    await streams.drained(0.1)
    streams.close()
    os.unlink(fifo)
    await loop.sleep(0.0)
    loop.stop()
