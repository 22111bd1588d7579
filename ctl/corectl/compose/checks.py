"""What keys say of each other: names that are used are defined, and what excludes what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from corectl.compose.dependencies import circle, dependencies, reason
from corectl.compose.develop import problems
from corectl.compose.model import Config, File, Service
from corectl.compose.tree import Node, invalid
from cored.errors import InvalidArgument

__all__ = ["check"]


def check(file: File, tree: Node, enabled: Iterable[str]) -> None:
    """InvalidArgument, at the line that is to be changed."""
    services = {name: file.services[name] for name in enabled}
    nodes = tree.mapping["services"].mapping if "services" in tree.mapping else {}
    if not file.services:
        raise InvalidArgument(f"{tree.place}: services: there are none")
    for name, service in services.items():
        _Checker(nodes[name], f"services.{name}", service, file).all(services)
    if trail := circle(services):
        raise _Checker(nodes[trail[0]], f"services.{trail[0]}", services[trail[0]], file).round(
            trail
        )
    for kind, several in (("configs", file.configs), ("secrets", file.secrets)):
        for name, one in several.items():
            _source(tree.mapping[kind].mapping[name], f"{kind}.{name}", one or Config())


def _source(node: Node, path: str, one: Config) -> None:
    given = [one.file, one.environment, one.content is not None, one.external]
    if sum(map(bool, given)) != 1 and not one.template_driver and not getattr(one, "driver", ""):
        hint = "file, environment, content or external"
        raise invalid(node, path, "needs one source, and one only", hint=hint)


class _Checker:
    def __init__(self, node: Node, path: str, service: Service, file: File) -> None:
        self._node, self._path, self._service, self._file = node, path, service, file

    def all(self, enabled: Mapping[str, Service]) -> None:
        service = self._service
        for key, what in (("provider", "services run by a provider"), ("models", "models")):
            if getattr(service, key) is not None:
                raise self._wrong(key, f"{what}: cored does not have them", "take the key out")
        if not service.image and service.build is None:
            raise invalid(self._node, self._path, "has neither 'image' nor 'build'")
        if service.network_mode and service.networks:
            raise self._wrong("network_mode", "excludes 'networks'")
        if service.container_name and service.replicas > 1:
            raise self._wrong("container_name", "excludes more than one replica")
        replicas = service.deploy.replicas if service.deploy else None
        if None not in (service.scale, replicas) and service.scale != replicas:
            raise self._wrong("scale", "differs from 'deploy.replicas'", "keep one of them")
        for number, problem in self._watched():
            raise self._wrong(f"develop.watch.{number}", problem)
        self._references()
        self._dependencies(enabled)
        self._mounts()

    def _watched(self) -> Iterable[tuple[int, str]]:
        develop, build = self._service.develop, self._service.build
        return problems(develop, builds=build is not None) if develop else ()

    def round(self, trail: list[str]) -> InvalidArgument:
        """The error that it depends on itself, by the next of ``trail``."""
        key = reason(self._service, trail[1])
        problem = f"services depend on each other: {' -> '.join(trail)}"
        return self._wrong(key, problem, "take one of them out")

    def _references(self) -> None:
        service, file = self._service, self._file
        for key, used, defined in (
            ("networks", service.networks, file.networks),
            ("configs", [one.source for one in service.configs], file.configs),
            ("secrets", [one.source for one in service.secrets], file.secrets),
        ):
            for name in used:
                if name not in defined:
                    hint = f"define it under the file's '{key}'"
                    raise self._wrong(key, f"'{name}' is not defined", hint)

    def _dependencies(self, enabled: Mapping[str, Service]) -> None:
        for name, dependency in dependencies(self._service).items():
            if name in enabled or not dependency.required:
                continue
            if name in self._file.services:
                problem = f"'{name}' is in a profile that is not active"
                hint = f"--profile {self._file.services[name].profiles[0]}"
                raise self._wrong("depends_on", problem, hint)
            raise self._wrong("depends_on", f"there is no service '{name}'")

    def _mounts(self) -> None:
        for number, mount in enumerate(self._service.volumes):
            key = f"volumes.{number}"
            if not mount.target.startswith("/"):
                raise self._wrong(key, f"target '{mount.target}' is relative")
            if mount.type == "bind" and not mount.source:
                raise self._wrong(key, "a bind mount has to have a source")
            if mount.type == "volume" and mount.source and mount.source not in self._file.volumes:
                hint = "define it under the file's 'volumes', or write ./ for a directory"
                raise self._wrong(key, f"volume '{mount.source}' is not defined", hint)

    def _wrong(self, key: str, problem: str, hint: str | None = None) -> InvalidArgument:
        node = self._node
        for part in key.split("."):
            if part.isdecimal() and node.items:
                node = node.items[int(part)]
            else:
                node = node.mapping.get(part, node)
        return invalid(node, f"{self._path}.{key}", problem, hint=hint)
