"""A service's image from its build section."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corectl.compose.parts import Build
from corectl.compose.printing import image_of
from corectl.compose.project import Project
from cored.errors import InvalidArgument, Unimplemented

if TYPE_CHECKING:
    from corectl.session import Session

__all__ = ["BuildOptions", "Builder", "built_after"]

_SERVICE = "service:"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """What the command line says of all builds; ``args`` are NAME=VALUE."""

    no_cache: bool = False
    pull: bool = False
    push: bool = False
    args: tuple[str, ...] = ()
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Builder:
    """Builds services of a project."""

    session: Session
    project: Project
    options: BuildOptions

    def build(self, name: str) -> None:
        """Build one and name it. CoredError."""
        from corectl.build_options import Given
        from corectl.build_progress import Steps, show

        service = {**self.project.services, **self.project.disabled}[name]
        assert service.build is not None
        if service.build.ssh:
            self.session.only_here("build: ssh: the agent is on this machine", "use secrets")
        with _dockerfile(service.build) as dockerfile:
            given = Given(self._given(name, service.build, service.platform, dockerfile))
            events = self.session.builds.build(
                given.message(""), given.directories(), given.archives()
            )
            for _ in show(events, "quiet" if self.options.quiet else "plain", Steps()):
                continue

    def _given(self, name: str, build: Build, platform: str, dockerfile: str) -> Mapping[str, Any]:
        """As corectl build has its options."""
        variables = self.project.variables
        args = [
            f"{key}={variables.get(key, '') if value is None else value}"
            for key, value in build.args.items()
            if value is not None or key in variables
        ]
        return {
            "context": build.context,
            "dockerfile": dockerfile,
            "target": build.target,
            "args": [*args, *self.options.args],
            "tags": [image_of(self.project, name), *build.tags],
            "labels": [f"{key}={value or ''}" for key, value in build.labels.items()],
            "platforms": [build.platforms[0] if build.platforms else platform],
            "allow": _allowed(build),
            "no_cache": build.no_cache or self.options.no_cache,
            "pull": build.pull or self.options.pull,
            "push": self.options.push,
            "secrets": list(self._secrets(build)),
            "ssh": list(build.ssh),
            "contexts": [
                f"{key}={self._context(place)}" for key, place in build.additional_contexts.items()
            ],
            "network": build.network or "default",
            "add_hosts": [":".join(one.split("=", 1)) for one in build.extra_hosts],
            "memory": "",
            "cpus": 0.0,
            "timeout": 0.0,
        }

    def _secrets(self, build: Build) -> Iterator[str]:
        for one in build.secrets:
            if one.source not in self.project.secrets:
                raise InvalidArgument(f"build: secret '{one.source}' is not defined")
            secret = self.project.secrets[one.source]
            source = f"src={secret.file}" if secret.file else f"env={secret.environment}"
            yield f"id={one.target or one.source},{source}"

    def _context(self, place: str | None) -> str:
        if place is None:
            raise InvalidArgument("build: an additional context has to have a place")
        if place.startswith(_SERVICE):
            return f"docker-image://{image_of(self.project, place.removeprefix(_SERVICE))}"
        return place


def _allowed(build: Build) -> list[str]:
    return [*build.entitlements, *(["security.insecure"] if build.privileged else [])]


def built_after(build: Build) -> set[str]:
    """Services whose images a build begins with."""
    places = (place or "" for place in build.additional_contexts.values())
    return {place.removeprefix(_SERVICE) for place in places if place.startswith(_SERVICE)}


@contextmanager
def _dockerfile(build: Build) -> Iterator[str]:
    """Its absolute path; one that the compose file holds is written for as long."""
    if not Path(build.context).is_absolute():  # a URL: the builder fetches it
        if build.dockerfile_inline:
            raise Unimplemented(f"build: context {build.context}: dockerfile_inline with a URL")
        yield build.dockerfile
        return
    if not build.dockerfile_inline:
        yield os.path.normpath(Path(build.context) / (build.dockerfile or "Dockerfile"))
        return
    with tempfile.NamedTemporaryFile("w", prefix="Dockerfile-") as file:
        file.write(build.dockerfile_inline)
        file.flush()
        yield file.name
