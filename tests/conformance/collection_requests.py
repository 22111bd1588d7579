"""Random requests for the property tests of garbage collection, mostly about what there is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random
from typing import Any

from tests.conformance.collection_model import DIGESTS, PAYLOADS, Model, Op

__all__ = ["delicate", "request", "rivals"]

_KEYS = [f"k{n}" for n in range(6)]
_TIMES = ("2001-02-03T04:05:06Z", "2099-02-03T04:05:06.789+02:00", "soon")
# what makes things comes more often than what takes them away
_WEIGHTS = {
    "begin": 6,
    "finish": 10,
    "abort": 1,
    "delete blob": 1,
    "relabel": 6,
    "prepare": 9,
    "view": 2,
    "commit": 7,
    "remove": 1,
    "create image": 4,
    "update image": 2,
    "delete image": 3,
    "create container": 3,
    "delete container": 2,
    "create sandbox": 1,
    "delete sandbox": 1,
    "create lease": 4,
    "delete lease": 2,
    "add": 6,
    "discard": 2,
    "collect": 2,
}


def request(random: Random, model: Model) -> Op:
    """One of those that the store of ``model`` might get next."""
    return _Requests(random, model, "two" if random.random() < 0.2 else "one").make()


def delicate(random: Random, model: Model) -> Op:
    """One that changes more than one store, and so is worth a crash."""
    what = random.choice(["begin", "finish", "prepare", "commit", "commit", "remove", "collect"])
    return _Requests(random, model, "one").make(what)


def rivals(random: Random, model: Model) -> list[Op]:
    """Two requests for the same snapshot."""
    requests = _Requests(random, model, "one")
    commit = requests.make("commit")
    name, key, labels = commit.arguments
    other = random.choice(
        [
            ("remove", (key,)),
            ("prepare", (name, "", labels)),
            ("view", (key, "", labels)),
            ("commit", (name, requests.active(), {})),
            ("commit", (requests.free("snapshots", "k"), key, {})),
        ]
    )
    return [commit, Op(other[0], "one", requests.lease(), other[1])]


class _Requests:
    def __init__(self, random: Random, model: Model, namespace: str) -> None:
        self.random = random
        self.model = model
        self.namespace = namespace

    def make(self, what: str = "") -> Op:
        what = what or self.random.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        return Op(what, self.namespace, self.lease(), self.arguments(what))

    def lease(self) -> str | None:
        return self.there("leases", "l", 0.9) if self.random.random() < 0.4 else None

    def pool(self, kind: str) -> list[str]:
        if kind == "digest":
            return list(DIGESTS.values())
        return _KEYS if kind == "k" else [f"{kind}{n}" for n in range(3)]

    def there(self, table: str, kind: str, often: float = 0.8) -> str:
        """A name that is taken, most of the time."""
        taken = [name for ns, name in getattr(self.model, table) if ns == self.namespace]
        return self.either(taken, self.pool(kind), often)

    def free(self, table: str, kind: str) -> str:
        """A name that is not taken, most of the time."""
        things = getattr(self.model, table)
        left = [name for name in self.pool(kind) if (self.namespace, name) not in things]
        return self.either(left, self.pool(kind), 0.8)

    def either(self, wanted: Iterable[str], others: list[str], often: float) -> str:
        some = sorted(wanted)
        return self.random.choice(some if some and self.random.random() < often else others)

    def digest(self) -> str:
        return self.there("blobs", "digest")

    def key(self) -> str:
        return self.there("snapshots", "k")

    def parent(self) -> str:
        committed = [
            key
            for (ns, key), (kind, _, _) in self.model.snapshots.items()
            if ns == self.namespace and kind == "committed"
        ]
        return self.either([*committed, ""], _KEYS, 0.9)

    def active(self) -> str:
        found = [
            key
            for (ns, key), (kind, _, _) in self.model.snapshots.items()
            if ns == self.namespace and kind == "active"
        ]
        return self.either(found, _KEYS, 0.9)

    def arguments(self, what: str) -> tuple[Any, ...]:
        match what:
            case "begin":
                payload = self.random.choice(list(PAYLOADS))
                return self.free("ingests", "r"), payload, self.random.random() < 0.5
            case "finish":
                return self.there("ingests", "r", 0.95), self.labels()
            case "abort":
                return (self.there("ingests", "r"),)
            case "delete blob":
                return (self.digest(),)
            case "relabel":
                table = self.random.choice(["blobs", "snapshots", "snapshots", "containers"])
                kind = {"blobs": "digest", "snapshots": "k", "containers": "c"}[table]
                return table, self.there(table, kind), self.labels()
            case "prepare" | "view":
                return self.free("snapshots", "k"), self.parent(), self.labels()
            case "commit":
                return self.free("snapshots", "k"), self.active(), self.labels()
            case "remove":
                return (self.key(),)
            case "create image":
                return self.free("images", "i"), self.digest(), self.labels(expires=True)
            case "update image":
                return self.there("images", "i"), self.digest(), self.labels(expires=True)
            case "create container":
                return self.free("containers", "c"), self.key(), self.labels()
            case "create sandbox":
                return self.free("sandboxes", "s"), self.labels()
            case "create lease":
                return self.free("leases", "l"), self.lease_labels()
            case "add" | "discard":
                return self.there("leases", "l"), *self.resource()
            case "collect":
                return ()
            case _:
                table, kind = {
                    "delete image": ("images", "i"),
                    "delete container": ("containers", "c"),
                    "delete sandbox": ("sandboxes", "s"),
                    "delete lease": ("leases", "l"),
                }[what]
                return (self.there(table, kind),)

    def resource(self) -> tuple[str, str]:
        kind = self.random.choice(["content", "snapshots/native", "images", "ingests"])
        name = {
            "content": self.digest,
            "snapshots/native": self.key,
            "images": lambda: self.there("images", "i"),
            "ingests": lambda: self.there("ingests", "r"),
        }[kind]()
        return kind, name

    def lease_labels(self) -> Mapping[str, str]:
        labels = {}
        if self.random.random() < 0.4:
            labels["containerd.io/gc.expire"] = self.random.choice(_TIMES)
        if self.random.random() < 0.4:
            labels["containerd.io/gc.flat"] = "1"
        if self.random.random() < 0.2:
            labels |= self.reference()  # means nothing there
        return labels

    def labels(self, *, expires: bool = False) -> Mapping[str, str]:
        labels: dict[str, str] = {}
        if expires and self.random.random() < 0.4:
            labels["containerd.io/gc.expire"] = self.random.choice(_TIMES)
        for _ in range(self.random.choice([0, 1, 1, 2])):
            match self.random.random():
                case dice if dice < 0.7:
                    labels |= self.reference()
                case dice if dice < 0.8:
                    labels["containerd.io/gc.root"] = "now"
                case dice if dice < 0.9:
                    labels["containerd.io/gc.cond.value-usedat"] = self.random.choice(_TIMES)
                case _:
                    labels["plain"] = "label"
        return labels

    def reference(self) -> dict[str, str]:
        if self.random.random() < 0.1:
            return {"containerd.io/gc.cond.snapshot.native/x": f"usedat<1h|{self.key()}"}
        kind, value = self.random.choice(
            [
                ("content", self.digest()),
                ("snapshot.native", self.key()),
                ("image", self.there("images", "i")),
                ("container", self.there("containers", "c")),
            ]
        )
        way = self.random.choice(["ref", "ref", "bref"])
        end = self.random.choice(["", "/x", "", ".x", "x"])
        return {f"containerd.io/gc.{way}.{kind}{end}": value}
