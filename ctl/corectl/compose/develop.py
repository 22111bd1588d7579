"""``develop``: what is to be done with a service's containers when files here change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from corectl.compose.decoding import Choice
from corectl.compose.parts import Hook

__all__ = ["Develop", "Watch", "problems"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """One rule; ``ignore`` and ``include`` are patterns as in .dockerignore, from ``path``."""

    path: str
    action: Annotated[str, Choice("sync", "rebuild", "restart", "sync+restart", "sync+exec")]
    target: str = ""
    ignore: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exec: Hook | None = None
    initial_sync: bool = False

    @property
    def syncs(self) -> bool:
        """Whether files are copied."""
        return self.action.startswith("sync")


@dataclass(frozen=True, slots=True, kw_only=True)
class Develop:
    watch: tuple[Watch, ...] = ()


def problems(develop: Develop, *, builds: bool) -> Iterator[tuple[int, str]]:
    """What rules say of each other, by number; ``builds``: the service has a build section."""
    for number, rule in enumerate(develop.watch):
        if rule.syncs and not rule.target.startswith("/"):
            yield number, f"action {rule.action} needs an absolute 'target'"
        if rule.action == "sync+exec" and rule.exec is None:
            yield number, "action sync+exec needs 'exec'"
        if rule.action == "rebuild" and not builds:
            yield number, "action rebuild needs a 'build' section"
