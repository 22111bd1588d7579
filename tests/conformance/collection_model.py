"""What the property tests of garbage collection believe: a store in memory, by its rules.

Independent of :mod:`cored.metadata`: sets and dictionaries, and reachability as a fixed point. An
operation is a list of steps, each atomic in the real store too; so operations that run at the same
time, or that a crash cut short, end in one of the states that :func:`outcomes` lists.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations
from typing import Any

__all__ = ["DIGESTS", "PAYLOADS", "Model", "Op", "cut_short", "outcomes"]

PAYLOADS = {number: bytes([number + 65]) * (10 + number) for number in range(4)}
DIGESTS = {n: "sha256:" + hashlib.sha256(data).hexdigest() for n, data in PAYLOADS.items()}

Labels = Mapping[str, str]
Name = tuple[str, str]  # namespace, name
Thing = tuple[str, str, str]  # kind, namespace, name


@dataclass(frozen=True)
class Op:
    """One request: what, in which namespace, under which lease, with what."""

    what: str
    namespace: str = "one"
    lease: str | None = None
    arguments: tuple[Any, ...] = ()


class Refused(Exception):
    """The store says no; what the step has done by then stays done."""


@dataclass
class Model:
    """All that a store knows."""

    blobs: dict[Name, Labels] = field(default_factory=dict)
    ingests: dict[Name, bytes] = field(default_factory=dict)
    snapshots: dict[Name, tuple[str, str, Labels]] = field(default_factory=dict)
    images: dict[Name, tuple[str, Labels]] = field(default_factory=dict)
    containers: dict[Name, tuple[str, Labels]] = field(default_factory=dict)
    sandboxes: dict[Name, Labels] = field(default_factory=dict)
    leases: dict[Name, Labels] = field(default_factory=dict)
    resources: dict[tuple[str, str, str, str], None] = field(default_factory=dict)
    files: dict[str, None] = field(default_factory=dict)
    """Blobs in the content store, also those that no namespace knows any more."""
    # not to be seen from outside
    noted: dict[Name, bool] = field(default_factory=dict)
    """Ingests that have a row; True while they are young without a lease."""
    expecting: dict[Name, str] = field(default_factory=dict)
    """What the rows of ingests expect; a row that is gone (from ``noted``) expects nothing."""
    writing: dict[Name, None] = field(default_factory=dict)
    guarded: dict[int, Any] = field(default_factory=dict)
    """Operations that are where no collection may come in between, with what they have in hand."""
    claimed: dict[Name, None] = field(default_factory=dict)
    """Snapshots that are in the middle of their commit, under the old name and the new one."""
    torn: dict[Name, tuple[str, Labels]] = field(default_factory=dict)
    """Snapshots that the backend has committed, and the metadata not yet: the new name, labels."""

    def copy(self) -> Model:
        return Model(**{name: dict(value) for name, value in vars(self).items()})

    def key(self) -> str:
        return repr([sorted(value.items(), key=repr) for value in vars(self).values()])

    def seen(self) -> dict[str, Any]:
        """What clients can see."""
        return {
            "blobs": self.blobs,
            "ingests": {name: len(data) for name, data in self.ingests.items()},
            "snapshots": self.snapshots,
            "images": self.images,
            "containers": self.containers,
            "sandboxes": self.sandboxes,
            "leases": self.leases,
            "resources": self.resources,
            "files": self.files,
        }

    def hold(self, op: Op, kind: str, name: str) -> None:
        self.check_lease(op)
        if op.lease is not None:
            self.resources[op.namespace, op.lease, kind, name] = None

    def check_lease(self, op: Op) -> None:
        if op.lease is not None and (op.namespace, op.lease) not in self.leases:
            raise Refused

    def let_go(self, op: Op, kind: str, name: str) -> None:
        if op.lease is not None:
            self.resources.pop((op.namespace, op.lease, kind, name), None)

    def claim(self, op: Op, *keys: str) -> None:
        if any((op.namespace, key) in self.claimed for key in keys):
            raise Blocked

    def crashed(self) -> Model:
        after = self.copy()
        after.writing, after.guarded, after.claimed = {}, {}, {}
        return after

    # reachability

    def labels(self) -> Iterator[tuple[Thing, Labels]]:
        """Everything that has labels which refer, or are referred back to."""
        for (ns, name), labels in self.blobs.items():
            yield ("content", ns, name), labels
        for (ns, name), (_, _, labels) in self.snapshots.items():
            yield ("snapshot", ns, name), labels
        for (ns, name), (_, labels) in self.images.items():
            yield ("image", ns, name), labels
        for (ns, name), (_, labels) in self.containers.items():
            yield ("container", ns, name), labels
        for (ns, name), labels in self.sandboxes.items():
            yield ("sandbox", ns, name), labels

    def reachable(self) -> set[Thing]:
        kept = {("container", *name) for name in self.containers}
        kept |= {("sandbox", *name) for name in self.sandboxes}
        kept |= {("image", *n) for n, (_, labels) in self.images.items() if not late(labels)}
        kept |= {("lease", *n) for n, labels in self.leases.items() if not late(labels)}
        kept |= {("ingests", *name) for name, young in self.noted.items() if young}
        kept |= {
            thing
            for thing, labels in self.labels()
            if thing[0] in ("content", "snapshot") and "containerd.io/gc.root" in labels
        }
        flat: set[Thing] = set()
        for ns, lease, kind, name in self.resources:
            labels = self.leases.get((ns, lease), {})
            if ("lease", ns, lease) in kept:
                kind = {"images": "image", "snapshots/native": "snapshot"}.get(kind, kind)
                (flat if "containerd.io/gc.flat" in labels else kept).add((kind, ns, name))
        grown = -1
        while grown != len(kept) + len(flat):
            grown = len(kept) + len(flat)
            for thing, labels in self.labels():
                kind, ns, name = thing
                needs = self.needs(kind, ns, name)
                if thing in kept:
                    kept |= needs | set(pointed(labels, "ref", ns))
                    if kind == "container":
                        kept |= {("snapshot", ns, self.containers[ns, name][0])}
                    if kind in ("content", "image"):
                        kept |= set(self.wanted(labels, ns))
                if thing in flat:
                    flat |= needs
                if any(target in kept for target in pointed(labels, "bref", ns)):
                    kept.add(thing)
        return kept | flat

    def needs(self, kind: str, ns: str, name: str) -> set[Thing]:
        if kind == "image":
            return {("content", ns, self.images[ns, name][0])}
        if kind == "snapshot" and self.snapshots[ns, name][1]:
            return {("snapshot", ns, self.snapshots[ns, name][1])}
        return set()

    def wanted(self, labels: Labels, ns: str) -> Iterator[Thing]:
        """Snapshots that are kept as long as they were used not long ago."""
        for label, value in labels.items():
            if label.startswith("containerd.io/gc.cond.snapshot.native"):
                key = value.partition("|")[2]
                _, _, theirs = self.snapshots.get((ns, key), ("", "", {}))
                if "2099" in theirs.get("containerd.io/gc.cond.value-usedat", ""):
                    yield "snapshot", ns, key

    def sweep(self) -> None:
        """The metadata's half of a collection."""
        if self.guarded:
            raise Blocked
        kept = self.reachable()
        kinds: dict[str, dict[Name, Any]] = {
            "content": self.blobs,
            "snapshot": self.snapshots,
            "image": self.images,
            "lease": self.leases,
            "ingests": self.noted,
        }
        for kind, things in kinds.items():
            for name in [name for name in things if (kind, *name) not in kept]:
                del things[name]
        self.resources = {r: None for r in self.resources if (r[0], r[1]) in self.leases}

    def mend(self) -> None:
        """What a crash left in the middle of a commit is brought to its end."""
        if self.guarded:
            raise Blocked
        for (ns, key), (name, labels) in self.torn.items():
            if (ns, key) in self.snapshots:
                _, parent, _ = self.snapshots.pop((ns, key))
                if (ns, name) in self.snapshots:
                    continue
                self.snapshots[ns, name] = ("committed", parent, labels)
                for other, lease, kind, id in list(self.resources):
                    if (other, kind, id) == (ns, "snapshots/native", key):
                        self.resources[ns, lease, kind, name] = None
        self.torn = {}

    def spare_files(self) -> list[str]:
        """Files that no blob's row knows, and that no ingest has become without getting one."""
        become = {self.expecting[name] for name in self.noted.keys() - self.ingests.keys()}
        return sorted(self.files.keys() - {digest for _, digest in self.blobs} - become)

    def spare_ingests(self) -> list[Name]:
        return sorted(self.ingests.keys() - self.noted.keys() - self.writing.keys())

    def collect(self) -> None:
        self.mend()
        self.sweep()
        for digest in self.spare_files():
            del self.files[digest]
        for name in self.spare_ingests():
            del self.ingests[name]


class Blocked(Exception):
    """A collection has to wait."""


def late(labels: Labels) -> bool:
    return labels.get("containerd.io/gc.expire", "").startswith("2001-")


def pointed(labels: Labels, way: str, ns: str) -> Iterator[Thing]:
    """What labels like ``containerd.io/gc.ref.content.x`` name."""
    for label, value in labels.items():
        for kind in ("content", "image", "container", "snapshot"):
            start = f"containerd.io/gc.{way}.{kind}" + (".native" if kind == "snapshot" else "")
            rest = label.removeprefix(start)
            separators = "/" if kind == "snapshot" else "./"
            if rest != label and (not rest or rest[0] in separators):
                yield kind, ns, value


# the steps of each operation

Step = Callable[[Model, Op], None]


def _adopt(m: Model, op: Op) -> None:
    _, payload, expected = op.arguments
    if expected and DIGESTS[payload] in m.files:
        m.hold(op, "content", DIGESTS[payload])
        m.blobs.setdefault((op.namespace, DIGESTS[payload]), {})
        raise Refused


def _note(m: Model, op: Op) -> None:
    name = (op.namespace, op.arguments[0])
    m.hold(op, "ingests", name[1])
    m.noted[name] = m.noted.get(name, False) or op.lease is None
    expects = op.what != "finish" and op.arguments[2]
    m.expecting[name] = DIGESTS[op.arguments[1]] if expects else ""


def _begin(m: Model, op: Op) -> None:
    _adopt(m, op)  # it may have come in the meantime
    _open(m, op)


def _open(m: Model, op: Op) -> None:
    name = (op.namespace, op.arguments[0])
    if name in m.writing:
        raise Refused
    m.ingests.setdefault(name, b"")
    m.writing[name] = None


def _truncate(m: Model, op: Op) -> None:
    m.ingests[op.namespace, op.arguments[0]] = b""


def _write(m: Model, op: Op) -> None:
    m.ingests[op.namespace, op.arguments[0]] = PAYLOADS[op.arguments[1]]


def _close(m: Model, op: Op) -> None:
    m.writing.pop((op.namespace, op.arguments[0]), None)


def _publish(m: Model, op: Op) -> None:
    """The content store's half of a commit."""
    name = (op.namespace, op.arguments[0])
    data = m.ingests[name]
    if not data:
        m.writing.pop(name, None)
        del m.ingests[name]
        m.noted.pop(name, None)
        m.let_go(op, "ingests", name[1])
        raise Refused
    if op.lease is not None and (op.namespace, op.lease) not in m.leases:
        m.writing.pop(name, None)
    m.check_lease(op)
    m.guarded[id(op)] = data
    m.files["sha256:" + hashlib.sha256(data).hexdigest()] = None
    m.ingests.pop(name)
    m.writing.pop(name, None)


def _register(m: Model, op: Op) -> None:
    """The metadata's half of a commit."""
    name, data = (op.namespace, op.arguments[0]), m.guarded.pop(id(op))
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    m.hold(op, "content", digest)
    m.noted.pop(name, None)
    m.let_go(op, "ingests", name[1])
    m.blobs.setdefault((op.namespace, digest), op.arguments[1])


def _abort(m: Model, op: Op) -> None:
    name = (op.namespace, op.arguments[0])
    if name not in m.ingests or name in m.writing:
        raise Refused
    del m.ingests[name]
    m.noted.pop(name, None)
    m.let_go(op, "ingests", name[1])


def _delete_blob(m: Model, op: Op) -> None:
    _take(m.blobs, op)
    m.let_go(op, "content", op.arguments[0])


def _snapshot(kind: str) -> Step:
    def step(m: Model, op: Op) -> None:
        key, parent, labels = op.arguments
        m.claim(op, key)
        m_parent = m.snapshots.get((op.namespace, parent))
        if (op.namespace, key) in m.snapshots:
            m.hold(op, "snapshots/native", key)
            raise Refused
        if parent and (m_parent is None or m_parent[0] != "committed"):
            raise Refused
        m.hold(op, "snapshots/native", key)
        m.snapshots[op.namespace, key] = (kind, parent, labels)

    return step


def _rename(m: Model, op: Op) -> None:
    """The snapshotter's half of a commit."""
    name, key, labels = op.arguments
    m.claim(op, name, key)
    if (op.namespace, name) in m.snapshots:
        m.hold(op, "snapshots/native", name)
        raise Refused
    if m.snapshots.get((op.namespace, key), ("",))[0] != "active" or (op.namespace, key) in m.torn:
        raise Refused
    m.check_lease(op)
    m.torn[op.namespace, key] = (name, labels)
    m.claimed |= {(op.namespace, key): None, (op.namespace, name): None}
    m.guarded[id(op)] = None


def _renamed(m: Model, op: Op) -> None:
    """The metadata's half of a commit."""
    name, key, labels = op.arguments
    m.guarded.pop(id(op))
    del m.claimed[op.namespace, key], m.claimed[op.namespace, name]
    m.hold(op, "snapshots/native", name)
    del m.torn[op.namespace, key]
    _, parent, _ = m.snapshots.pop((op.namespace, key))
    m.let_go(op, "snapshots/native", key)
    m.snapshots[op.namespace, name] = ("committed", parent, labels)


def _remove(m: Model, op: Op) -> None:
    key = op.arguments[0]
    m.claim(op, key)
    if any(ns == op.namespace and at[1] == key for (ns, _), at in m.snapshots.items()):
        raise Refused
    _take(m.snapshots, op)
    m.torn.pop((op.namespace, key), None)
    m.let_go(op, "snapshots/native", key)


def _create_image(m: Model, op: Op) -> None:
    name, _digest, _labels = op.arguments
    if (op.namespace, name) in m.images:
        raise Refused
    _put_image(m, op)


def _update_image(m: Model, op: Op) -> None:
    if (op.namespace, op.arguments[0]) not in m.images:
        raise Refused
    _put_image(m, op)


def _put_image(m: Model, op: Op) -> None:
    name, digest, labels = op.arguments
    if "containerd.io/gc.expire" in labels:
        m.hold(op, "images", name)
    m.images[op.namespace, name] = (digest, labels)


def _delete_image(m: Model, op: Op) -> None:
    _take(m.images, op)
    m.let_go(op, "images", op.arguments[0])


def _create(table: str) -> Step:
    def step(m: Model, op: Op) -> None:
        things, (name, *rest) = getattr(m, table), op.arguments
        if (op.namespace, name) in things:
            raise Refused
        things[op.namespace, name] = tuple(rest) if len(rest) > 1 else rest[0]

    return step


def _delete(table: str) -> Step:
    return lambda m, op: _take(getattr(m, table), op)


def _delete_lease(m: Model, op: Op) -> None:
    _take(m.leases, op)
    gone = (op.namespace, op.arguments[0])
    m.resources = {r: None for r in m.resources if r[:2] != gone}


def _add(m: Model, op: Op) -> None:
    lease, kind, name = op.arguments
    if (op.namespace, lease) not in m.leases:
        raise Refused
    m.resources[op.namespace, lease, kind, name] = None


def _discard(m: Model, op: Op) -> None:
    lease, kind, name = op.arguments
    m.resources.pop((op.namespace, lease, kind, name), None)


def _relabel(m: Model, op: Op) -> None:
    table, name, labels = op.arguments
    things, at = getattr(m, table), (op.namespace, name)
    if at not in things:
        raise Refused
    things[at] = labels if table == "blobs" else (*things[at][:-1], labels)


def _take(things: dict[Name, Any], op: Op) -> None:
    if (op.namespace, op.arguments[0]) not in things:
        raise Refused
    del things[op.namespace, op.arguments[0]]


STEPS: Mapping[str, Sequence[Step]] = {
    "begin": (_adopt, _note, _begin, _truncate, _write, _close),
    "note": (_adopt, _note),
    "finish": (_note, _open, _publish, _register),
    "abort": (_abort,),
    "delete blob": (_delete_blob,),
    "relabel": (_relabel,),
    "prepare": (_snapshot("active"),),
    "view": (_snapshot("view"),),
    "commit": (_rename, _renamed),
    "remove": (_remove,),
    "create image": (_create_image,),
    "update image": (_update_image,),
    "delete image": (_delete_image,),
    "create container": (_create("containers"),),
    "delete container": (_delete("containers"),),
    "create sandbox": (_create("sandboxes"),),
    "delete sandbox": (_delete("sandboxes"),),
    "create lease": (_create("leases"),),
    "delete lease": (_delete_lease,),
    "add": (_add,),
    "discard": (_discard,),
    "collect": (lambda m, op: m.collect(),),
}


def _advanced(model: Model, op: Op, position: int) -> tuple[Model, int] | None:
    """After one more step of ``op``; None while that has to wait."""
    after, steps = model.copy(), STEPS[op.what]
    try:
        steps[position](after, op)
    except Refused:
        after.guarded.pop(id(op), None)
        return after, len(steps)
    except Blocked:
        return None
    return after, position + 1


def outcomes(model: Model, ops: Sequence[Op]) -> list[Model]:
    """Every state in which ``ops``, run at the same time, may leave the store."""
    ends: dict[str, Model] = {}
    known: set[tuple[str, tuple[int, ...]]] = set()
    pending = [(model, (0,) * len(ops))]
    while pending:
        state, positions = pending.pop()
        at = (state.key(), positions)
        if at in known:
            continue
        known.add(at)
        moves = [n for n, op in enumerate(ops) if positions[n] < len(STEPS[op.what])]
        if not moves:
            ends[at[0]] = state
        for number in moves:
            moved = _advanced(state, ops[number], positions[number])
            if moved is not None:
                after = (*positions[:number], moved[1], *positions[number + 1 :])
                pending.append((moved[0], after))
    return list(ends.values())


def cut_short(model: Model, op: Op) -> list[Model]:
    """Every state in which a crash in the middle of ``op`` may leave the store."""
    found, state, position = [model.crashed()], model, 0
    if op.what == "collect":
        return _cut_collection(model)
    while position < len(STEPS[op.what]):
        moved = _advanced(state, op, position)
        assert moved is not None
        state, position = moved
        found.append(state.crashed())
    return list({each.key(): each for each in found}.values())


def _cut_collection(model: Model) -> list[Model]:
    """Rows go in one step; then files and ingests one by one, in any order."""
    mended = model.crashed()
    mended.mend()
    swept = mended.copy()
    swept.sweep()
    found = [model.crashed(), mended]
    for files in _subsets(swept.spare_files()):
        for ingests in _subsets(swept.spare_ingests()):
            after = swept.copy()
            after.files = {name: None for name in after.files if name not in files}
            after.ingests = {n: data for n, data in after.ingests.items() if n not in ingests}
            found.append(after)
    return found


def _subsets(things: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    return chain.from_iterable(combinations(things, n) for n in range(len(things) + 1))
