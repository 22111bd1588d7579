"""The metadata seams: namespaces, containers, images, leases, sandboxes.

Each store keeps frozen records. ``update`` takes the record and the paths of the fields to take
over, as protobuf field masks name them (``labels``, ``labels.a.b/c``, ``target``): an empty
sequence replaces every mutable field, an immutable one is InvalidArgument. All but namespaces
live in the namespace of the current scope. ``list`` takes filters (:mod:`cored.filters`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import field

from cored.abc.values import Descriptor, Labels, Typed
from cored.dataclass import dataclass

__all__ = [
    "Container",
    "ContainerStore",
    "Image",
    "ImageStore",
    "Lease",
    "LeaseStore",
    "Namespace",
    "NamespaceStore",
    "Resource",
    "Sandbox",
    "SandboxStore",
]


@dataclass(frozen=True, slots=True)
class Namespace:
    name: str
    labels: Labels = field(default_factory=dict)


class NamespaceStore(ABC):
    """Namespaces come to life by use or by ``create``."""

    @abstractmethod
    async def get(self, name: str) -> Namespace:
        """An unknown, valid name answers empty labels: clients rely on it (compat.md, A)."""

    @abstractmethod
    async def list(self, filters: Sequence[str] = ()) -> list[Namespace]: ...

    @abstractmethod
    async def create(self, record: Namespace) -> Namespace:
        """AlreadyExists; InvalidArgument for a bad name or label."""

    @abstractmethod
    async def update(self, record: Namespace, fields: Sequence[str] = ()) -> Namespace:
        """NotFound."""

    @abstractmethod
    async def delete(self, name: str) -> None:
        """NotFound; FailedPrecondition while anything is left in it, saying what."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container's record: the recipe, not the running thing. ``id`` is unique per namespace."""

    id: str
    labels: Labels = field(default_factory=dict)
    image: str = ""
    runtime: str = ""
    runtime_options: Typed | None = None
    spec: Typed | None = None
    snapshotter: str = ""
    snapshot_key: str = ""
    created_at: int = 0
    updated_at: int = 0
    extensions: Mapping[str, Typed] = field(default_factory=dict)
    sandbox: str = ""


class ContainerStore(ABC):
    """Container records. Mutable: labels, image, spec, extensions, snapshot_key (and, on an empty
    mask, those together); runtime.name and snapshotter are immutable."""

    @abstractmethod
    async def get(self, id: str) -> Container: ...

    @abstractmethod
    async def list(self, filters: Sequence[str] = ()) -> list[Container]: ...

    @abstractmethod
    async def create(self, record: Container) -> Container:
        """AlreadyExists; InvalidArgument for a bad id, a missing runtime or spec."""

    @abstractmethod
    async def update(self, record: Container, fields: Sequence[str] = ()) -> Container: ...

    @abstractmethod
    async def delete(self, id: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Image:
    """A name for a manifest or index in the content store."""

    name: str
    target: Descriptor
    labels: Labels = field(default_factory=dict)
    created_at: int = 0
    updated_at: int = 0


class ImageStore(ABC):
    """Image records. Mutable: labels, target, annotations (of the target)."""

    @abstractmethod
    async def get(self, name: str) -> Image: ...

    @abstractmethod
    async def list(self, filters: Sequence[str] = ()) -> list[Image]: ...

    @abstractmethod
    async def create(self, record: Image) -> Image:
        """AlreadyExists; InvalidArgument. ``created_at`` counts when it is given (not 0)."""

    @abstractmethod
    async def update(self, record: Image, fields: Sequence[str] = ()) -> Image:
        """NotFound; InvalidArgument. ``updated_at`` counts when it is given (not 0)."""

    @abstractmethod
    async def delete(self, name: str, *, target: Descriptor | None = None) -> None:
        """NotFound, also when ``target`` has a digest and the image's is another by now."""


@dataclass(frozen=True, slots=True)
class Lease:
    id: str
    labels: Labels = field(default_factory=dict)
    created_at: int = 0


@dataclass(frozen=True, slots=True)
class Resource:
    """What a lease holds: ``type`` is content, ingests, or snapshots/<snapshotter>."""

    id: str
    type: str


class LeaseStore(ABC):
    """Leases keep what they list, and what that refers to, from garbage collection.

    One that is not ``durable`` need not outlast a power cut.
    """

    @abstractmethod
    async def create(self, record: Lease, *, durable: bool = True) -> Lease:
        """AlreadyExists."""

    @abstractmethod
    async def delete(self, id: str, *, durable: bool = True) -> None: ...

    @abstractmethod
    async def list(self, filters: Sequence[str] = ()) -> list[Lease]: ...

    @abstractmethod
    async def add(self, id: str, *resources: Resource) -> None:
        """Hold all of them, or none."""

    @abstractmethod
    async def discard(self, id: str, resource: Resource) -> None: ...

    @abstractmethod
    async def resources(self, id: str) -> Sequence[Resource]: ...


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A sandbox's record: the environment that containers of one pod share."""

    id: str
    runtime: str = ""
    runtime_options: Typed | None = None
    spec: Typed | None = None
    labels: Labels = field(default_factory=dict)
    created_at: int = 0
    updated_at: int = 0
    extensions: Mapping[str, Typed] = field(default_factory=dict)
    sandboxer: str = ""


class SandboxStore(ABC):
    @abstractmethod
    async def get(self, id: str) -> Sandbox: ...

    @abstractmethod
    async def list(self, filters: Sequence[str] = ()) -> list[Sandbox]: ...

    @abstractmethod
    async def create(self, record: Sandbox) -> Sandbox: ...

    @abstractmethod
    async def update(self, record: Sandbox, fields: Sequence[str] = ()) -> Sandbox: ...

    @abstractmethod
    async def delete(self, id: str) -> None: ...
