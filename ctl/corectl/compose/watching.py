"""Files that a project's rules watch: what of them changed since the last look.

They are looked at, not listened to: that finds changes on every filesystem, over a network too,
and costs a stat for each file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from corectl.compose.develop import Watch
from corectl.compose.model import Service
from cored.client.contexts import dockerignore, ignore_of

if TYPE_CHECKING:
    from cored_service_build.dockerfile.ignore import Ignore

__all__ = ["Changes", "Tree", "trees"]

# of version control and of editors; nobody's program reads them
_NOBODYS = ("**/.git", "**/.hg", "**/.svn", "**/.idea", "**/*~", "**/.*.sw?", "**/.*.sw??",
            "**/.#*", "**/#*#", "**/4913")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Changes:
    """Paths below a rule's own, '' for that itself."""

    written: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.written or self.removed)

    def __len__(self) -> int:
        return len(self.written) + len(self.removed)


@dataclass
class Tree:
    """The files of one rule of a service. ``context`` and ``unbuilt`` are those of its build."""

    service: str
    rule: Watch
    context: str = ""
    unbuilt: Ignore | None = None
    _ignore: Ignore = field(init=False)
    _include: Ignore | None = field(init=False)
    _seen: Mapping[str, tuple[int, ...]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._ignore = ignore_of("\n".join((*_NOBODYS, *self.rule.ignore)))
        self._include = ignore_of("\n".join(self.rule.include)) if self.rule.include else None
        self._seen = dict(self._found())

    def everything(self) -> Changes:
        """All that was seen, as if it had just been written."""
        return Changes(tuple(sorted(self._seen)))

    def look(self) -> Changes:
        """What is another since the last look, or since the beginning."""
        found = dict(self._found())
        before, self._seen = self._seen, found
        written = [path for path, stamp in found.items() if before.get(path) != stamp]
        gone = sorted(path for path in before if path not in found)
        return Changes(tuple(sorted(written)), tuple(_topmost(gone, found)))

    def target(self, path: str) -> str:
        """Where in the container."""
        return f"{self.rule.target.rstrip('/')}/{path}" if path else self.rule.target

    def _found(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        root = Path(self.rule.path)
        try:
            status = root.lstat()
        except OSError:
            return
        if stat.S_ISDIR(status.st_mode):
            yield from self._below(root, "")
        else:
            yield "", _stamp(status)

    def _below(self, directory: Path, beginning: str) -> Iterator[tuple[str, tuple[int, ...]]]:
        try:
            entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
        except OSError:
            return  # it has gone, or is not for us
        for entry in entries:
            path = f"{beginning}{entry.name}"
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            kind = status.st_mode
            if stat.S_ISDIR(kind):
                if not self._pruned(path):
                    yield from self._below(Path(entry.path), f"{path}/")
            elif (stat.S_ISREG(kind) or stat.S_ISLNK(kind)) and self._wanted(path):
                yield path, _stamp(status)

    def _wanted(self, path: str) -> bool:
        if self._include is not None and not self._include.ignored(path):
            return False
        return not any(ignore.ignored(name) for ignore, name in self._ignores(path))

    def _pruned(self, path: str) -> bool:
        """Whether nothing in a directory can be wanted."""
        return any(
            ignore.ignored(name) and ignore.prunable(name) for ignore, name in self._ignores(path)
        )

    def _ignores(self, path: str) -> Iterator[tuple[Ignore, str]]:
        """Whose patterns count, and what the path is called there."""
        yield self._ignore, path
        if self.unbuilt is not None:
            whole = os.path.relpath(Path(self.rule.path) / path, self.context)
            if not whole.startswith("../"):
                yield self.unbuilt, whole


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_mode)


def _topmost(gone: list[str], there: Mapping[str, object]) -> Iterator[str]:
    """Directories in place of all that was in them, where nothing is left."""
    parents = {parent for path in there for parent in _parents(path)}
    told: set[str] = set()
    for path in gone:
        top = next((parent for parent in _parents(path) if parent not in parents), path)
        if top not in told:
            told.add(top)
            yield top


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))]


def trees(services: Mapping[str, Service]) -> list[Tree]:
    """One for each rule."""
    found = []
    for name, service in services.items():
        context, unbuilt = "", None
        if service.build is not None and Path(service.build.context).is_dir():
            context = service.build.context
            dockerfile = Path(context) / (service.build.dockerfile or "Dockerfile")
            unbuilt = ignore_of(dockerignore(Path(context), dockerfile))
        for rule in service.develop.watch if service.develop else ():
            found.append(Tree(name, rule, context, unbuilt))
    return found
