"""Who a request is for: namespace and lease, set once at the edge, read wherever they matter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from cored.dataclass import dataclass
from cored.errors import FailedPrecondition

__all__ = ["Scope", "current", "enter", "entered", "namespace"]


@dataclass(frozen=True, slots=True)
class Scope:
    """The namespace that names are looked up in, and the lease that new resources join."""

    namespace: str
    lease: str | None = None


_CURRENT: ContextVar[Scope | None] = ContextVar("cored_scope", default=None)


def current() -> Scope:
    """The scope of the running request; FailedPrecondition when the caller named no namespace."""
    scope = _CURRENT.get()
    if scope is None:
        raise FailedPrecondition(
            "namespace is required", hint="send the metadata header containerd-namespace"
        )
    return scope


def namespace() -> str:
    """The namespace of the running request."""
    return current().namespace


def enter(scope: Scope | None) -> None:
    """Set the scope for the rest of the running task and the tasks that it starts."""
    _CURRENT.set(scope)


@contextmanager
def entered(scope: Scope | None) -> Iterator[None]:
    """Run the body (and tasks started in it) under ``scope``."""
    token = _CURRENT.set(scope)
    try:
        yield
    finally:
        _CURRENT.reset(token)
