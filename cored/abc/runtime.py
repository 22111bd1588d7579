"""The runtime seam: tasks, the running side of containers.

Terms. A *task* is the processes of one container; its *init* process has exec id ''. Other
processes are *execs*. A process goes created -> running (<-> paused) -> stopped -> deleted.
A task outlives the daemon: whoever implements this seam finds it again (:meth:`Runtime.recover`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import StrEnum
from pathlib import Path
from typing import Literal

from cored.abc.values import Labels, Mount, Typed
from cored.dataclass import dataclass

__all__ = [
    "CreateOptions",
    "ExecOptions",
    "Exit",
    "ProcessState",
    "Runtime",
    "RuntimeInfo",
    "Status",
    "Stdio",
    "Task",
]


class Status(StrEnum):
    """Where a process stands."""

    UNKNOWN = "unknown"
    CREATED = "created"
    RUNNING = "running"
    STOPPED = "stopped"
    PAUSED = "paused"
    PAUSING = "pausing"


@dataclass(frozen=True, slots=True)
class Stdio:
    """Where a process's streams go: FIFO paths or URIs (``file:// binary:// json-file://``).

    '' is /dev/null; with ``terminal`` there is no stderr.
    """

    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    terminal: bool = False


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """All that a runtime needs to create a task."""

    spec: Typed
    rootfs: Sequence[Mount] = ()
    stdio: Stdio = field(default_factory=Stdio)
    checkpoint: str = ""
    options: Typed | None = None
    runtime: str = ""
    sandbox: str = ""
    labels: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExecOptions:
    """All that a runtime needs for one more process in a task; ``spec`` is an OCI process."""

    spec: Typed
    stdio: Stdio = field(default_factory=Stdio)


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: its pid, exit status (128+n for signal n) and time in ns."""

    pid: int
    status: int
    exited_at: int


@dataclass(frozen=True, slots=True)
class ProcessState:
    """What is known of one process; exit fields are 0 until it is stopped."""

    id: str
    exec_id: str
    bundle: str
    pid: int
    status: Status
    stdio: Stdio
    exit_status: int = 0
    exited_at: int = 0


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """What is told about a runtime: an OCI runtime, or a shim of somebody's.

    ``features`` is JSON of the runtime specification. ``problem`` says why it cannot work on this
    host, '' where nothing is known against it; ``limits`` what it cannot do, and why, by a word:
    ``update`` (of limits), ``pause``, ``recovery``, ``host-pids`` (as the host sees them),
    ``precondition`` (that code for a wrong state), ``one-stream``, ``mixed-streams`` and
    ``close-stdin`` (while somebody writes to it).
    """

    name: str
    version: str = ""
    features: Typed | None = None
    annotations: Labels = field(default_factory=dict)
    kind: Literal["oci", "shim"] = "oci"
    path: str = ""
    usual: bool = False
    problem: str = ""
    limits: Mapping[str, str] = field(default_factory=dict)


class Task(ABC):
    """One container's processes, wherever their supervisor lives.

    Errors of all: NotFound for an unknown exec id or a task that is gone; FailedPrecondition for
    a process in the wrong state; Unavailable when the supervisor does not answer (``wait`` goes on
    waiting then). Where the supervisor dies its container is ended, at once, and all that waits is
    answered: what is recorded of the end, or 137.
    """

    id: str
    namespace: str
    bundle: Path

    def causes(self) -> Mapping[str, int]:
        """Why init ended, after it has; empty where nobody knows.

        ``signalled`` (1: by a signal, 128+n is no exit code), ``oom_kills``, ``memory_peak`` and
        ``memory_limit`` (bytes), ``pids_refused`` (processes that the pids limit has kept from
        being). Blocks.
        """
        return {}

    @property
    @abstractmethod
    def pid(self) -> int:
        """Pid of the init process, 0 before it exists."""

    @abstractmethod
    def untold(self) -> list[str]:
        """The exec ids ('' is init) of processes that may have started, whose exits no daemon has
        published yet; execs first. For the next daemon, which publishes them."""

    @abstractmethod
    def tell_exit(self, exec_id: str = "") -> None:
        """Note for later daemons that the exit of a process has been published."""

    @abstractmethod
    async def state(self, exec_id: str = "") -> ProcessState:
        """What is known at once; status unknown when the supervisor does not answer in time."""

    @abstractmethod
    async def start(self, exec_id: str = "") -> int:
        """Start a created process and answer its pid."""

    @abstractmethod
    async def exec(self, exec_id: str, options: ExecOptions) -> None:
        """Create one more process; AlreadyExists for a used id."""

    @abstractmethod
    async def kill(self, signal: int, *, exec_id: str = "", all: bool = False) -> None: ...

    @abstractmethod
    async def wait(self, exec_id: str = "") -> Exit:
        """How the process ended, as soon as it did; at once when it has."""

    @abstractmethod
    async def delete(self, exec_id: str = "") -> Exit:
        """Forget a stopped (or never started) process; '' ends the task and frees all it had."""

    @abstractmethod
    async def pids(self) -> list[int]: ...

    @abstractmethod
    async def pause(self) -> None: ...

    @abstractmethod
    async def resume(self) -> None: ...

    @abstractmethod
    async def resize(self, width: int, height: int, exec_id: str = "") -> None: ...

    @abstractmethod
    async def join(self, stdout: str, stderr: str, exec_id: str = "") -> None:
        """Copy what it writes from now on to these FIFOs, too; '' is none. Somebody reads them.

        Unimplemented where the supervisor cannot.
        """

    @abstractmethod
    async def close_stdin(self, exec_id: str = "") -> None: ...

    @abstractmethod
    async def update(self, resources: Typed, annotations: Labels) -> None: ...

    @abstractmethod
    async def stats(self) -> Typed:
        """``io.containerd.cgroups.v1.Metrics`` or ``.v2.Metrics``, serialised."""

    @abstractmethod
    async def checkpoint(self, path: str, options: Typed | None) -> None: ...


class Runtime(ABC):
    """Creates tasks and finds them again. All is per namespace of the current scope."""

    @abstractmethod
    async def create(self, id: str, options: CreateOptions) -> Task:
        """Make the task of container ``id`` in state created. AlreadyExists; nothing stays of a
        failure."""

    @abstractmethod
    async def recover(self) -> Mapping[tuple[str, str], Task]:
        """All tasks of earlier daemons by (namespace, id); called once, before serving.

        Tasks whose supervisor died are there too, as stopped, with the recorded exit; so are those
        whose supervisor does not answer, as unknown until it does. What no task owns any more is
        cleaned up.
        """

    @abstractmethod
    async def info(self, runtime: str, options: Typed | None) -> RuntimeInfo:
        """What can be said of a runtime by name. NotFound."""

    @abstractmethod
    async def runtimes(self) -> Sequence[RuntimeInfo]:
        """All that containers may ask for by name here; ``usual`` is the one for who does not."""
