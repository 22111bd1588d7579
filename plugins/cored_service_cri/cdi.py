"""Devices by the Container Device Interface: ``vendor.com/class=name`` to edits of a spec.

Specifications are read from /etc/cdi and /var/run/cdi for each container (CDI 0.8, JSON or YAML).
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cored import log
from cored._pb.cri.v1 import api_pb2 as pb
from cored.errors import InvalidArgument, NotFound, from_os_error

__all__ = ["inject", "names"]

_DIRECTORIES = (Path("/etc/cdi"), Path("/var/run/cdi"))
_ANNOTATION = "cdi.k8s.io/"
_HOOKS = {
    name: name
    for name in ("prestart", "createRuntime", "createContainer", "startContainer", "poststart",
                 "poststop")
}  # fmt: skip


def names(config: pb.ContainerConfig) -> list[str]:
    """What a container asks for, by field and by annotation."""
    found = [one.name for one in config.CDI_devices]
    for key, value in sorted(config.annotations.items()):
        if key.startswith(_ANNOTATION):
            found += value.split(",")
    return list(dict.fromkeys(found))


def inject(
    document: dict[str, Any], wanted: Sequence[str], directories: Sequence[Path] = _DIRECTORIES
) -> None:
    """Edit a spec for its devices. InvalidArgument, NotFound. Blocks."""
    if not wanted:
        return
    specifications = list(_read(directories))
    general: list[int] = []
    for name in wanted:
        kind, equals, device = name.partition("=")
        if not equals or "/" not in kind or not device:
            raise InvalidArgument(f"CDI device {name!r}: not of the form vendor/class=name")
        for number, one in reversed(list(enumerate(specifications))):
            edits = next((d for d in one.get("devices", ()) if d.get("name") == device), None)
            if one.get("kind") == kind and edits is not None:
                if number not in general:
                    general.append(number)
                    _apply(document, one.get("containerEdits") or {})
                _apply(document, edits.get("containerEdits") or {})
                break
        else:
            places = ", ".join(map(str, directories))
            raise NotFound(f"CDI device {name!r}: is in no specification", hint=f"see {places}")


def _read(directories: Sequence[Path]) -> Iterator[Mapping[str, Any]]:
    """The specifications; of one device the last counts."""
    for directory in directories:
        for path in sorted(directory.glob("*")):
            if path.suffix not in (".json", ".yaml", ".yml"):
                continue
            try:
                document = _parsed(path)
            except (OSError, ValueError) as error:
                log.get("cri").warning("a CDI specification is left out", path=str(path), why=error)
                continue
            if isinstance(document, dict):
                yield document


def _apply(document: dict[str, Any], edits: Mapping[str, Any]) -> None:
    process, linux = document["process"], document["linux"]
    for entry in edits.get("env") or ():
        name = entry.partition("=")[0]
        process["env"] = [one for one in process["env"] if one.partition("=")[0] != name]
        process["env"].append(entry)
    for node in edits.get("deviceNodes") or ():
        _add_node(linux, node)
    for mount in edits.get("mounts") or ():
        options = list(mount.get("options") or ["rbind", "ro"])
        document["mounts"].append(
            {
                "destination": mount["containerPath"],
                "type": mount.get("type") or "bind",
                "source": mount["hostPath"],
                "options": options,
            }
        )
    for hook in edits.get("hooks") or ():
        name = _HOOKS.get(hook.get("hookName", ""))
        if name is None:
            raise InvalidArgument(f"CDI hook {hook.get('hookName')!r}: unknown")
        made = {key: hook[key] for key in ("path", "args", "env", "timeout") if key in hook}
        document.setdefault("hooks", {}).setdefault(name, []).append(made)
    groups = process["user"].setdefault("additionalGids", [])
    groups += [gid for gid in edits.get("additionalGids") or () if gid not in groups]


def _add_node(linux: dict[str, Any], node: Mapping[str, Any]) -> None:
    source = node.get("hostPath") or node["path"]
    try:
        found = Path(source).stat()
    except OSError as error:
        raise from_os_error(f"CDI device node {source!r}", error) from error
    kind = node.get("type") or ("b" if stat.S_ISBLK(found.st_mode) else "c")
    major = node.get("major", os.major(found.st_rdev))
    minor = node.get("minor", os.minor(found.st_rdev))
    linux["devices"].append(
        {
            "path": node["path"],
            "type": kind,
            "major": major,
            "minor": minor,
            "fileMode": node.get("fileMode", stat.S_IMODE(found.st_mode)),
            "uid": node.get("uid", found.st_uid),
            "gid": node.get("gid", found.st_gid),
        }
    )
    allowed = {"allow": True, "type": kind, "major": major, "minor": minor}
    linux["resources"]["devices"].append({**allowed, "access": node.get("permissions", "rw")})


def _parsed(path: Path) -> Any:
    """A file's document. OSError, ValueError."""
    text = path.read_bytes()
    if path.suffix == ".json":
        return json.loads(text)
    import yaml  # few have any

    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
