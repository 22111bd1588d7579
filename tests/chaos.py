"""Containers that live and work while their daemon, their shims and they themselves are killed."""

from __future__ import annotations

import functools
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from tests.daemons import Daemon
from tests.grpc_client import Client, opened
from tests.tasks import Container, alive, kill_zygote, parent

LINES = 200
# what a daemon's death looks like to a client, which tries again then
_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)
_PATIENCE = 90.0
# so often at most; of containers and shims, a seventh
_LIMITS = {"daemon": 8, "zygote": 5}


def steady(daemon: Daemon) -> Client:
    """A client whose connection comes back soon after the daemon does."""
    options = [
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 200),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    channel = grpc.insecure_channel(f"unix:{daemon.address}", options=options)
    return Client(daemon.address, "default", channel=channel)


@dataclass
class Life:
    """One container from its record to its removal, and what was seen of it."""

    box: Container
    fifo: Path | None
    log: Path
    code: int
    exec_code: int | None
    runtime: str
    rng: random.Random
    pid: int = 0
    killed: bool = False
    shim_killed: bool = False
    status: int | None = None
    deleted: int | None = None
    exec_status: int | None = None
    output: bytes = b""
    over: threading.Event = field(default_factory=threading.Event)
    failure: str = ""

    def live(self) -> None:
        """All of it, in one thread, with another that reads."""
        reader = threading.Thread(target=self._read)
        reader.start()
        try:
            self._live()
        except Exception as error:
            self.failure = self.failure or f"{self.box.id}: {error!r}"
        finally:
            self.over.set()
            reader.join()

    def _live(self) -> None:
        # one without an exec ends by itself, whoever is there to see it
        until = "" if self.exec_code is None else " while [ ! $told ]; do sleep 0.1; done;"
        script = (
            f"trap told=1 TERM; i=0; while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1));"
            f" [ $((i % 20)) = 0 ] && sleep 0.3; done;{until} exit {self.code}"
        )
        words = ("sh", "-c", script)
        record = functools.partial(self.box.record, *words, runtime=self.runtime)
        self._insist("record", record, "ALREADY_EXISTS")
        out = str(self.fifo) if self.fifo else f"file://{self.log}"
        # containerd 1.6's shim crashes where a file takes stdout alone
        err = "" if self.fifo else out
        self._insist("create", lambda: self.box.create(stdout=out, stderr=err), "ALREADY_EXISTS")
        self._insist("start", lambda: self.box.call("Start"), "FAILED_PRECONDITION")
        self.pid = self._insist("get", self.box.pid) or 0
        if self.exec_code is not None:
            self._exec()
            self._insist("kill", lambda: self.box.call("Kill", signal=15), "NOT_FOUND")
        ended = self._insist("wait", lambda: self.box.call("Wait"))
        self.status = ended.exit_status
        self.over.wait(0.1)
        self._await_output()
        self.over.set()
        gone = self._insist("delete", lambda: self.box.call("Delete"), "NOT_FOUND")
        self.deleted = self.status if gone is None else gone.exit_status
        self._insist("forget", lambda: self.box.api.containers.Delete(id=self.box.id), "NOT_FOUND")

    def _exec(self) -> None:
        pause = self.rng.uniform(0.0, 1.0)
        words = ("sh", "-c", f"sleep {pause:.2f}; exit {self.exec_code}")
        try:
            self._insist("exec", lambda: self.box.add("e", *words), "ALREADY_EXISTS")
            self._insist(
                "exec start", lambda: self.box.call("Start", exec_id="e"), "FAILED_PRECONDITION"
            )
            ended = self._insist("exec wait", lambda: self.box.call("Wait", exec_id="e"))
            self.exec_status = ended.exit_status
            self._insist(
                "exec delete", lambda: self.box.call("DeleteProcess", exec_id="e"), "NOT_FOUND"
            )
        except grpc.RpcError:
            if not self.killed:
                raise
            self.failure = ""  # went with it

    def _insist(self, what: str, call: Any, *fine: str) -> Any:
        """Call until the daemon answers; None when that is an error that was to be expected."""
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                return call()
            except grpc.RpcError as error:
                code = error.code()
                if code.name in fine or "cannot start a " in str(error.details()):
                    return None  # done before, as ours says it, and containerd's
                if code not in _AWAY or time.monotonic() > end:
                    self.failure = f"{self.box.id}: {what}: {code.name}: {error.details()}"
                    raise
            time.sleep(0.1)

    def _await_output(self) -> None:
        """Give the reader time to read what there is, as a client does before it deletes."""
        end = time.monotonic() + 60
        last = f"line {LINES - 1}\n".encode()
        while self.fifo and not self.killed:
            if self.output.endswith(last) or time.monotonic() > end:
                return
            time.sleep(0.05)

    def _read(self) -> None:
        """Come, read for a while, go, and come again."""
        while self.fifo:
            over = self.over.is_set()
            fd = os.open(self.fifo, os.O_RDONLY | os.O_NONBLOCK)
            try:
                end = time.monotonic() + self.rng.uniform(0.1, 0.6)
                while time.monotonic() < end:
                    with suppress(BlockingIOError):
                        self.output += os.read(fd, 1 << 16)
                    if over:
                        break
                    time.sleep(0.02)
            finally:
                os.close(fd)
            if over:
                return
            self.over.wait(self.rng.uniform(0.0, 0.2))

    def problems(self) -> Iterator[str]:
        """What is not as it must be."""
        if self.failure:
            yield self.failure
            return
        right = {self.code}
        if self.killed:
            right.add(137)
        if self.status not in right or self.deleted != self.status:
            yield f"{self.box.id}: ended with {self.status}, {self.deleted}, not {right}"
        if not self.killed and self.exec_status != self.exec_code:
            yield f"{self.box.id}: its exec ended with {self.exec_status}, not {self.exec_code}"
        output = self.output if self.fifo else self.log.read_bytes()
        wanted = "".join(f"line {n}\n" for n in range(LINES)).encode()
        # what the shim still had in its hands when it was killed is lost
        if not wanted.startswith(output) or (output != wanted and not self.killed):
            yield f"{self.box.id}: its log has {output.count(b'line')} lines, or not in order"


class Chaos:
    """Kills the daemon, shims, inits and the zygote, at random, until it is told to stop."""

    def __init__(self, daemon: Daemon, lives: Sequence[Life], rng: random.Random) -> None:
        self._daemon = daemon
        self._lives = lives
        self._rng = rng
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.done: Counter[str] = Counter()
        self.failure: BaseException | None = None

    @contextmanager
    def going_on(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._rng.uniform(0.1, 0.5)):
                what = self._rng.choices(
                    ("daemon", "shim", "init", "zygote"), weights=(2, 4, 4, 1)
                )[0]
                if self.done[what] < _LIMITS.get(what, len(self._lives) / 7):
                    self.done[what] += getattr(self, f"_kill_{what}")()
        except BaseException as error:
            self.failure = error

    def _kill_daemon(self) -> bool:
        self._daemon.kill()
        self._stop.wait(self._rng.uniform(0.0, 0.5))
        self._daemon.start(60)
        return True

    def _kill_zygote(self) -> bool:
        assert self._daemon.process is not None
        return kill_zygote(self._daemon.process.pid)

    def _kill_shim(self) -> bool:
        return self._kill(shim=True)

    def _kill_init(self) -> bool:
        return self._kill(shim=False)

    def _kill(self, *, shim: bool) -> bool:
        """One that runs, and most likely goes on to."""
        running = [n for n in self._lives if n.pid and n.status is None and not n.killed]
        if not running:
            return False
        life = self._rng.choice(running)
        try:
            pid = parent(life.pid) if shim else life.pid
            handle = os.pidfd_open(pid)
        except (OSError, ProcessLookupError):
            return False
        try:
            mark = f"/{life.box.id}\n"
            if pid == 1 or mark not in Path(f"/proc/{life.pid}/cgroup").read_text():
                return False  # it has ended, and the number may be another's
            # before: from here on anything may be seen
            life.killed, life.shim_killed = True, shim
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        except OSError:
            return False
        finally:
            os.close(handle)
        return True


class Exits:
    """Every exit event of the daemons that come and go, by (container, process)."""

    def __init__(self, daemon: Daemon) -> None:
        self._client = steady(daemon)
        self._stop = False
        self._call: Any = None
        self._thread = threading.Thread(target=self._run)
        self.seen: Counter[tuple[str, str]] = Counter()
        self.statuses: dict[tuple[str, str], int] = {}

    @contextmanager
    def watched(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop = True
            if self._call is not None:
                self._call.cancel()
            self._thread.join()
            self._client.close()

    def _run(self) -> None:
        while not self._stop:
            try:
                self._call = self._client.events.Subscribe(
                    filters=['topic=="/tasks/exit"'], timeout=300
                )
                for envelope in self._call:
                    event = opened(envelope)
                    self.seen[event.container_id, event.id] += 1
                    self.statuses[event.container_id, event.id] = event.exit_status
            except grpc.RpcError:
                time.sleep(0.1)


def processes(*marks: str) -> list[str]:
    """Every process that has one of ``marks`` in its cgroups, command or directory."""
    found = []
    for path in Path("/proc").iterdir():
        if not path.name.isdecimal() or int(path.name) == os.getpid():
            continue
        with suppress(OSError):
            command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            text = "\n".join((command, os.readlink(path / "cwd"), (path / "cgroup").read_text()))
            if any(mark in text for mark in marks) and alive(int(path.name)):
                found.append(f"{path.name} in {os.readlink(path / 'cwd')}: {command[-200:]}")
    return found
