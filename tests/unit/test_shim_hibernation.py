"""What a shim's worker leaves behind is what the next one has, descriptors included."""

from __future__ import annotations

import json
import os
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from coreshim.hibernation import Luggage, Parcel, State, bytes_of, receive, send, text_of
from coreshim.logfile import LogFile
from coreshim.logformat import JsonLines
from coreshim.logged import Logged
from coreshim.loop import Future, Loop
from coreshim.oom import OomWatch
from coreshim.process import RUNNING, STOPPED, Process
from coreshim.relay import Relay
from coreshim.sandbox import SandboxService
from coreshim.sinks import Descriptor
from hypothesis import given
from hypothesis import strategies as st

REQUEST = {"stdin": "/in", "stdout": "/out", "stderr": "", "terminal": True}


@pytest.fixture
def line() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        yield near, far


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


def handed(line: tuple[socket.socket, socket.socket], state: State, luggage: Luggage) -> Parcel:
    """Through the kernel, as from a worker to its keeper."""
    watched = {fd: select.POLLIN for fd in luggage.descriptors}
    assert send(line[0], state, luggage, watched, [1, 2])
    parcel = receive(line[1])
    assert parcel is not None
    return parcel


def test_descriptors_keep_their_places_and_who_waits_for_them(
    line: tuple[socket.socket, socket.socket],
) -> None:
    with ExitStack() as stack:
        pipes = [os.pipe() for _ in range(3)]
        luggage = Luggage()
        state = {"reads": [luggage.pack(reads) for reads, _ in pipes], "none": luggage.pack(-1)}
        parcel = handed(line, state, luggage)
        for fd in (*luggage.descriptors, *parcel.descriptors, *(writes for _, writes in pipes)):
            stack.callback(os.close, fd)
        assert parcel.awaited == [1, 2]
        assert parcel.watched == [(fd, select.POLLIN) for fd in parcel.descriptors]
        assert not any(os.get_inheritable(fd) for fd in parcel.descriptors)
        found, unpacked = parcel.opened()
        assert unpacked.unpack(found["none"]) == -1
        for number, (_, writes) in enumerate(pipes):
            os.write(writes, b"%d" % number)
            assert os.read(unpacked.unpack(found["reads"][number]), 9) == b"%d" % number


def test_nothing_left_is_nothing_received(line: tuple[socket.socket, socket.socket]) -> None:
    assert receive(line[1]) is None


def test_what_is_too_large_or_waits_for_something_else_is_not_sent(
    line: tuple[socket.socket, socket.socket],
) -> None:
    assert not send(line[0], {"x": "y" * (1 << 20)}, Luggage(), {}, [])
    assert not send(line[0], {}, Luggage([0] * 254), {}, [])
    assert not send(line[0], {}, Luggage([0]), {0: select.POLLIN, 1: select.POLLIN}, [])
    assert receive(line[1]) is None


@given(st.binary())
def test_bytes_come_back(data: bytes) -> None:
    assert bytes_of(json.loads(json.dumps(text_of(data)))) == data


@given(
    st.builds(
        dict,
        pid=st.integers(0, 1 << 22),
        status=st.sampled_from((RUNNING, STOPPED)),
        exit_status=st.integers(0, 255),
        exited_at=st.integers(0, 1 << 62),
        spec=st.binary(),
        begun=st.booleans(),
        image=st.text(),
    )
)
def test_a_process_comes_back(values: dict[str, object]) -> None:
    loop = Loop()
    process = Process(loop, "e", REQUEST)
    for name, value in values.items():
        setattr(process, name, value)
    if process.status == STOPPED:
        process.exit.set()
    else:
        process.reaped = Future(loop)
    assert process.quiet
    luggage = Luggage()
    state = json.loads(json.dumps(process.pack(luggage)))
    again = Process.unpacked(loop, state, Luggage(luggage.descriptors))
    assert {name: getattr(again, name) for name in values} == values
    assert (again.exec_id, again.terminal, again.stdout) == ("e", True, "/out")
    assert again.exit.done is process.exit.done
    assert state["runs"] is (process.status == RUNNING)
    again.reaped = process.reaped  # as whoever unpacks it does
    assert again.pack(Luggage()) == state
    loop.close()


def test_a_process_that_is_being_started_is_not_quiet(loop: Loop) -> None:
    process = Process(loop, "", REQUEST)
    process.started = Future(loop)
    assert not process.quiet


def test_a_relay_with_bytes_in_hand_is_not_quiet_and_comes_back_when_it_is(loop: Loop) -> None:
    source, writes = os.pipe2(os.O_NONBLOCK)
    reads, target = os.pipe2(os.O_NONBLOCK)
    relay = Relay(loop, source, Descriptor(target))
    assert relay.quiet
    os.write(target, b"x" * 65536)  # full
    os.write(writes, b"held")
    relay._readable(select.EPOLLIN)
    assert not relay.quiet
    os.read(reads, 65536)
    relay._writable(select.EPOLLOUT)
    assert relay.quiet
    assert os.read(reads, 9) == b"held"
    luggage = Luggage()
    state = json.loads(json.dumps(relay.pack(luggage)))
    loop.unwatch(source)
    again = Relay.unpacked(loop, state, Luggage(luggage.descriptors))
    os.write(writes, b"more")
    again.finish()
    assert os.read(reads, 9) == b"more"
    assert again.done.done
    os.close(reads)
    os.close(writes)


def test_a_log_keeps_the_line_that_has_begun(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = LogFile(str(path), 1000, 2)
    sink = Logged(f"json-file://{path}", "stdout", JsonLines("stdout"), log)
    source, writes = os.pipe2(os.O_NONBLOCK)
    relay = Relay(loop, source, sink)
    sink.write(b"one\ntw")
    luggage = Luggage()
    state = json.loads(json.dumps(relay.pack(luggage)))
    loop.unwatch(source)
    again = Relay.unpacked(loop, state, Luggage(luggage.descriptors))
    os.write(writes, b"o\n")
    os.close(writes)
    again.finish()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["log"], line["stream"]) for line in lines] == [
        ("one\n", "stdout"),
        ("two\n", "stdout"),
    ]


def test_out_of_memory_kills_that_were_told_are_not_told_again(loop: Loop, tmp_path: Path) -> None:
    events = tmp_path / "memory.events"
    events.write_text("oom 3\noom_kill 2\n")
    told: list[str] = []
    watch = OomWatch(loop, lambda: told.append("before"))
    # a plain file cannot be waited for: what is packed is what matters here
    watch._counts = os.open(events, os.O_RDONLY)
    watch.check()
    luggage = Luggage()
    state = json.loads(json.dumps(watch.pack(luggage)))
    again = OomWatch(loop, lambda: told.append("after"))
    again._counts, again._seen = luggage.descriptors[state["counts"]], state["seen"]
    assert not again.check()
    events.write_text("oom 4\noom_kill 3\n")
    assert again.check()
    assert told == ["before", "before", "after"]
    again.close()


def test_a_sandbox_comes_back(loop: Loop) -> None:
    sandbox = SandboxService(loop, 7, lambda: None)
    sandbox.unpack({"id": "box", "times": [1, 2, 0]})
    assert not sandbox.idle
    assert sandbox.pack() == {"id": "box", "times": [1, 2, 0]}
    ended = SandboxService(loop, 7, lambda: None)
    ended.unpack({"id": "box", "times": [1, 2, 3]})
    assert ended._ended.done
    assert not sandbox._ended.done


def test_a_loop_says_when_nothing_has_happened_and_not_before_something_has(loop: Loop) -> None:
    order: list[str] = []
    near, far = os.pipe()

    def readable(events: int) -> None:
        order.append(os.read(near, 9).decode())

    def rested() -> None:
        order.append("rest")
        if len(order) == 1:
            os.write(far, b"more")
        elif len(order) == 3:
            loop.stop()

    loop.watch(near, select.EPOLLIN, readable)
    loop.when_nothing_happens(0.01, rested)
    loop.run()
    assert order == ["rest", "more", "rest"]
    os.close(near)
    os.close(far)


def test_a_coroutine_that_is_abandoned_is_not_running(loop: Loop) -> None:
    future = Future(loop)

    async def wait() -> None:
        await future

    waiting = wait()
    loop.spawn(waiting)
    assert loop.running == 1
    loop.abandon(waiting, future)
    assert loop.running == 0
    future.set()
    assert not loop.ready
