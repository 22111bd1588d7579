"""The service seam: an implementation of one protobuf service on the daemon's socket."""

from __future__ import annotations

from abc import ABC
from typing import ClassVar

__all__ = ["Service"]


class Service(ABC):
    """One gRPC service.

    ``service`` is the full protobuf name (``containerd.services.version.v1.Version``). For each
    RPC the class has a coroutine (or, where the response streams, an async generator) with the
    RPC's name, taking the request message (or, where the request streams, an async iterator of
    them) and answering messages. It raises :mod:`cored.errors`; the RPC layer turns them into
    statuses. An RPC without a method is UNIMPLEMENTED. ``scoped`` services need a namespace;
    all calls of one that has a ``namespace`` of its own are in that one.
    ``lasting`` names the RPCs that go on until something happens: when the daemon stops it ends
    them itself (UNAVAILABLE), the others it lets finish.
    """

    service: ClassVar[str]
    scoped: ClassVar[bool] = True
    namespace: ClassVar[str] = ""
    lasting: ClassVar[frozenset[str]] = frozenset()
