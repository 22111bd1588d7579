"""What refers to what: the marks of a garbage collection (compat.md, A: labels).

A node is ``(type, namespace, id)`` with type ``content``, ``snapshots/<snapshotter>``, ``image``,
``container``, ``sandbox``, ``lease``, ``mounts`` or ``ingests``.

Kept for their own sake are images and leases that have not expired, containers, sandboxes, ingests
that are young, and content and snapshots with a ``gc.root`` label.
"""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from cored.abc.values import Labels
from cored.metadata.conditions import conditional_snapshots, expired, holds, used_at

__all__ = ["Graph", "Node"]

_ROOT = "containerd.io/gc.root"
_REF = "containerd.io/gc.ref."
_BACK = "containerd.io/gc.bref."
_FLAT = "containerd.io/gc.flat"
# a name may follow what is referred to, and says nothing: content, content.config, content/x
_TARGET = re.compile(r"(content|image|container)(?:[./].*)?|snapshot\.([^/]+)(?:/.*)?", re.DOTALL)


class Node(NamedTuple):
    """One thing that can be kept or collected."""

    type: str
    namespace: str
    id: str


@dataclass
class Graph:
    """The references of a whole store, read in one transaction."""

    roots: dict[Node, Node | None] = field(default_factory=dict)
    """What is kept for its own sake, or by the node (a lease) that it maps to."""
    flat: dict[Node, Node] = field(default_factory=dict)
    """What a flat lease keeps, and no more than that."""
    edges: dict[Node, list[Node]] = field(default_factory=dict)
    parents: dict[Node, Node] = field(default_factory=dict)
    """A snapshot's parent, an image's target: kept whatever keeps the one that needs it."""

    @classmethod
    def read(cls, connection: sqlite3.Connection) -> Graph:
        """Read all references."""
        graph = cls()
        used = graph._snapshots(connection)
        graph._records(connection, used)
        graph._leases(connection)
        for namespace, digest, text in connection.execute(
            "SELECT namespace, digest, labels FROM blobs"
        ):
            node, labels = Node("content", namespace, digest), json.loads(text)
            graph._rooted(node, labels)
            graph._labelled(node, labels)
            graph._conditional(node, labels, used)
        for namespace, ref in connection.execute(
            "SELECT namespace, ref FROM ingests WHERE expires_at > ?", (time.time_ns(),)
        ):
            graph.roots[Node("ingests", namespace, ref)] = None
        for namespace, name, record in connection.execute(
            "SELECT namespace, name, record FROM activations"
        ):
            graph._labelled(Node("mounts", namespace, name), json.loads(record).get("labels", {}))
        return graph

    def marked(self) -> dict[Node, Node | None]:
        """All that is kept, each with the node that keeps it (None for a root)."""
        kept: dict[Node, Node | None] = dict(self.roots)
        pending = list(kept)
        while pending:
            node = pending.pop()
            for other in self._from(node):
                if other not in kept:
                    kept[other] = node
                    pending.append(other)
        for node, lease in self.flat.items():
            kept.setdefault(node, lease)
            while (parent := self.parents.get(node)) is not None and parent not in kept:
                kept[parent] = node
                node = parent
        return kept

    def _from(self, node: Node) -> Iterator[Node]:
        yield from self.edges.get(node, ())
        if node in self.parents:
            yield self.parents[node]

    def _edge(self, source: Node, target: Node) -> None:
        self.edges.setdefault(source, []).append(target)

    def _rooted(self, node: Node, labels: Labels) -> None:
        if any(key.startswith(_ROOT) for key in labels):
            self.roots.setdefault(node, None)

    def _labelled(self, node: Node, labels: Labels) -> None:
        for key, value in labels.items():
            if key.startswith(_REF):
                target = _target(node.namespace, key.removeprefix(_REF), value)
                if target is not None:
                    self._edge(node, target)
            elif key.startswith(_BACK):
                target = _target(node.namespace, key.removeprefix(_BACK), value)
                if target is not None:
                    self._edge(target, node)

    def _conditional(self, node: Node, labels: Labels, used: dict[Node, list[float]]) -> None:
        for snapshotter, key, condition in conditional_snapshots(labels):
            target = Node(f"snapshots/{snapshotter}", node.namespace, key)
            if holds(condition, used.get(target, [])):
                self._edge(node, target)

    def _snapshots(self, connection: sqlite3.Connection) -> dict[Node, list[float]]:
        """Read the snapshots; answer when those were used that say so."""
        used = {}
        for namespace, snapshotter, key, parent, text in connection.execute(
            "SELECT namespace, snapshotter, key, parent, labels FROM snapshots"
        ):
            node, labels = Node(f"snapshots/{snapshotter}", namespace, key), json.loads(text)
            if parent:
                self.parents[node] = Node(node.type, namespace, parent)
            self._rooted(node, labels)
            self._labelled(node, labels)
            if moments := used_at(labels):
                used[node] = moments
        return used

    def _records(self, connection: sqlite3.Connection, used: dict[Node, list[float]]) -> None:
        for namespace, name, digest, record in connection.execute(
            "SELECT namespace, name, digest, record FROM images"
        ):
            node, labels = Node("image", namespace, name), json.loads(record)["labels"]
            if not expired(labels):
                self.roots[node] = None
            self.parents[node] = Node("content", namespace, digest)
            self._labelled(node, labels)
            self._conditional(node, labels, used)
        for namespace, id, snapshotter, key, record in connection.execute(
            "SELECT namespace, id, snapshotter, snapshot_key, record FROM containers"
        ):
            node = Node("container", namespace, id)
            self.roots[node] = None
            if key:
                self._edge(node, Node(f"snapshots/{snapshotter}", namespace, key))
            self._labelled(node, json.loads(record)["labels"])
        for namespace, id, record in connection.execute(
            "SELECT namespace, id, record FROM sandboxes"
        ):
            node = Node("sandbox", namespace, id)
            self.roots[node] = None
            self._labelled(node, json.loads(record)["labels"])

    def _leases(self, connection: sqlite3.Connection) -> None:
        """A lease's own labels refer to nothing; what it lists may be gone, or not there yet."""
        flat = set()
        for namespace, id, record in connection.execute("SELECT namespace, id, record FROM leases"):
            node, labels = Node("lease", namespace, id), json.loads(record)["labels"]
            if expired(labels):
                continue
            self.roots[node] = None
            if _FLAT in labels:
                flat.add(node)
        for namespace, lease, type, id in connection.execute(
            "SELECT namespace, lease, type, id FROM lease_resources"
        ):
            node = Node("lease", namespace, lease)
            if node not in self.roots:
                continue
            held = Node("image" if type == "images" else type, namespace, id)
            if node in flat:
                self.flat[held] = node
            else:
                self._edge(node, held)


def _target(namespace: str, key: str, value: str) -> Node | None:
    """The node that ``content[.x]``, ``snapshot.<snapshotter>[/x]`` or ``image[.x]`` names."""
    found = _TARGET.fullmatch(key)
    if found is None:
        return None
    kind, snapshotter = found.groups()
    return Node(kind or f"snapshots/{snapshotter}", namespace, value)
