"""Who a request is for: namespace and lease, set once at the edge, read wherever they matter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from cored.dataclass import dataclass
from cored.errors import FailedPrecondition

__all__ = ["Scope", "current", "enter", "entered", "namespace", "passing"]


@dataclass(frozen=True, slots=True)
class Scope:
    """The namespace that names are looked up in, and the lease that new resources join.

    ``passing``: that lease is the daemon's own and ends with the request. What it holds need not
    outlast a power cut until something that lasts names it, which is written later.
    """

    namespace: str
    lease: str | None = None
    passing: bool = False


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


def passing() -> bool:
    """Whether what the running request makes goes with its lease, unless something lasting comes
    to name it."""
    scope = _CURRENT.get()
    return scope is not None and scope.passing


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
