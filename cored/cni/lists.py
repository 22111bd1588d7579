"""Network configuration lists: from JSON and directories, and the version that is spoken.

CNI specification, section 1 and "Version considerations".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cored import log
from cored.abc.network import NetworkList
from cored.errors import InvalidArgument, from_os_error

__all__ = ["VERSIONS", "at_least", "check_name", "chosen", "document", "parse", "read", "search"]

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
"""What we speak, oldest first."""

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
_SUFFIXES = (".conflist", ".conf", ".json")


def at_least(version: str, wanted: str) -> bool:
    """Whether ``version`` is ``wanted`` or newer; both are of :data:`VERSIONS`."""
    return VERSIONS.index(version) >= VERSIONS.index(wanted)


def check_name(what: str, name: str) -> str:
    """The name of a network or id of a container, if it is one. InvalidArgument."""
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"{what} {name!r}: invalid", hint="letters, digits, '_', '.' and '-', the first no sign"
        )
    return name


def parse(data: bytes | str, source: str = "") -> NetworkList:
    """A list from its JSON, or from a single plugin's (a ``.conf``). InvalidArgument."""
    subject = f"network configuration {source}".rstrip()
    try:
        table = json.loads(data)
    except ValueError as error:
        raise InvalidArgument(f"{subject}: not JSON: {error}") from error
    if not isinstance(table, dict):
        raise InvalidArgument(f"{subject}: not a JSON object")
    plugins = table.get("plugins") if "plugins" in table else [_without_name(table)]
    if not isinstance(plugins, list) or not plugins:
        raise InvalidArgument(f"{subject}: 'plugins' must be a list with at least one plugin")
    for plugin in plugins:
        if not isinstance(plugin, dict) or not isinstance(plugin.get("type"), str):
            raise InvalidArgument(f"{subject}: a plugin without a 'type'")
        if "/" in plugin["type"] or not plugin["type"]:
            raise InvalidArgument(f"{subject}: plugin type {plugin['type']!r}: not a file's name")
    name = table.get("name")
    if not isinstance(name, str):
        raise InvalidArgument(f"{subject}: has no 'name'")
    versions = _versions(table, subject)
    return NetworkList(
        name=check_name("network", name),
        version=max(versions, key=VERSIONS.index),
        plugins=tuple(plugins),
        versions=tuple(versions),
        disable_check=_flag(table, "disableCheck", subject),
        disable_gc=_flag(table, "disableGC", subject),
        source=source,
    )


def read(path: Path) -> NetworkList:
    """The list in a file. InvalidArgument, NotFound."""
    try:
        return parse(path.read_bytes(), str(path))
    except OSError as error:
        raise from_os_error(f"network configuration {path}", error) from error


def search(directory: Path) -> list[NetworkList]:
    """The lists in a directory, by file name; one that is broken is logged, and left out."""
    found: list[NetworkList] = []
    names: set[str] = set()
    try:
        paths = sorted(path for path in directory.iterdir() if path.suffix in _SUFFIXES)
    except FileNotFoundError:
        return []
    for path in paths:
        try:
            network = read(path)
        except InvalidArgument as error:
            log.get("cni").warning("a network configuration is left out", error=str(error))
            continue
        if network.name not in names:
            names.add(network.name)
            found.append(network)
    return found


def document(network: NetworkList) -> dict[str, Any]:
    """A list as the JSON object that :func:`parse` reads."""
    table: dict[str, Any] = {"cniVersion": network.version, "name": network.name}
    if len(network.versions) > 1:
        table["cniVersions"] = list(network.versions)
    if network.disable_check:
        table["disableCheck"] = True
    if network.disable_gc:
        table["disableGC"] = True
    return {**table, "plugins": list(network.plugins)}


def chosen(network: NetworkList, spoken: Iterable[Sequence[str]]) -> NetworkList:
    """The list in the newest of its versions that every plugin speaks; as it is if none is.

    The choice is all that is left of its versions: what is kept of an attachment goes by it.
    """
    offered = [set(versions) for versions in spoken]
    common = [v for v in network.versions if all(v in versions for versions in offered)]
    if not common:
        return network
    newest = max(common, key=VERSIONS.index)
    return replace(network, version=newest, versions=(newest,))


def _without_name(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key not in ("name", "cniVersion")}


def _versions(table: Mapping[str, Any], subject: str) -> list[str]:
    """``cniVersion`` and ``cniVersions``; without either, 0.1.0 as the specification had it."""
    asked = [table.get("cniVersion") or "0.1.0", *(table.get("cniVersions") or ())]
    known = [version for version in asked if version in VERSIONS]
    if not known:
        raise InvalidArgument(
            f"{subject}: CNI version {', '.join(map(str, asked))}: not spoken here",
            hint=f"one of {', '.join(VERSIONS)}",
        )
    return list(dict.fromkeys(known))


def _flag(table: Mapping[str, Any], key: str, subject: str) -> bool:
    """A boolean, also as a string (a common slip that libcni forgives)."""
    value = table.get(key, False)
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise InvalidArgument(f"{subject}: {key} must be true or false, not {value!r}")
