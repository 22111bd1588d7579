"""Which snapshotter a request works with: the one it names, its namespace's, or the daemon's."""

from __future__ import annotations

from collections.abc import Mapping

from cored import scope
from cored.abc.records import NamespaceStore
from cored.abc.snapshots import Snapshotter
from cored.errors import NotFound

__all__ = ["LABEL", "Snapshotters"]

LABEL = "containerd.io/defaults/snapshotter"
"""A namespace's label: the snapshotter for requests in it that name none."""


class Snapshotters:
    """The open snapshotters by id; ``default`` is the configuration's."""

    def __init__(
        self, loaded: Mapping[str, Snapshotter], namespaces: NamespaceStore, default: str
    ) -> None:
        self.loaded = loaded
        self._namespaces = namespaces
        self._default = default

    async def default(self) -> str:
        """The id that the namespace of the request works with; it need not be open."""
        namespace = await self._namespaces.get(scope.namespace())
        return namespace.labels.get(LABEL) or self._default

    async def choose(self, name: str = "") -> tuple[str, Snapshotter]:
        """A snapshotter by id, '' for the default one. NotFound."""
        wanted = name or await self.default()
        try:
            return wanted, self.loaded[wanted]
        except KeyError:
            label = "" if name else f"namespace {scope.namespace()!r} may be labelled {LABEL}; "
            raise NotFound(
                f"snapshotter {wanted!r}: not loaded",
                hint=f"{label}loaded ones: {', '.join(self.loaded) or 'none'}",
            ) from None
