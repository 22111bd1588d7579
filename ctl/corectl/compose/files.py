"""Which files make a project, where it is, what its variables and its name are."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from corectl.compose import dotenv
from corectl.compose.interpolation import Lookup
from cored.errors import InvalidArgument, NotFound

__all__ = ["Request", "Sources", "find", "normal_name"]

_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
_OVERRIDES = ("compose.override.yml", "compose.override.yaml", "docker-compose.override.yml",
              "docker-compose.override.yaml")  # fmt: skip
_PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line says of the project; empty is what the environment says, or usual."""

    files: Sequence[str] = ()
    directory: str = ""
    name: str = ""
    profiles: Sequence[str] = ()
    env_files: Sequence[str] = ()
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    here: Path = field(default_factory=Path.cwd)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a project comes from. A file ``-`` is standard input."""

    files: tuple[str, ...]
    directory: Path
    variables: Mapping[str, str]
    profiles: tuple[str, ...]
    name: str

    @property
    def lookup(self) -> Lookup:
        return self.variables.get


def find(request: Request) -> Sources:
    """Files, directory and variables. NotFound, InvalidArgument."""
    files = list(request.files) or _from_environment(request.environ)
    if not files:
        files = _search(Path(request.directory) if request.directory else request.here)
    files = [file if file == "-" else str(request.here / file) for file in files]
    for file in files:
        if file != "-" and not Path(file).is_file():
            raise NotFound(f"compose file {file}: not found")
    if request.directory:
        directory = request.here / request.directory
    else:
        directory = request.here if files[0] == "-" else Path(files[0]).parent
    directory = Path(os.path.normpath(directory))
    variables = _variables(request, directory)
    given = request.profiles or variables.get("COMPOSE_PROFILES", "").split(",")
    name = request.name or variables.get("COMPOSE_PROJECT_NAME", "")
    if name and not _PROJECT.fullmatch(name):
        raise InvalidArgument(
            f"project name '{name}': not a name", hint="lower-case letters, digits, - and _"
        )
    profiles = tuple(word.strip() for word in given if word.strip())
    return Sources(tuple(files), directory, variables, profiles, name)


def _from_environment(environ: Mapping[str, str]) -> list[str]:
    text = environ.get("COMPOSE_FILE", "")
    return [f for f in text.split(environ.get("COMPOSE_PATH_SEPARATOR") or ":") if f]


def _search(start: Path) -> list[str]:
    """The first directory upwards that has a compose file: that, and what overrides it."""
    start = start.absolute()
    for directory in (start, *start.parents):
        for name in _NAMES:
            if (directory / name).is_file():
                beside = [directory / other for other in _OVERRIDES]
                over = [str(path) for path in beside if path.is_file()]
                return [str(directory / name), *over[:1]]
    raise NotFound(
        f"no compose file in {start} or above it", hint=f"name one with -f, or make {_NAMES[0]}"
    )


def _variables(request: Request, directory: Path) -> dict[str, str]:
    """The environment over the files of variables."""
    environ = request.environ
    files = [request.here / file for file in request.env_files]
    if not files and not environ.get("COMPOSE_DISABLE_ENV_FILE"):
        named = [request.here / f for f in environ.get("COMPOSE_ENV_FILES", "").split(",") if f]
        usual = directory / ".env"
        files = named or ([usual] if usual.is_file() else [])
    found: dict[str, str] = {}

    def value(name: str) -> str | None:
        return environ.get(name, found.get(name))

    for file in files:
        found |= dotenv.read(file, value)
    return {**found, **environ}


def normal_name(directory: Path) -> str:
    """A project's name from its directory's. InvalidArgument."""
    name = re.sub(r"[^-_a-z0-9]", "", directory.name.lower()).lstrip("_-")
    if not name:
        raise InvalidArgument(
            f"project directory {directory}: gives no project name", hint="name it with -p"
        )
    return name
