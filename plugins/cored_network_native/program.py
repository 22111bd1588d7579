"""``cored-cni``: the native plugins as CNI executables, for other runtimes.

Called as ``bridge`` (a link to it), it is the plugin bridge; ``cored-cni install DIR`` makes the
links. CNI specification, section 2.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cored.cni.calls import Call
from cored.cni.executables import Executables
from cored.cni.lists import VERSIONS
from cored.errors import (
    CoredError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
    from_os_error,
)

__all__ = ["main"]

_CODES: Sequence[tuple[type[CoredError], int]] = (
    (InvalidArgument, 7),
    (NotFound, 3),
    (Unavailable, 11),
    (FailedPrecondition, 50),
)
_USAGE = """usage: cored-cni install DIRECTORY
   or, as a CNI plugin, under one of its names ({names}), with CNI_COMMAND in the environment"""


def main() -> int:
    """The exit status: 0, 1 for a plugin's error (which is on standard output), 2 for bad usage."""
    name = Path(sys.argv[0]).name
    if name == "cored-cni" or "CNI_COMMAND" not in os.environ:
        return _install(sys.argv[1:])
    from cored_network_native.caller import KINDS
    from cored_network_native.hostlocal import HostLocalKind

    kind = {**KINDS, "host-local": HostLocalKind()}.get(name)
    version = VERSIONS[-1]
    try:
        if kind is None:
            raise InvalidArgument(f"plugin {name!r}: none of ours")
        config = _config()
        version = str(config.get("cniVersion") or "0.1.0")
        if os.environ["CNI_COMMAND"] == "VERSION":
            answer: Mapping[str, Any] | None = {
                "cniVersion": version,
                "supportedVersions": list(VERSIONS),
            }
        else:
            answer = _run(name, kind, version, config)
    except CoredError as error:
        code = next((number for cls, number in _CODES if isinstance(error, cls)), 999)
        _print({"cniVersion": version, "code": code, "msg": str(error)})
        return 1
    if answer is not None:
        _print(answer)
    return 0


def _run(name: str, kind: Any, version: str, config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    from cored_network_native.caller import perform
    from cored_network_native.kinds import Host
    from cored_network_native.netlink import Netlink
    from cored_network_native.rules import Rules

    if version not in VERSIONS:
        raise InvalidArgument(f"CNI version {version!r}: not spoken here")
    others = [path for path in os.environ.get("CNI_PATH", "").split(":") if path]
    executables = Executables(others or ("/opt/cni/bin",))
    pairs = [pair.partition("=") for pair in os.environ.get("CNI_ARGS", "").split(";") if pair]
    call = Call(
        os.environ["CNI_COMMAND"],
        os.environ.get("CNI_CONTAINERID", ""),
        os.environ.get("CNI_NETNS", ""),
        os.environ.get("CNI_IFNAME", ""),
        {key: value for key, _, value in pairs},
        {**config, "cniVersion": version},
    )
    if not kind.takes(config):
        known = ", ".join(sorted(kind.keys))
        raise InvalidArgument(f"plugin {name}: a setting that it does not know", hint=known)
    rules = Rules()
    try:
        with Netlink() as netlink:
            return perform(kind, Host(netlink, rules, executables.run), call)
    finally:
        rules.close()


def _config() -> Mapping[str, Any]:
    try:
        table = json.load(sys.stdin)
    except ValueError as error:
        raise InvalidArgument(f"configuration on standard input: not JSON: {error}") from error
    if not isinstance(table, dict):
        raise InvalidArgument("configuration on standard input: not a JSON object")
    return table


def _print(table: Mapping[str, Any]) -> None:
    json.dump(table, sys.stdout)
    sys.stdout.write("\n")


def _install(arguments: Sequence[str]) -> int:
    from cored_network_native.caller import KINDS

    names = sorted([*KINDS, "host-local"])
    if len(arguments) != 2 or arguments[0] != "install":
        print(_USAGE.format(names=", ".join(names)), file=sys.stderr)
        return 2
    directory, program = Path(arguments[1]), Path(sys.argv[0]).resolve()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name in names:
            link = directory / name
            if link.is_symlink():
                link.unlink()
            link.symlink_to(program)
    except OSError as error:
        print(f"cored-cni: {from_os_error(str(directory), error)}", file=sys.stderr)
        return 1
    print(f"{directory}: {', '.join(names)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
