"""Devices that a container has, and which it may use (runtime-spec, linux.devices)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cored.errors import InvalidArgument

__all__ = ["Device", "document", "permissions", "rules"]

# null zero full random urandom tty console ptmx, and the pseudo terminals
_ALWAYS = ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, None))
_RULE = re.compile(r"([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})")


@dataclass(frozen=True, slots=True)
class Device:
    """One device node; ``kind`` is c or b, ``mode`` its permission bits."""

    path: str
    kind: str
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0
    permissions: str = "rwm"


def document(device: Device) -> dict[str, Any]:
    """An entry of ``linux.devices``."""
    return {
        "path": device.path,
        "type": device.kind,
        "major": device.major,
        "minor": device.minor,
        "fileMode": device.mode,
        "uid": device.uid,
        "gid": device.gid,
    }


def rules(
    devices: Sequence[Device], more: Sequence[str] = (), *, everything: bool = False
) -> list[dict[str, Any]]:
    """``linux.resources.devices``: nothing but the usual ones, these, and what ``more`` says.

    ``more`` is in cgroup v1's words: ``c 10:229 rwm``. InvalidArgument.
    """
    if everything:
        return [{"allow": True, "access": "rwm"}]
    found: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    for major, minor in _ALWAYS:
        rule: dict[str, Any] = {"allow": True, "type": "c", "major": major, "access": "rwm"}
        found.append(rule if minor is None else {**rule, "minor": minor})
    # mknod of anything, use of none but these
    found += [{"allow": True, "type": kind, "access": "m"} for kind in "cb"]
    for device in devices:
        found.append(
            {
                "allow": True,
                "type": device.kind,
                "major": device.major,
                "minor": device.minor,
                "access": device.permissions,
            }
        )
    return found + [_rule(text) for text in more]


def permissions(text: str) -> str:
    """Of r, w, m; '' is all. InvalidArgument."""
    if not re.fullmatch(r"[rwm]{0,3}", text) or len(set(text)) != len(text):
        raise InvalidArgument(f"device permissions {text!r}: not understood", hint="of r, w and m")
    return text or "rwm"


def _rule(text: str) -> dict[str, Any]:
    found = _RULE.fullmatch(text.strip())
    if found is None:
        raise InvalidArgument(f"device rule {text!r}: not understood", hint="write 'c 10:229 rwm'")
    rule: dict[str, Any] = {"allow": True, "type": found[1], "access": permissions(found[4])}
    for name, number in (("major", found[2]), ("minor", found[3])):
        if number != "*":
            rule[name] = int(number)
    return rule
