"""Plugins as executables, the way the specification has them (section 2)."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cored.abc.network import NetworkList
from cored.cni.calls import Call, failure
from cored.cni.lists import VERSIONS
from cored.errors import CoredError, DeadlineExceeded, Internal, InvalidArgument
from cored.threads import finished

__all__ = ["PATHS", "Executables"]

PATHS = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")


class Executables:
    """The plugins in ``paths``; one that takes longer than ``timeout`` seconds is killed."""

    def __init__(self, paths: Sequence[str] = PATHS, timeout: float = 60.0) -> None:
        self._paths = tuple(paths)
        self._timeout = timeout
        self._versions: dict[tuple[str, int], Sequence[str]] = {}
        self._prepared: dict[str, asyncio.Lock | None] = {}

    @classmethod
    def configured(cls, settings: Mapping[str, Any]) -> Executables:
        """From a plugin's table: ``paths`` and ``timeout_seconds``. InvalidArgument."""
        paths, timeout = settings.get("paths", PATHS), settings.get("timeout_seconds", 60)
        if not all(isinstance(path, str) and path.startswith("/") for path in paths):
            raise InvalidArgument(f"network setting paths: {paths!r}: not absolute paths")
        if not isinstance(timeout, int | float) or timeout <= 0:
            raise InvalidArgument(f"network setting timeout_seconds: {timeout!r}: not seconds")
        return cls(paths, timeout)

    async def call(self, type: str, call: Call) -> Mapping[str, Any] | None:
        """Run one plugin. InvalidArgument when there is none, DeadlineExceeded, its own errors."""
        first = self._prepared.setdefault(type, asyncio.Lock()) if call.command == "ADD" else None
        if first is None:
            return await self._in_thread(type, call)
        # the first one makes the chains that all share, and Debian's firewall fails when two do
        async with first:
            result = await self._in_thread(type, call)
            self._prepared[type] = None
        return result

    async def _in_thread(self, type: str, call: Call) -> Mapping[str, Any] | None:
        # not asyncio's subprocesses: with uvloop children inherit what they should not
        # to the end: who is cut off undoes what it has done, and not while it does it
        return await finished(self.run, type, call)

    async def versions(self, type: str) -> Sequence[str]:
        """The versions that a plugin speaks; asked once for each file."""
        path = self._find(type, "")
        key = (path, Path(path).stat().st_mtime_ns)
        if key not in self._versions:
            call = Call("VERSION", config={"cniVersion": VERSIONS[-1]})
            answer = await self.call(type, call) or {}
            self._versions[key] = tuple(answer.get("supportedVersions") or VERSIONS[:1])
        return self._versions[key]

    async def vacate(self, network: NetworkList) -> None:
        """Nothing: CNI has no word for it, and bridges may be others', too."""

    def run(self, type: str, call: Call) -> Mapping[str, Any] | None:
        """Run one plugin to its end; blocks."""
        path = self._find(type, call.network)
        subject = f"network {call.network!r}: plugin {type}"
        try:
            done = subprocess.run(
                [path],
                input=json.dumps(call.config).encode(),
                capture_output=True,
                env=self._environment(call),
                timeout=self._timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DeadlineExceeded(
                f"{subject}: {call.command} took longer than {self._timeout:.0f} s, killed"
            ) from error
        except OSError as error:
            raise Internal(f"{subject}: {path} cannot be run: {error.strerror}") from error
        if done.returncode != 0:
            raise _failed(subject, type, call, done)
        if not done.stdout.strip():
            return None
        return _decoded(done.stdout, subject)

    def _find(self, type: str, network: str) -> str:
        for directory in self._paths:
            path = f"{directory}/{type}"
            if os.access(path, os.X_OK) and not Path(path).is_dir():
                return path
        raise InvalidArgument(
            f"network {network!r}: plugin {type}: not found in {':'.join(self._paths)}",
            hint="apt-get install containernetworking-plugins",
        )

    def _environment(self, call: Call) -> dict[str, str]:
        # plugins run iptables, modprobe and the like; nothing else of ours is their business
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "CNI_COMMAND": call.command,
            "CNI_PATH": ":".join(self._paths),
        }
        if call.container_id:
            environment |= {
                "CNI_CONTAINERID": call.container_id,
                "CNI_NETNS": call.netns,
                "CNI_IFNAME": call.ifname,
                "CNI_ARGS": ";".join(f"{key}={value}" for key, value in call.args.items()),
            }
        return environment


def _failed(
    subject: str, type: str, call: Call, done: subprocess.CompletedProcess[bytes]
) -> CoredError:
    """What a plugin says of its failure: an error object, or whatever it has printed."""
    try:
        table = json.loads(done.stdout)
    except ValueError:
        table = None
    if isinstance(table, dict):
        return failure(call.network, type, table)
    said = (done.stderr or done.stdout).decode(errors="replace").strip()
    return Internal(f"{subject}: exit status {done.returncode}: {said[-1000:] or 'no message'}")


def _decoded(data: bytes, subject: str) -> Mapping[str, Any]:
    try:
        table = json.loads(data)
    except ValueError as error:
        raise Internal(f"{subject}: its result is not JSON: {error}") from error
    if not isinstance(table, dict):
        raise Internal(f"{subject}: its result is not a JSON object")
    return table
