"""The API beside containerd's: latency of calls, throughput of content, fan-out of events."""

from __future__ import annotations

import json
import os
import selectors
import statistics
import time
from contextlib import ExitStack, closing

from cored._pb.containerd.services.containers.v1 import containers_pb2
from cored._pb.containerd.services.content.v1 import content_pb2
from cored._pb.containerd.services.events.v1 import events_pb2
from cored.oci.spec import SpecOptions, build
from tests.bench.compare import Row, interleaved
from tests.bench.load import Connection
from tests.daemons import Daemon

__all__ = ["content", "events", "unary"]

_CONTAINERS = "/containerd.services.containers.v1.Containers"
_CONTENT = "/containerd.services.content.v1.Content"
_EVENTS = "/containerd.services.events.v1.Events"
_MIB = 1 << 20


def unary(ours: Daemon, peer: Daemon, rounds: int, records: int) -> list[Row]:
    """The median latency of a call, one after the other."""
    with ExitStack() as stack:
        links = {id(d): stack.enter_context(_connected(d, "bench")) for d in (ours, peer)}
        for link in links.values():
            for number in range(records):
                link.unary(f"{_CONTAINERS}/Create", _container(number).SerializeToString())
        get = containers_pb2.GetContainerRequest(id=f"container{records // 2}").SerializeToString()

        def one(daemon: Daemon, _: int) -> float:
            return _latency(links[id(daemon)], f"{_CONTAINERS}/Get", get, 300)

        def all_(daemon: Daemon, _: int) -> float:
            return _latency(links[id(daemon)], f"{_CONTAINERS}/List", b"", 5)

        for link in links.values():
            answer = link.unary(f"{_CONTAINERS}/List", b"")
            found = containers_pb2.ListContainersResponse.FromString(answer)
            assert len(found.containers) == records
        rows = [
            interleaved("Containers.Get", "ms", 2.0, rounds, one, ours, peer),
            interleaved(f"Containers.List, {records}", "ms", 2.0, rounds, all_, ours, peer),
        ]
        for link in links.values():
            for number in range(records):
                gone = containers_pb2.DeleteContainerRequest(id=f"container{number}")
                link.unary(f"{_CONTAINERS}/Delete", gone.SerializeToString())
    return rows


def content(ours: Daemon, peer: Daemon, rounds: int, size: int) -> list[Row]:
    """The time to write a blob of ``size`` MiB, MiB by MiB as Go clients do, and to read it."""
    piece = os.urandom(_MIB)
    digests: dict[int, str] = {}

    def write(daemon: Daemon, number: int) -> float:
        with _connected(daemon, "bench") as link:
            start = time.perf_counter()
            digests[id(daemon)] = _written(link, f"round{number}", piece, size, number)
            return time.perf_counter() - start

    def read(daemon: Daemon, number: int) -> float:
        request = content_pb2.ReadContentRequest(digest=digests[id(daemon)])
        with _connected(daemon, "bench") as link:
            start = time.perf_counter()
            stream = link.begin(f"{_CONTENT}/Read", request.SerializeToString())
            received = sum(map(len, link.all(stream)))
            elapsed = time.perf_counter() - start
            if received < size * _MIB:
                raise RuntimeError(f"read {received} bytes: {link.status()}")
        return elapsed

    def fresh(daemon: Daemon, number: int) -> float:
        if id(daemon) in digests:
            _deleted(daemon, digests[id(daemon)])
            time.sleep(1)  # the file goes with the collection that follows: not while we write
        return write(daemon, number)

    rows = [
        interleaved(f"Content.Write, {size} MiB", "s", 1.0, rounds, fresh, ours, peer),
        interleaved(f"Content.Read, {size} MiB", "s", 1.0, rounds, read, ours, peer),
    ]
    for daemon in (ours, peer):
        _deleted(daemon, digests[id(daemon)])
    return rows


def events(ours: Daemon, peer: Daemon, rounds: int, subscribers: int, count: int) -> Row:
    """The time from the first Publish until every subscriber has ``count`` events."""

    def once(daemon: Daemon, number: int) -> float:
        with ExitStack() as stack:
            publisher = stack.enter_context(_connected(daemon, "bench"))
            links = [stack.enter_context(_connected(daemon, "bench")) for _ in range(subscribers)]
            subscriptions = [link.begin(f"{_EVENTS}/Subscribe", b"") for link in links]
            selector = stack.enter_context(selectors.DefaultSelector())
            for position, link in enumerate(links):
                selector.register(link.socket, selectors.EVENT_READ, position)
            # a subscription is there when an event comes through it
            missing = set(range(subscribers))
            while missing:
                publisher.unary(f"{_EVENTS}/Publish", _event("/bench/begin"))
                while ready := selector.select(0.05):
                    for key, _ in ready:
                        links[key.data].receive()
                missing = {n for n in missing if not subscriptions[n].messages}
            for subscription in subscriptions:
                subscription.messages.clear()
            start = time.perf_counter()
            waiting = dict.fromkeys(range(subscribers), count)
            request = _event("/bench/event")
            calls = [publisher.begin(f"{_EVENTS}/Publish", request) for _ in range(count)]
            while waiting:
                for key, _ in selector.select(10):
                    links[key.data].receive()
                    got = subscriptions[key.data].messages
                    waiting[key.data] -= len(got)
                    got.clear()
                    if not waiting[key.data]:
                        del waiting[key.data]
            elapsed = time.perf_counter() - start
            while not all(call.ended for call in calls):
                publisher.receive()
        return elapsed * 1000

    what = f"{count} events to {subscribers} subscribers"
    return interleaved(what, "ms", None, rounds, once, ours, peer)


def _connected(daemon: Daemon, namespace: str) -> closing[Connection]:
    return closing(Connection(str(daemon.address), namespace))


def _latency(link: Connection, path: str, request: bytes, calls: int) -> float:
    """Median, ms."""
    figures = []
    for _ in range(calls):
        start = time.perf_counter()
        link.unary(path, request)
        figures.append(time.perf_counter() - start)
    return statistics.median(figures) * 1000


def _container(number: int) -> containers_pb2.CreateContainerRequest:
    spec = json.dumps(
        build(SpecOptions(args=("sh",), env=("PATH=/usr/bin:/bin", "TERM=xterm")))
    ).encode()
    request = containers_pb2.CreateContainerRequest()
    made = request.container
    made.id = f"container{number}"
    made.image = "docker.io/library/busybox:latest"
    made.runtime.name = "io.containerd.runc.v2"
    made.spec.type_url = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
    made.spec.value = spec
    made.labels["io.containerd.image.config.stop-signal"] = "SIGTERM"
    return request


def _written(link: Connection, ref: str, piece: bytes, size: int, number: int) -> str:
    """Write a blob in one stream, each message after the answer to the one before."""
    write, commit = content_pb2.WRITE, content_pb2.COMMIT
    stream = link.open(f"{_CONTENT}/Write")
    total = size * _MIB
    for position in range(size):
        data = number.to_bytes(8, "big") + position.to_bytes(8, "big") + piece[16:]
        request = content_pb2.WriteContentRequest(
            action=write, ref=ref, total=total, offset=position * _MIB, data=data
        )
        link.send(stream, request.SerializeToString())
        if link.next(stream) is None:
            raise RuntimeError(f"write failed: {link.status()}")
    last = content_pb2.WriteContentRequest(action=commit, ref=ref, total=total, offset=total)
    last.labels["containerd.io/gc.root"] = "bench"
    link.send(stream, last.SerializeToString(), last=True)
    answer = link.next(stream)
    if answer is None:
        raise RuntimeError(f"commit failed: {link.status()}")
    return content_pb2.WriteContentResponse.FromString(answer).digest


def _deleted(daemon: Daemon, digest: str) -> None:
    with _connected(daemon, "bench") as link:
        request = content_pb2.DeleteContentRequest(digest=digest)
        link.unary(f"{_CONTENT}/Delete", request.SerializeToString())


def _event(topic: str) -> bytes:
    request = events_pb2.PublishRequest(topic=topic)
    request.event.type_url = "containerd.events.ContainerDelete"
    request.event.value = b"\n\x0ccontainer500"
    return request.SerializeToString()
