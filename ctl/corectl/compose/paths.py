"""Relative paths of a file in the long form, from a directory."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from corectl.compose.tree import Node

__all__ = ["absolute", "rooted"]

_REMOTE = re.compile(r"[a-z][a-z0-9+.\-]*:|git@|github\.com/", re.IGNORECASE)


def absolute(text: str, directory: Path) -> str:
    """A path with ``~`` and relative parts resolved, without asking the disk."""
    return os.path.normpath(directory / Path(text).expanduser())


def rooted(file: Node, directory: Path) -> Node:
    """The tree with the paths that its services, configs and secrets name made absolute."""
    changes = {}
    for key, change in (("services", _service), ("configs", _source), ("secrets", _source)):
        if key in file.mapping:
            inner = file.mapping[key]
            found = {name: change(one, directory) for name, one in inner.mapping.items()}
            changes[key] = inner.with_keys(found) if isinstance(inner.value, dict) else inner
    return file.with_keys(changes) if isinstance(file.value, dict) else file


def _at(node: Node, key: str, directory: Path, *, remote: bool = False) -> Node:
    """A mapping with the path under ``key`` absolute."""
    found = node.mapping.get(key)
    if found is None or not isinstance(found.value, str):
        return node
    if remote and _REMOTE.match(found.value):
        return node
    return node.with_keys({key: replace(found, value=absolute(found.value, directory))})


def _source(node: Node, directory: Path) -> Node:
    return _at(node, "file", directory)


def _service(node: Node, directory: Path) -> Node:
    changes = {}
    if build := node.mapping.get("build"):
        changes["build"] = _build(build, directory)
    for key in ("env_file", "label_file"):
        if many := node.mapping.get(key):
            changes[key] = replace(many, value=[_at(i, "path", directory) for i in many.items])
    if (mounts := node.mapping.get("volumes")) and mounts.items:
        changes["volumes"] = replace(mounts, value=[_mount(i, directory) for i in mounts.items])
    if (develop := node.mapping.get("develop")) and (watch := develop.mapping.get("watch")):
        rules = replace(watch, value=[_at(one, "path", directory) for one in watch.items])
        changes["develop"] = develop.with_keys({"watch": rules})
    if extends := node.mapping.get("extends"):
        changes["extends"] = _at(extends, "file", directory)
    return node.with_keys(changes) if changes else node


def _build(node: Node, directory: Path) -> Node:
    node = _at(node, "context", directory, remote=True)
    if contexts := node.mapping.get("additional_contexts"):
        for name in contexts.mapping:
            contexts = _at(contexts, name, directory, remote=True)
        return node.with_keys({"additional_contexts": contexts})
    return node


def _mount(node: Node, directory: Path) -> Node:
    kind = node.mapping.get("type")
    return _at(node, "source", directory) if kind is not None and kind.value == "bind" else node
