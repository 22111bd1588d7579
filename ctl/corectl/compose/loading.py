"""Files to one tree: read, interpolated, in the long form, extended, included, merged."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from corectl.compose import dotenv, reading
from corectl.compose.interpolation import interpolate
from corectl.compose.merging import merge, without_tags
from corectl.compose.paths import absolute, rooted
from corectl.compose.shorthand import lengthen
from corectl.compose.tree import Node, Place, graft, invalid, plain
from cored.errors import InvalidArgument, NotFound

__all__ = ["Loader"]

_RESOURCES = ("services", "networks", "volumes", "secrets", "configs", "models")


@dataclass
class Loader:
    """Loads files with some variables; ``unset`` is told of those that nobody has set."""

    variables: Mapping[str, str]
    unset: Callable[[str], None] = lambda name: None
    interpolating: bool = True
    _including: tuple[str, ...] = field(default=())

    def load(self, files: tuple[str, ...], directory: Path) -> Node:
        """All files, the later over the earlier; paths are relative to ``directory``."""
        merged = Node({}, Place(files[0], 1))
        for file in files:
            one = self._file(file, directory, merged)
            result = merge(merged, one)
            merged = merged if result is None else result
        return without_tags(merged) or merged

    def _file(self, file: str, directory: Path, before: Node) -> Node:
        """One file with its includes and what its services extend."""
        tree = self._read(file, directory)
        included = self._included(tree, file, directory)
        extended = _Extending(self, file, tree, before).all()
        kept = {key: value for key, value in extended.mapping.items() if key != "include"}
        tree = Node(kept, tree.place)
        if included is None:
            return tree
        _no_conflicts(included, tree)
        return merge(included, tree) or tree

    def _read(self, file: str, directory: Path) -> Node:
        try:
            text = sys.stdin.read() if file == "-" else Path(file).read_text()
        except FileNotFoundError as error:
            raise NotFound(f"compose file {file}: not found") from error
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidArgument(f"compose file {file}: cannot be read: {error}") from error
        tree = reading.read(text, "standard input" if file == "-" else file)
        if not isinstance(tree.value, dict):
            raise InvalidArgument(f"{tree.place}: not a compose file: must be a mapping")
        if self.interpolating:
            tree = interpolate(tree, self.variables.get, self.unset)
        return rooted(lengthen(tree), directory)

    def service(self, file: str, name: str, asking: Node, trail: tuple[str, ...]) -> Node:
        """A service of another file, with what it extends itself; paths from that file's place."""
        tree = self._read(file, Path(file).parent)
        return _Extending(self, file, tree, Node({}, tree.place)).one(name, asking, trail)

    def _included(self, tree: Node, file: str, directory: Path) -> Node | None:
        entries = tree.mapping.get("include")
        if entries is None or entries.value is None:
            return None
        if not isinstance(entries.value, list):
            raise invalid(entries, "include", "must be a list")
        merged: Node | None = None
        for number, entry in enumerate(entries.value):
            one = self._include(entry, f"include.{number}", directory)
            if merged is not None:
                _no_conflicts(merged, one)
            merged = one if merged is None else merge(merged, one) or one
        return merged

    def _include(self, entry: Node, path: str, directory: Path) -> Node:
        long = entry if isinstance(entry.value, dict) else graft({"path": entry}, entry.place)
        if unknown := set(long.mapping) - {"path", "project_directory", "env_file"}:
            raise invalid(entry, path, f"unknown key '{min(unknown)}'")
        files = tuple(absolute(file, directory) for file in _texts(long, "path", path))
        if not files:
            raise invalid(entry, path, "'path' is missing")
        for file in files:
            if file in self._including:
                raise invalid(entry, path, f"{file} includes itself")
            if not Path(file).is_file():
                raise invalid(entry, path, f"{file}: not found")
        (place,) = _texts(long, "project_directory", path) or [""]
        inner = Path(absolute(place, directory)) if place else Path(files[0]).parent
        variables = dict(self.variables)
        usual = [str(inner / ".env")] if (inner / ".env").is_file() else []
        named = [absolute(file, directory) for file in _texts(long, "env_file", path)]
        for file in named or usual:
            found = dotenv.read(Path(file), variables.get)
            variables = {**found, **variables}
        trail = (*self._including, *files)
        return Loader(variables, self.unset, self.interpolating, trail).load(files, inner)


def _texts(node: Node, key: str, path: str) -> list[str]:
    found = node.mapping.get(key)
    if found is None or found.value is None:
        return []
    items = found.value if isinstance(found.value, list) else [found]
    for item in items:
        if not isinstance(item.value, str):
            raise invalid(item, f"{path}.{key}", "must be a path")
    return [str(item.value) for item in items]


def _no_conflicts(first: Node, second: Node) -> None:
    """Includes bring in new things; two that are not the same under one name are a mistake."""
    for kind in _RESOURCES:
        theirs = first.mapping.get(kind)
        ours = second.mapping.get(kind)
        for name, one in (ours.mapping if ours else {}).items():
            other = theirs.mapping.get(name) if theirs else None
            if other is not None and plain(other) != plain(one):
                problem = f"is also in {other.place}, which is included"
                raise invalid(one, f"{kind}.{name}", problem)


@dataclass
class _Extending:
    """The services of one file, with what they extend merged below them."""

    loader: Loader
    file: str
    tree: Node
    before: Node

    def all(self) -> Node:
        services = self.tree.mapping.get("services")
        if services is None or not isinstance(services.value, dict):
            return self.tree
        found = {
            name: self.one(name, node, ()) if "extends" in node.mapping else node
            for name, node in services.value.items()
        }
        return self.tree.with_keys({"services": services.with_keys(found)})

    def one(self, name: str, asking: Node, trail: tuple[str, ...]) -> Node:
        key = f"{self.file}:{name}"
        if key in trail:
            raise invalid(asking, f"services.{name}.extends", "a service that extends itself")
        for tree in (self.tree, self.before):
            services = tree.mapping.get("services")
            if services is not None and name in services.mapping:
                return self._extended(services.mapping[name], name, (*trail, key))
        raise InvalidArgument(f"{asking.place}: extends: no service '{name}' in {self.file}")

    def _extended(self, node: Node, name: str, trail: tuple[str, ...]) -> Node:
        extends = node.mapping.get("extends")
        if extends is None or extends.value is None:
            return node
        path = f"services.{name}.extends"
        if unknown := set(extends.mapping) - {"file", "service"}:
            raise invalid(extends, path, f"unknown key '{min(unknown)}'")
        base = extends.mapping.get("service")
        if base is None or not isinstance(base.value, str):
            raise invalid(extends, path, "'service' is missing")
        file = extends.mapping.get("file")
        if file is None or str(file.value) == self.file:
            found = self.one(base.value, extends, trail)
        else:
            found = self.loader.service(str(file.value), base.value, extends, trail)
        own = Node({k: v for k, v in node.mapping.items() if k != "extends"}, node.place, node.tag)
        merged = merge(found, own, f"services.{name}")
        return own if merged is None else merged
