"""Events: what happened, to whom, in the order in which it happened.

An event's fields have the names of its message in ``containerd.events``; the topic follows from
its class. ``Envelope`` is what subscribers get.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import field
from typing import ClassVar

from cored.abc.values import Labels, Mount, Typed
from cored.dataclass import dataclass

__all__ = [
    "Action",
    "ContainerCreate",
    "ContainerDelete",
    "ContainerUpdate",
    "ContentCreate",
    "ContentDelete",
    "Envelope",
    "Event",
    "EventBus",
    "ImageCreate",
    "ImageDelete",
    "ImageUpdate",
    "NamespaceCreate",
    "NamespaceDelete",
    "NamespaceUpdate",
    "SandboxCreate",
    "SandboxExit",
    "SandboxStart",
    "SnapshotCommit",
    "SnapshotPrepare",
    "SnapshotRemove",
    "TaskCheckpointed",
    "TaskCreate",
    "TaskDelete",
    "TaskExecAdded",
    "TaskExecStarted",
    "TaskExit",
    "TaskOOM",
    "TaskPaused",
    "TaskResumed",
    "TaskStart",
]


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all; ``topic`` and ``message`` (the protobuf name) belong to the class."""

    topic: ClassVar[str] = ""
    message: ClassVar[str] = ""


@dataclass(frozen=True, slots=True)
class NamespaceCreate(Event):
    topic = "/namespaces/create"
    message = "containerd.events.NamespaceCreate"
    name: str
    labels: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NamespaceUpdate(Event):
    topic = "/namespaces/update"
    message = "containerd.events.NamespaceUpdate"
    name: str
    labels: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NamespaceDelete(Event):
    topic = "/namespaces/delete"
    message = "containerd.events.NamespaceDelete"
    name: str


@dataclass(frozen=True, slots=True)
class ImageCreate(Event):
    topic = "/images/create"
    message = "containerd.services.images.v1.ImageCreate"
    name: str
    labels: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageUpdate(Event):
    topic = "/images/update"
    message = "containerd.services.images.v1.ImageUpdate"
    name: str
    labels: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageDelete(Event):
    topic = "/images/delete"
    message = "containerd.services.images.v1.ImageDelete"
    name: str


@dataclass(frozen=True, slots=True)
class ContainerCreate(Event):
    topic = "/containers/create"
    message = "containerd.events.ContainerCreate"
    id: str
    image: str = ""
    runtime_name: str = ""
    runtime_options: Typed | None = None


@dataclass(frozen=True, slots=True)
class ContainerUpdate(Event):
    topic = "/containers/update"
    message = "containerd.events.ContainerUpdate"
    id: str
    image: str = ""
    labels: Labels = field(default_factory=dict)
    snapshot_key: str = ""


@dataclass(frozen=True, slots=True)
class ContainerDelete(Event):
    topic = "/containers/delete"
    message = "containerd.events.ContainerDelete"
    id: str


@dataclass(frozen=True, slots=True)
class ContentCreate(Event):
    topic = "/content/create"
    message = "containerd.events.ContentCreate"
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class ContentDelete(Event):
    topic = "/content/delete"
    message = "containerd.events.ContentDelete"
    digest: str


@dataclass(frozen=True, slots=True)
class SnapshotPrepare(Event):
    topic = "/snapshot/prepare"
    message = "containerd.events.SnapshotPrepare"
    key: str
    parent: str = ""
    snapshotter: str = ""


@dataclass(frozen=True, slots=True)
class SnapshotCommit(Event):
    topic = "/snapshot/commit"
    message = "containerd.events.SnapshotCommit"
    key: str
    name: str
    snapshotter: str = ""


@dataclass(frozen=True, slots=True)
class SnapshotRemove(Event):
    topic = "/snapshot/remove"
    message = "containerd.events.SnapshotRemove"
    key: str
    snapshotter: str = ""


@dataclass(frozen=True, slots=True)
class TaskCreate(Event):
    topic = "/tasks/create"
    message = "containerd.events.TaskCreate"
    container_id: str
    bundle: str = ""
    rootfs: tuple[Mount, ...] = ()
    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    terminal: bool = False
    checkpoint: str = ""
    pid: int = 0


@dataclass(frozen=True, slots=True)
class TaskStart(Event):
    topic = "/tasks/start"
    message = "containerd.events.TaskStart"
    container_id: str
    pid: int


@dataclass(frozen=True, slots=True)
class TaskDelete(Event):
    topic = "/tasks/delete"
    message = "containerd.events.TaskDelete"
    container_id: str
    pid: int
    exit_status: int
    exited_at: int
    id: str = ""


@dataclass(frozen=True, slots=True)
class TaskExit(Event):
    """``id`` is the exec id, or the container's id for its init process."""

    topic = "/tasks/exit"
    message = "containerd.events.TaskExit"
    container_id: str
    id: str
    pid: int
    exit_status: int
    exited_at: int


@dataclass(frozen=True, slots=True)
class TaskOOM(Event):
    topic = "/tasks/oom"
    message = "containerd.events.TaskOOM"
    container_id: str


@dataclass(frozen=True, slots=True)
class TaskExecAdded(Event):
    topic = "/tasks/exec-added"
    message = "containerd.events.TaskExecAdded"
    container_id: str
    exec_id: str


@dataclass(frozen=True, slots=True)
class TaskExecStarted(Event):
    topic = "/tasks/exec-started"
    message = "containerd.events.TaskExecStarted"
    container_id: str
    exec_id: str
    pid: int


@dataclass(frozen=True, slots=True)
class TaskPaused(Event):
    topic = "/tasks/paused"
    message = "containerd.events.TaskPaused"
    container_id: str


@dataclass(frozen=True, slots=True)
class TaskResumed(Event):
    topic = "/tasks/resumed"
    message = "containerd.events.TaskResumed"
    container_id: str


@dataclass(frozen=True, slots=True)
class TaskCheckpointed(Event):
    topic = "/tasks/checkpointed"
    message = "containerd.events.TaskCheckpointed"
    container_id: str
    checkpoint: str


@dataclass(frozen=True, slots=True)
class SandboxCreate(Event):
    topic = "/sandboxes/create"
    message = "containerd.events.SandboxCreate"
    sandbox_id: str


@dataclass(frozen=True, slots=True)
class SandboxStart(Event):
    topic = "/sandboxes/start"
    message = "containerd.events.SandboxStart"
    sandbox_id: str


@dataclass(frozen=True, slots=True)
class SandboxExit(Event):
    topic = "/sandboxes/exit"
    message = "containerd.events.SandboxExit"
    sandbox_id: str
    exit_status: int
    exited_at: int


@dataclass(frozen=True, slots=True)
class Action(Event):
    """What containerd has no event for: ``type`` container, volume, ...; docker's words."""

    topic = "/cored/action"
    message = "cored.workloads.v1.Action"
    type: str
    action: str
    id: str
    attributes: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Envelope:
    """An event as subscribers get it; ``event`` is opaque when a stranger published it.

    ``fields`` are those of an opaque event as far as somebody could read them, for filters.
    """

    timestamp: int
    namespace: str
    topic: str
    event: Event | Typed
    fields: Mapping[str, object] = field(default_factory=dict)


class EventBus(ABC):
    """Takes events and hands each to every subscriber, in order."""

    @abstractmethod
    async def publish(self, event: Event, *, namespace: str | None = None) -> None:
        """Publish in ``namespace``, or the current scope's."""

    @abstractmethod
    async def forward(self, envelope: Envelope) -> None:
        """Publish what somebody else has put into an envelope."""

    @abstractmethod
    def subscribe(self, filters: Sequence[str] = ()) -> AsyncIterator[Envelope]:
        """Every envelope from now on that matches one of ``filters``, or all.

        The subscription exists when this returns; closing the iterator ends it.
        """
