"""Seccomp profiles that users bring: docker's JSON, with conditions, or the runtime spec's."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from cored.errors import InvalidArgument
from cored.oci.seccomp import ARCHITECTURES

__all__ = ["adapted"]

_KEPT = ("names", "action", "errnoRet", "args")


def adapted(
    text: str, capabilities: Collection[str], architecture: str, kernel: tuple[int, int]
) -> dict[str, Any]:
    """``linux.seccomp`` from a profile, its conditions settled. InvalidArgument."""
    document = _parsed(text)
    found: dict[str, Any] = {
        key: document[key]
        for key in ("defaultAction", "defaultErrnoRet", "flags")
        if key in document
    }
    rules = []
    for rule in document.get("syscalls") or []:
        if "name" in rule and not rule.get("names"):  # docker's older form
            rule = {**rule, "names": [rule["name"]]}
        if _applies(rule, capabilities, architecture, kernel):
            rules.append({key: rule[key] for key in _KEPT if rule.get(key) is not None})
    found["syscalls"] = rules
    found["architectures"] = document.get("architectures") or _architectures(document, architecture)
    if not found["architectures"]:
        del found["architectures"]
    return found


def _parsed(text: str) -> dict[str, Any]:
    try:
        document: Any = json.loads(text)
    except ValueError as error:
        raise InvalidArgument(f"seccomp profile: is not JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("defaultAction"), str):
        raise InvalidArgument("seccomp profile: has no defaultAction")
    rules = document.get("syscalls") or []
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        raise InvalidArgument("seccomp profile: syscalls is not a list of rules")
    return document


def _applies(
    rule: Mapping[str, Any],
    capabilities: Collection[str],
    architecture: str,
    kernel: tuple[int, int],
) -> bool:
    wants, spares = rule.get("includes") or {}, rule.get("excludes") or {}
    return (
        set(wants.get("caps") or ()) <= set(capabilities)
        and not set(spares.get("caps") or ()) & set(capabilities)
        and (not wants.get("arches") or architecture in wants["arches"])
        and architecture not in (spares.get("arches") or ())
        and kernel >= _version(wants.get("minKernel"), (0, 0))
        and kernel < _version(spares.get("minKernel"), (1 << 30, 0))
    )


def _version(text: str | None, otherwise: tuple[int, int]) -> tuple[int, int]:
    if not text:
        return otherwise
    major, _, minor = text.partition(".")
    if not (major.isdecimal() and minor.isdecimal()):
        raise InvalidArgument(f"seccomp profile: minKernel {text!r} is no version")
    return int(major), int(minor)


def _architectures(document: Mapping[str, Any], architecture: str) -> list[str]:
    native = ARCHITECTURES.get(architecture, [""])[0]
    for entry in document.get("archMap") or []:
        if entry.get("architecture") == native:
            return [native, *(entry.get("subArchitectures") or [])]
    return []
