"""One tree over another, by the specification's rules for several files.

Both are in the long form. Mappings merge by key, lists are joined and what has the same key is
replaced, anything else is replaced. ``!reset`` takes away, ``!override`` replaces a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace

from corectl.compose.tree import Node, child, plain

__all__ = ["merge", "unique", "without_tags"]

# lists that are one value: the last file's counts
_WHOLE = {"command", "entrypoint", "test"}


def _target(item: Node) -> Hashable:
    found = item.mapping.get("target") or item.mapping.get("source")
    return None if found is None else str(plain(found))


def _port(item: Node) -> Hashable:
    names = ("host_ip", "target", "published", "protocol")
    return tuple(str(plain(item.mapping[n])) if n in item.mapping else "" for n in names)


def _named(key: str) -> Callable[[Node], Hashable]:
    def of(item: Node) -> Hashable:
        return str(plain(item.mapping[key])) if key in item.mapping else None

    return of


_KEYS: dict[str, Callable[[Node], Hashable]] = {
    "ports": _port,
    "volumes": _target,
    "devices": _target,
    "configs": _target,
    "secrets": _target,
    "config": _named("subnet"),
    "env_file": _named("path"),
    "label_file": _named("path"),
    "extra_hosts": lambda item: str(item.value),
    "weight_device": _named("path"),
}


def merge(base: Node, over: Node, path: str = "") -> Node | None:
    """``over`` on top of ``base``; None is that nothing stays."""
    if over.tag == "reset":
        return None
    if over.tag == "override":
        return without_tags(over)
    key = path.rpartition(".")[2]
    match base.value, over.value:
        case _, None:
            return base
        case dict() as old, dict() as new:
            if key == "logging" and _differ(old, new, "driver"):
                return without_tags(over)
            merged = dict(old)
            for name, value in new.items():
                _put(merged, name, value, child(path, name))
            return replace(over, value=merged)
        case list() as former, list() as latter if key not in _WHOLE:
            cleaned = [one for item in latter if (one := without_tags(item)) is not None]
            return replace(over, value=unique(key, [*former, *cleaned]))
        case _:
            return without_tags(over)


def _put(merged: dict[str, Node], name: str, value: Node, path: str) -> None:
    result = merge(merged[name], value, path) if name in merged else without_tags(value)
    if result is None:
        merged.pop(name, None)
    else:
        merged[name] = result


def _differ(old: dict[str, Node], new: dict[str, Node], key: str) -> bool:
    return key in old and key in new and old[key].value != new[key].value


def unique(key: str, items: list[Node]) -> list[Node]:
    """A list without what a later item replaces; equal scalars stay once."""
    identify = _KEYS.get(key)
    found: dict[Hashable, Node] = {}
    for number, item in enumerate(items):
        if isinstance(item.value, dict | list):
            identity = identify(item) if identify else None
            found[("item", number) if identity is None else ("key", identity)] = item
        else:
            found[("scalar", item.value)] = item
    return list(found.values())


def without_tags(node: Node) -> Node | None:
    """What stays of a tree that has nothing below it: resets vanish, overrides are values."""
    if node.tag == "reset":
        return None
    match node.value:
        case dict() as mapping:
            kept = {k: one for k, v in mapping.items() if (one := without_tags(v)) is not None}
            return Node(kept, node.place)
        case list() as items:
            left = [one for item in items if (one := without_tags(item)) is not None]
            return Node(left, node.place)
        case scalar:
            return Node(scalar, node.place)
