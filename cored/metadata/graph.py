"""What refers to what: the marks of a garbage collection (compat.md, A: labels).

A node is ``(type, namespace, id)`` with type ``content``, ``snapshots/<snapshotter>``, ``image``,
``container``, ``sandbox``, ``lease``, ``mounts`` or ``ingests``.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from cored.abc.values import Labels

__all__ = ["Graph", "Node", "expired"]

_ROOT = "containerd.io/gc.root"
_REF = "containerd.io/gc.ref."
_BACK = "containerd.io/gc.bref."
_EXPIRE = "containerd.io/gc.expire"
_FLAT = "containerd.io/gc.flat"


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
    """A snapshot's parent is kept whatever keeps the snapshot: it could not stand without."""

    @classmethod
    def read(cls, connection: sqlite3.Connection) -> Graph:
        """Read all references."""
        graph = cls()
        graph._records(connection)
        graph._leases(connection)
        for namespace, digest, labels in connection.execute(
            "SELECT namespace, digest, labels FROM blobs"
        ):
            graph._labelled(Node("content", namespace, digest), json.loads(labels))
        for namespace, snapshotter, key, parent, labels in connection.execute(
            "SELECT namespace, snapshotter, key, parent, labels FROM snapshots"
        ):
            node = Node(f"snapshots/{snapshotter}", namespace, key)
            if parent:
                graph.parents[node] = Node(node.type, namespace, parent)
            graph._labelled(node, json.loads(labels))
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

    def _labelled(self, node: Node, labels: Labels) -> None:
        for key, value in labels.items():
            if key == _ROOT:
                self.roots.setdefault(node, None)
            elif key.startswith(_REF):
                target = _target(node.namespace, key.removeprefix(_REF), value)
                if target is not None:
                    self._edge(node, target)
            elif key.startswith(_BACK):
                target = _target(node.namespace, key.removeprefix(_BACK), value)
                if target is not None:
                    self._edge(target, node)

    def _records(self, connection: sqlite3.Connection) -> None:
        for namespace, name, digest, record in connection.execute(
            "SELECT namespace, name, digest, record FROM images"
        ):
            node = Node("image", namespace, name)
            self.roots[node] = None
            self._edge(node, Node("content", namespace, digest))
            self._labelled(node, json.loads(record)["labels"])
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
        flat = set()
        for namespace, id, record in connection.execute("SELECT namespace, id, record FROM leases"):
            node = Node("lease", namespace, id)
            labels = json.loads(record)["labels"]
            if expired(labels):
                continue
            self.roots[node] = None
            if _FLAT in labels:
                flat.add(node)
            self._labelled(node, labels)
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


def expired(labels: Labels) -> bool:
    """Whether a lease has outlived its ``gc.expire`` (RFC 3339); nonsense there never expires."""
    text = labels.get(_EXPIRE)
    if not text:
        return False
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return False
    return moment.timestamp() < time.time()


def _target(namespace: str, key: str, value: str) -> Node | None:
    """The node that ``content[.x]``, ``snapshot.<snapshotter>[/x]`` or ``image[.x]`` names."""
    kind, _, rest = key.partition(".")
    match kind:
        case "content":
            return Node("content", namespace, value)
        case "image":
            return Node("image", namespace, value)
        case "container":
            return Node("container", namespace, value)
        case "snapshot" if rest:
            return Node(f"snapshots/{rest.partition('/')[0]}", namespace, value)
        case _:
            return None
