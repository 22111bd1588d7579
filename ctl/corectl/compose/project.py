"""A project: what its files come to, checked, with names, environments and profiles resolved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from corectl.compose import dotenv
from corectl.compose.checks import check
from corectl.compose.decoding import decode
from corectl.compose.dependencies import needed_by
from corectl.compose.files import Request, Sources, find, normal_name
from corectl.compose.loading import Loader
from corectl.compose.model import Config, File, NamedVolume, Network, Secret, Service
from corectl.compose.tree import Node, Place, graft
from cored.errors import InvalidArgument, NotFound

__all__ = ["Project", "load", "raw"]


@dataclass(frozen=True, slots=True)
class Project:
    """The model. ``tree`` is the same, as ``config`` prints it; ``disabled`` are services that
    none of the profiles asks for; ``unset`` variables were used and nobody has set them."""

    name: str
    directory: Path
    files: tuple[str, ...]
    services: Mapping[str, Service]
    disabled: Mapping[str, Service]
    networks: Mapping[str, Network]
    volumes: Mapping[str, NamedVolume]
    secrets: Mapping[str, Secret]
    configs: Mapping[str, Config]
    tree: Node
    variables: Mapping[str, str]
    unset: tuple[str, ...] = ()

    def chosen(self, names: Sequence[str], *, dependencies: bool = True) -> Project:
        """The project with these services alone, and those that they need. NotFound."""
        for name in names:
            if name not in self.services and name not in self.disabled:
                raise NotFound(f"service '{name}': not in the project {self.name}")
        if not names:
            return self
        everything = {**self.services, **self.disabled}
        wanted = needed_by(everything, names) if dependencies else set(names)
        kept = {name: one for name, one in everything.items() if name in wanted}
        rest = {name: one for name, one in everything.items() if name not in wanted}
        return replace(self, services=kept, disabled=rest)


def load(request: Request, *, naming: Sequence[str] = ()) -> Project:
    """The project that a command line means; services in ``naming`` need no profile.

    NotFound, InvalidArgument.
    """
    sources, tree, unset = _tree(request, interpolating=True)
    name = sources.name or str(_named(tree) or normal_name(sources.directory))
    tree = tree.with_keys({"name": Node(name, tree.place)})
    file = decode(File, tree, "")
    enabled = _enabled(file.services, sources.profiles, naming)
    tree = _resolved(tree, enabled, sources)
    tree = _with_names(tree, name, enabled)
    file = decode(File, tree, "")
    check(file, tree, enabled)
    return Project(
        name,
        sources.directory,
        sources.files,
        {key: one for key, one in file.services.items() if key in enabled},
        {key: one for key, one in file.services.items() if key not in enabled},
        {key: one or Network() for key, one in file.networks.items()},
        {key: one or NamedVolume() for key, one in file.volumes.items()},
        {key: one or Secret() for key, one in file.secrets.items()},
        {key: one or Config() for key, one in file.configs.items()},
        tree,
        sources.variables,
        unset,
    )


def raw(request: Request) -> Node:
    """The merged tree with its variables as they are written, neither checked nor named."""
    sources, tree, _ = _tree(request, interpolating=False)
    name = sources.name or _named(tree) or normal_name(sources.directory)
    return tree.with_keys({"name": Node(name, tree.place)})


def _tree(request: Request, *, interpolating: bool) -> tuple[Sources, Node, tuple[str, ...]]:
    sources = find(request)
    unset: dict[str, None] = {}
    loader = Loader(sources.variables, lambda name: unset.setdefault(name), interpolating)
    tree = loader.load(sources.files, sources.directory)
    if "version" in tree.mapping:
        tree = Node({k: v for k, v in tree.mapping.items() if k != "version"}, tree.place)
    return sources, tree, tuple(unset)


def _named(tree: Node) -> str | None:
    found = tree.mapping.get("name")
    if found is None or found.value is None:
        return None
    text = str(found.value)
    if normal_name(Path("/", text.replace("/", "."))) != text:
        raise InvalidArgument(
            f"{found.place}: name: '{text}' is not a project's name",
            hint="lower-case letters, digits, - and _",
        )
    return text


def _enabled(
    services: Mapping[str, Service], profiles: Iterable[str], naming: Sequence[str]
) -> set[str]:
    wanted = set(profiles)
    for name in naming:
        wanted.update(services[name].profiles if name in services else ())
    return {
        name
        for name, one in services.items()
        if not one.profiles or "*" in wanted or wanted & set(one.profiles) or name in naming
    }


def _resolved(tree: Node, enabled: set[str], sources: Sources) -> Node:
    """Environments and labels with what their files say below them."""
    services = tree.mapping.get("services")
    if services is None:
        return tree
    found = {}
    for name in enabled:
        node = services.mapping[name]
        for files, key in (("env_file", "environment"), ("label_file", "labels")):
            node = _filled(node, files, key, sources)
        found[name] = node
    return tree.with_keys({"services": services.with_keys(found)})


def _filled(node: Node, files: str, key: str, sources: Sources) -> Node:
    values: dict[str, Node] = {}
    listed = node.mapping.get(files)
    for item in listed.items if listed else ():
        entry = item.mapping
        path = Path(str(entry["path"].value))
        required = entry.get("required")
        if not path.is_file() and required is not None and required.value in (False, "false"):
            continue
        form = entry.get("format")
        if form is not None and form.value not in ("raw", "", None):
            raise InvalidArgument(f"{form.place}: env_file: unknown format '{form.value}'")
        is_raw = form is not None and form.value == "raw"
        found = dotenv.read(path, sources.lookup, raw=is_raw)
        values |= {name: Node(value, item.place) for name, value in found.items()}
    own = node.mapping.get(key)
    for name, value in (own.mapping if own else {}).items():
        if value.value is not None:
            values[name] = value
        elif key == "labels":
            values[name] = Node("", value.place)
        elif name in sources.variables:
            values[name] = Node(sources.variables[name], value.place)
        else:
            # without a value it is not set at all, whatever a file says
            values.pop(name, None)
    kept = {k: v for k, v in node.mapping.items() if k not in (files, key)}
    if values:
        kept[key] = Node(values, own.place if own else node.place)
    return Node(kept, node.place)


def _with_names(tree: Node, project: str, enabled: set[str]) -> Node:
    """Networks, volumes, configs and secrets with full names; services in the default network."""
    place = Place(tree.place.file, tree.place.line)
    services = tree.mapping.get("services", Node({}, place))
    found = {}
    default = False
    for name, node in services.mapping.items():
        networks = node.mapping.get("networks")
        joined = networks is not None and bool(networks.mapping)
        if networks is not None and "default" in networks.mapping and name in enabled:
            default = True
        if not joined and not {"network_mode", "provider"} & node.mapping.keys():
            found[name] = node.with_keys({"networks": graft({"default": None}, node.place)})
    tree = tree.with_keys({"services": services.with_keys(found)})
    outer = tree.mapping.get("networks", Node({}, place))
    if (default or enabled & found.keys()) and "default" not in outer.mapping:
        tree = tree.with_keys({"networks": outer.with_keys({"default": graft({}, place)})})
    changes = {}
    for kind in ("networks", "volumes", "secrets", "configs"):
        if (several := tree.mapping.get(kind)) is not None:
            named = {k: _full(v, k, project) for k, v in several.mapping.items()}
            changes[kind] = several.with_keys(named)
    return tree.with_keys(changes)


def _full(node: Node, key: str, project: str) -> Node:
    if "name" in node.mapping:
        return node
    external = node.mapping.get("external")
    outside = external is not None and external.value in (True, "true")
    name = key if outside else f"{project}_{key}"
    return Node({"name": Node(name, node.place), **node.mapping}, node.place)
