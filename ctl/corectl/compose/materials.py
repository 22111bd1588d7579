"""Configs and secrets as files: those of the user where they are, others made for the project.

External ones are files that the host's owner keeps, /etc/cored/secrets/NAME and
/etc/cored/configs/NAME, or credentials that systemd gives to the unit that corectl runs in.

What is made is in /run/corectl, which no other user reads and no disk keeps; it goes with the
project.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from corectl.compose.model import Config
from corectl.compose.parts import Source
from corectl.compose.project import Project
from cored.errors import InvalidArgument, NotFound, Unimplemented

__all__ = ["Material", "Store", "materials"]

_PLACE = Path("/run/corectl/compose")
_KEPT = Path("/etc/cored")


@dataclass(frozen=True, slots=True)
class Material:
    """A file for a container: an own one at ``path``, or ``content`` that is to be put there."""

    path: Path
    target: str
    content: bytes | None = None
    owner: tuple[int, int] = (0, 0)
    mode: int = 0o444


@dataclass(frozen=True, slots=True)
class Store:
    """Where a project's own files are; ``key`` tells daemons and namespaces apart."""

    key: str
    project: str
    place: Path = _PLACE
    kept: Path = _KEPT

    @property
    def directory(self) -> Path:
        marked = hashlib.sha256(self.key.encode()).hexdigest()[:12]
        return self.place / f"{self.project}-{marked}"

    def write(self, material: Material) -> None:
        """Make the file as it should be; one that is there keeps its inode, which mounts show."""
        if material.content is None:
            return
        material.path.parent.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        fd = os.open(material.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(material.content)
            os.fchown(fd, *material.owner)
            os.fchmod(fd, material.mode)

    def remove(self) -> None:
        """Take all of it away."""
        if self.directory.exists():
            shutil.rmtree(self.directory)
            # other projects' files may be in it; the directory above is corectl's, also for pipes
            with suppress(OSError):
                self.place.rmdir()


def materials(project: Project, name: str, store: Store) -> Iterator[Material]:
    """The files that a service's containers get. NotFound, InvalidArgument, Unimplemented."""
    service = project.services[name]
    for source in service.configs:
        target = source.target or source.source
        inside = target if target.startswith("/") else f"/{target}"
        yield _one(project, store, name, "config", source, project.configs[source.source], inside)
    for source in service.secrets:
        target = source.target or source.source
        inside = target if target.startswith("/") else f"/run/secrets/{target}"
        yield _one(project, store, name, "secret", source, project.secrets[source.source], inside)


def _one(
    project: Project,
    store: Store,
    service: str,
    kind: str,
    source: Source,
    one: Config,
    inside: str,
) -> Material:
    if one.external:
        one = replace(one, file=str(_outside(project, store, kind, one.name)))
    own = bool(source.uid or source.gid or source.mode is not None)
    if one.file and not own:
        if not Path(one.file).exists():
            raise NotFound(f"{kind} '{source.source}': file {one.file}: not found")
        return Material(Path(one.file), inside)
    marked = hashlib.sha256(inside.encode()).hexdigest()[:12]
    path = store.directory / f"{service}-{kind}-{source.source}-{marked}"
    return Material(
        path,
        inside,
        _content(project, kind, source.source, one),
        (_number(source, "uid"), _number(source, "gid")),
        0o444 if source.mode is None else source.mode,
    )


def _outside(project: Project, store: Store, kind: str, name: str) -> Path:
    """The file of an external config or secret. NotFound, InvalidArgument."""
    if Path(name).name != name:
        raise InvalidArgument(f"{kind} '{name}': is external, and its name is no file's name")
    places = [store.kept / f"{kind}s"]
    if kind == "secret" and (given := project.variables.get("CREDENTIALS_DIRECTORY")):
        places.insert(0, Path(given))
    for place in places:
        if (place / name).is_file():
            return place / name
    raise NotFound(
        f"{kind} '{name}': is external, and not there", hint=f"put it in {places[-1] / name}"
    )


def _number(source: Source, key: str) -> int:
    text = getattr(source, key) or "0"
    if not text.isdecimal():
        raise InvalidArgument(f"'{source.source}': {key} '{text}': must be a number")
    return int(text)


def _content(project: Project, kind: str, name: str, one: Config) -> bytes:
    if one.content is not None:
        return one.content.encode()
    if one.environment:
        value = project.variables.get(one.environment)
        if value is None:
            raise NotFound(f"{kind} '{name}': variable {one.environment} is not set")
        return value.encode()
    if one.file:
        try:
            return Path(one.file).read_bytes()
        except OSError as error:
            raise NotFound(f"{kind} '{name}': file {one.file}: {error.strerror}") from error
    raise Unimplemented(
        f"{kind} '{name}': cored has no drivers of them", hint="use file, environment, content"
    )
