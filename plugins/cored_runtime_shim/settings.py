"""The table ``[plugins.runtime.shim]``: the OCI runtimes and shims that containers may ask for."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any

from cored.dataclass import dataclass
from cored.errors import InvalidArgument

__all__ = ["KINDS", "RuntimeSettings", "Settings", "runsc_settings", "settings"]

_TABLE = "plugins.runtime.shim"
KINDS = ("runc", "crun", "youki", "runsc")
# a shim's own short delays must be over by then
_SHORTEST = 0.05
_IDLE = 2.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_WORDS = {str: "a string", bool: "true or false", tuple: "a list of strings"}


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """``[plugins.runtime.shim.runtimes.NAME]``.

    Either an OCI runtime: ``path`` (an absolute path, or a name to be found on PATH; NAME if
    empty), the ``root`` of its state, ``options`` that every call of it begins with,
    ``systemd_cgroup``, and whose command line it has (``kind``, one of :data:`KINDS`; told by the
    program's name if empty). Or a containerd ``shim``, by path or name.
    """

    path: str = ""
    shim: str = ""
    root: str = ""
    options: tuple[str, ...] = ()
    systemd_cgroup: bool = False
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole table. ``runtime`` is the one to use where nobody asks for another.

    ``idle`` is after how many seconds with nothing to do a shim goes to sleep.
    """

    runtime: str = ""
    runtimes: Mapping[str, RuntimeSettings] = field(default_factory=dict)
    idle: float = _IDLE


def settings(table: Mapping[str, Any]) -> Settings:
    """The checked table. InvalidArgument names the key that is wrong."""
    _known(_TABLE, table, Settings)
    runtime = _value(_TABLE, "runtime", table.get("runtime", ""), str)
    tables = table.get("runtimes", {})
    if not isinstance(tables, Mapping):
        raise InvalidArgument(f"config: {_TABLE}.runtimes must be a table of tables")
    idle = table.get("idle", _IDLE)
    if type(idle) not in (int, float) or not idle >= _SHORTEST:
        raise InvalidArgument(
            f"config: {_TABLE}.idle must be a number of seconds, {_SHORTEST} at least, not {idle!r}"
        )
    inner = {name: _runtime(name, table) for name, table in tables.items()}
    return Settings(runtime, inner, float(idle))


def _runtime(name: str, table: object) -> RuntimeSettings:
    where = f"{_TABLE}.runtimes.{name}"
    if not _NAME.fullmatch(name):
        raise InvalidArgument(f"config: {where}: {name!r} is no name for a runtime")
    if not isinstance(table, Mapping):
        raise InvalidArgument(f"config: {where} must be a table")
    _known(where, table, RuntimeSettings)
    values = {
        one.name: _value(where, one.name, table[one.name], type(one.default))
        for one in fields(RuntimeSettings)
        if one.name in table
    }
    made = RuntimeSettings(**values)
    if made.shim and made != RuntimeSettings(shim=made.shim):
        raise InvalidArgument(
            f"config: {where}: has a shim, and settings of an OCI runtime",
            hint="a containerd shim finds its runtime by itself: keep one of both",
        )
    if made.kind and made.kind not in KINDS:
        raise InvalidArgument(
            f"config: {where}.kind {made.kind!r}: unknown", hint=f"one of {', '.join(KINDS)}"
        )
    if made.root and not made.root.startswith("/"):
        raise InvalidArgument(f"config: {where}.root {made.root!r}: must be an absolute path")
    return made


def runsc_settings(text: bytes, source: str) -> RuntimeSettings:
    """What a configuration of containerd's shim for gVisor (``runsc.toml``) asks of runsc."""
    try:
        table = tomllib.loads(text.decode())
    except (ValueError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"runtime options: {source}: {error}") from error
    flags = table.get("runsc_config", {})
    if not isinstance(flags, Mapping):
        raise InvalidArgument(f"runtime options: {source}: runsc_config must be a table")
    return RuntimeSettings(
        path=str(table.get("binary_name", "")),
        root=str(table.get("root", "")),
        options=tuple(f"--{name}={value}" for name, value in flags.items()),
        kind="runsc",
    )


def _known(where: str, table: Mapping[str, Any], cls: type[Any]) -> None:
    names = [one.name for one in fields(cls)]
    for key in table:
        if key not in names:
            raise InvalidArgument(
                f"config: unknown key {f'{where}.{key}'!r}", hint=f"known here: {', '.join(names)}"
            )


def _value(where: str, key: str, value: Any, kind: type[Any]) -> Any:
    """``value``, which must be of a type; lists become tuples."""
    if kind is tuple and isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(value)
    if kind is tuple or type(value) is not kind:
        raise InvalidArgument(f"config: {where}.{key} must be {_WORDS[kind]}, not {value!r}")
    return value
