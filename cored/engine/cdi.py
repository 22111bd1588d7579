"""Devices of the Container Device Interface (CDI 0.8): what vendors' files say they need."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cored import log
from cored.errors import NotFound

__all__ = ["DIRECTORIES", "Edits", "found"]

DIRECTORIES = (Path("/etc/cdi"), Path("/var/run/cdi"))
"""Where the files are; a later one's devices go over an earlier one's."""

_KINDS = {"c": stat.S_ISCHR, "u": stat.S_ISCHR, "b": stat.S_ISBLK}


@dataclass(frozen=True, slots=True)
class Edits:
    """``containerEdits`` of one device, or of all devices of a file."""

    document: dict[str, Any]

    def apply(self, spec: dict[str, Any]) -> None:
        """Change an OCI spec as they say."""
        process, linux = spec["process"], spec["linux"]
        added = [str(entry) for entry in self.document.get("env") or ()]
        names = {entry.partition("=")[0] for entry in added}
        kept = [entry for entry in process["env"] if entry.partition("=")[0] not in names]
        process["env"] = [*kept, *added]
        for node in self.document.get("deviceNodes") or ():
            device = _device(node)
            others = [one for one in linux["devices"] if one["path"] != device["path"]]
            linux["devices"] = [*others, device]
            linux["resources"]["devices"].append(
                {
                    "allow": True,
                    "type": device["type"],
                    "major": device["major"],
                    "minor": device["minor"],
                    "access": node.get("permissions") or "rwm",
                }
            )
        for mount in self.document.get("mounts") or ():
            spec["mounts"].append(
                {
                    "destination": mount["containerPath"],
                    "source": mount["hostPath"],
                    "type": mount.get("type") or "bind",
                    "options": list(mount.get("options") or ("rbind", "ro")),
                }
            )
        for hook in self.document.get("hooks") or ():
            entry = {key: hook[key] for key in ("path", "args", "env", "timeout") if key in hook}
            spec.setdefault("hooks", {}).setdefault(hook["hookName"], []).append(entry)
        groups = process["user"].setdefault("additionalGids", [])
        groups += [g for g in self.document.get("additionalGids") or () if g not in groups]


def found(names: Sequence[str], directories: Sequence[Path] = DIRECTORIES) -> list[Edits]:
    """The edits for ``vendor/class=device`` names, a file's own before its devices'. NotFound."""
    if not names:
        return []
    known: dict[str, tuple[str, Edits]] = {}
    shared: dict[str, Edits] = {}
    for path, document in _files(directories):
        kind, origin = document.get("kind", ""), str(path)
        shared[origin] = Edits(document.get("containerEdits") or {})
        for device in document.get("devices") or ():
            known[f"{kind}={device.get('name')}"] = (
                origin,
                Edits(device.get("containerEdits") or {}),
            )
    result: list[Edits] = []
    seen: set[str] = set()
    for name in names:
        if name not in known:
            there = ", ".join(sorted(known)) or "nothing"
            raise NotFound(f"CDI device {name!r}: not found", hint=f"there is {there}")
        origin, edits = known[name]
        if origin not in seen:
            seen.add(origin)
            result.append(shared[origin])
        result.append(edits)
    return result


def _files(directories: Sequence[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    for directory in directories:
        if not directory.is_dir():
            continue
        for path in sorted(directory.iterdir()):
            if path.suffix in (".yaml", ".yml"):
                log.get("cdi").warning("only JSON is read", path=str(path))
            if path.suffix != ".json":
                continue
            try:
                document = json.loads(path.read_text())
            except ValueError as error:
                log.get("cdi").warning("is not JSON", path=str(path), error=str(error))
                continue
            if isinstance(document, dict):
                yield path, document


def _device(node: dict[str, Any]) -> dict[str, Any]:
    """A node as the runtime spec has it; what the file does not say is looked up on the host."""
    path = node["path"]
    kind, major, minor = node.get("type"), node.get("major"), node.get("minor")
    if not kind or major is None or minor is None:
        try:
            there = Path(node.get("hostPath") or path).stat()
        except OSError as error:
            raise NotFound(f"CDI device node {path!r}: not on this host") from error
        kind = kind or next((k for k, is_one in _KINDS.items() if is_one(there.st_mode)), "c")
        major, minor = os.major(there.st_rdev), os.minor(there.st_rdev)
    device = {"path": path, "type": kind, "major": major, "minor": minor}
    for key in ("fileMode", "uid", "gid"):
        if key in node:
            device[key] = node[key]
    return device
