"""The OCI runtime's command line: runc's, which crun, runsc and others share."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Mapping
from typing import Any

from coreshim.reaper import Ended, Reaper
from coreshim.server import UNKNOWN, Failure

__all__ = ["OciRuntime", "console_socket"]

_DEFAULT_ROOT = "/run/cored-shim/runtime"


class OciRuntime:
    """One container's runtime; every call is a child process, awaited on the loop."""

    def __init__(
        self, reaper: Reaper, bundle: str, id: str, namespace: str, options: Mapping[str, Any]
    ) -> None:
        chosen = _chosen(bundle)
        self._reaper = reaper
        self._bundle = bundle
        self._id = id
        self._options = options
        self._log = os.path.join(bundle, "log.json")
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self.binary = options["binary_name"] or chosen.get("binary") or _found()
        root = options["root"] or chosen.get("root") or _DEFAULT_ROOT
        if options["root"] or not chosen.get("root"):
            root = os.path.join(root, namespace)
        self.root = root
        self.state = os.path.join(root, id)
        # the runtime's insides are known and nothing but itself wants to hear of its steps
        self.fast = bool(chosen.get("fast")) and not _has_hooks(bundle)

    async def create(self, files: Mapping[int, int], pid_file: str, console: str) -> None:
        """``create``: the container's init, stopped before its program, with ``files`` as stdio."""
        arguments = ["create", "--bundle", self._bundle, "--pid-file", pid_file]
        if console:
            arguments += ["--console-socket", console]
        if self._options["no_pivot_root"]:
            arguments.append("--no-pivot")
        if self._options["no_new_keyring"]:
            arguments.append("--no-new-keyring")
        await self._run(arguments, files)

    async def exec(
        self, files: Mapping[int, int], process: str, pid_file: str, console: str
    ) -> None:
        """``exec``: one more process, from a file with its OCI ``process``."""
        arguments = ["exec", "--process", process, "--detach", "--pid-file", pid_file]
        if console:
            arguments += ["--console-socket", console]
        await self._run(arguments, files)

    async def simple(self, verb: str, *arguments: str) -> None:
        """``start``, ``pause``, ``resume``, ``delete``, … of this container."""
        await self._run([verb, *arguments], {})

    async def update(self, resources: bytes) -> None:
        """``update`` with OCI ``linux.resources`` as JSON."""
        with tempfile.TemporaryFile() as file:
            file.write(resources)
            file.seek(0)
            await self._run(["update", "--resources", "-"], {0: file.fileno()})

    async def kill_all(self, signal: int) -> None:
        """Signal every process of the container."""
        await self._run(["kill", "--all"], {}, str(signal))

    async def pids(self) -> list[int]:
        """All pids of the container, as the host sees them."""
        with tempfile.TemporaryFile() as file:
            await self._run(["ps", "--format", "json"], {1: file.fileno()})
            file.seek(0)
            found = json.loads(file.read() or b"[]")
        return [int(pid) for pid in found or []]

    async def _run(self, arguments: list[str], files: Mapping[int, int], *after: str) -> None:
        with open(self._log, "w"):
            pass  # each call's messages alone
        command = [self.binary, "--root", self.root, "--log", self._log, "--log-format", "json"]
        if self._options["systemd_cgroup"]:
            command.append("--systemd-cgroup")
        streams = {0: self._null, 1: self._null, 2: self._null, **files}
        try:
            pid = self._reaper.spawn([*command, *arguments, self._id, *after], streams)
        except OSError as error:
            raise Failure(
                UNKNOWN, f"OCI runtime {self.binary}: cannot be run: {error.strerror}"
            ) from error
        ended: Ended = await self._reaper.ended(pid)
        if ended.status != 0:
            raise Failure(UNKNOWN, f"OCI runtime {arguments[0]} failed: {self._message(ended)}")

    def _message(self, ended: Ended) -> str:
        """The last error that the runtime has logged."""
        found = f"exit status {ended.status}"
        with open(self._log, errors="replace") as file:
            for line in file:
                try:
                    entry = json.loads(line)
                except ValueError:
                    found = line.strip() or found
                    continue
                if entry.get("level") in ("error", "fatal"):
                    found = str(entry.get("msg", found)).strip()
        return found.replace("\n", " ")


def console_socket() -> tuple[socket.socket, str, str]:
    """A listening socket for ``--console-socket``, its path, and the directory to remove."""
    place = tempfile.mkdtemp(prefix="cored-console-")
    path = os.path.join(place, "s")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(1)
    listener.setblocking(False)
    return listener, path, place


def _has_hooks(bundle: str) -> bool:
    """Whether config.json may have hooks. Read as text: its objects would stay in memory."""
    with open(os.path.join(bundle, "config.json"), "rb") as file:
        return b'"hooks"' in file.read()


def _chosen(bundle: str) -> dict[str, Any]:
    """The manager's choice, in the bundle's file ``runtime``."""
    try:
        with open(os.path.join(bundle, "runtime")) as file:
            return dict(json.load(file))
    except FileNotFoundError:
        return {}


def _found() -> str:
    for directory in os.environ.get("PATH", os.defpath).split(os.pathsep):
        for name in ("runc", "crun"):
            path = os.path.join(directory, name)
            if os.access(path, os.X_OK):
                return path
    return "runc"
