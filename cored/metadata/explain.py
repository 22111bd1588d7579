"""Why something is kept: from each root that does, the shortest chain of references."""

from __future__ import annotations

import re
import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator

from cored.dataclass import dataclass
from cored.metadata.graph import Graph, Node

__all__ = ["Chain", "explain", "known", "named"]

_TABLES = (
    ("content", "blobs", "digest"),
    ("image", "images", "name"),
    ("container", "containers", "id"),
    ("sandbox", "sandboxes", "id"),
    ("lease", "leases", "id"),
    ("mounts", "activations", "name"),
    ("ingests", "ingests", "ref"),
)
_DIGEST = re.compile(r"(sha\d+:)?[0-9a-f]{6,}")

# roots because of what they are, not because of a label
_BORN = {
    "image": "an image",
    "container": "a container",
    "sandbox": "a sandbox",
    "lease": "a lease",
    "ingests": "a write under way",
}


@dataclass(frozen=True, slots=True)
class Chain:
    """``nodes`` from a root to the thing; ``reason`` why the first one is a root."""

    nodes: tuple[Node, ...]
    reason: str


def explain(graph: Graph, node: Node) -> list[Chain]:
    """A chain for each root that keeps ``node``; none when nothing does."""
    referrers = _referrers(graph)
    chains = []
    # what a flat lease keeps, it keeps with the parents it stands on and nothing else: on the way
    # back from the thing, only those who stand on it count
    seen: dict[tuple[Node, bool], tuple[Node, bool] | None] = {(node, True): None}
    pending = deque(seen)
    while pending:
        state = pending.popleft()
        current, standing = state
        path = tuple(n for n, _ in _back(seen, state))
        if current in graph.roots:
            chains.append(_from_root(graph, path))
        lease = graph.flat.get(current)
        if lease is not None and standing:
            chains.append(Chain((lease, *path), "a flat lease"))
        for other, stands in referrers.get(current, ()):
            following = (other, standing and stands)
            if following not in seen and other not in path:
                seen[following] = state
                pending.append(following)
    unique = {chain.nodes[0]: chain for chain in reversed(chains)}
    return sorted(unique.values(), key=lambda chain: (len(chain.nodes), chain.nodes))


def known(connection: sqlite3.Connection) -> Iterator[Node]:
    """Everything that there is."""
    for type, table, column in _TABLES:
        for namespace, id in connection.execute(f"SELECT namespace, {column} FROM {table}"):
            yield Node(type, namespace, id)
    for namespace, snapshotter, key in connection.execute(
        "SELECT namespace, snapshotter, key FROM snapshots"
    ):
        yield Node(f"snapshots/{snapshotter}", namespace, key)


def named(nodes: Iterable[Node], namespace: str, id: str) -> list[Node]:
    """The nodes of a namespace that ``id`` names: whole, or the beginning of a digest."""
    inside = [node for node in nodes if node.namespace == namespace]
    found = [node for node in inside if node.id == id]
    if not found and _DIGEST.fullmatch(id):
        start = id if ":" in id else f"sha256:{id}"
        found = [node for node in inside if node.type == "content" and node.id.startswith(start)]
    return sorted(found)


def _from_root(graph: Graph, path: tuple[Node, ...]) -> Chain:
    holder = graph.roots[path[0]]
    if holder is not None:
        return Chain((holder, *path), _BORN.get(holder.type, holder.type))
    return Chain(path, _BORN.get(path[0].type, "labelled containerd.io/gc.root"))


def _referrers(graph: Graph) -> dict[Node, list[tuple[Node, bool]]]:
    """By node: who refers to it, and whether by standing on it (as a snapshot on its parent)."""
    found: dict[Node, list[tuple[Node, bool]]] = {}
    for source, targets in graph.edges.items():
        for target in targets:
            found.setdefault(target, []).append((source, False))
    for child, parent in graph.parents.items():
        found.setdefault(parent, []).append((child, True))
    return found


def _back(
    seen: dict[tuple[Node, bool], tuple[Node, bool] | None], state: tuple[Node, bool]
) -> Iterator[tuple[Node, bool]]:
    """From a state to the thing that is explained."""
    step: tuple[Node, bool] | None = state
    while step is not None:
        yield step
        step = seen[step]
