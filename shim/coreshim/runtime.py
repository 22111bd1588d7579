"""The OCI runtime's command line: runc's, which crun, runsc and others share."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from coreshim import standin
from coreshim.placement import give, join_cgroup
from coreshim.process import parent
from coreshim.reaper import Ended, Reaper
from coreshim.server import UNIMPLEMENTED, UNKNOWN, Failure

__all__ = ["OciRuntime", "chosen", "command", "found"]

_DEFAULT_ROOT = "/run/cored-shim/runtime"


class OciRuntime:
    """One container's runtime; every call is a child process, awaited on the loop."""

    def __init__(
        self, reaper: Reaper, bundle: str, id: str, namespace: str, options: Mapping[str, Any]
    ) -> None:
        self._reaper = reaper
        self._bundle = bundle
        self._id = id
        self.options = options
        self._calls = 0
        choice = chosen(bundle, namespace, options["binary_name"], options["root"])
        self.binary: str = choice["binary"]
        self.state = os.path.join(choice["root"], id)
        self._command = command({**choice, "systemd_cgroup": (
            options["systemd_cgroup"] or choice.get("systemd_cgroup", False)
        )})  # fmt: skip
        self.kind: str = choice.get("kind", _kind(self.binary))
        # gVisor's, whose processes are not the host's
        self._sandboxed = self.kind == "runsc"
        # the runtime's insides are known and nothing but itself wants to hear of its steps
        self.fast = bool(choice.get("fast")) and _plain(bundle)
        # it is over before it is worth collecting garbage; hooks would inherit this, but has none
        lean = self.fast and self.kind == "runc"
        self._environment = {**os.environ, "GOGC": "off"} if lean else None

    async def create(self, files: Mapping[int, int], pid_file: str, console: str) -> int:
        """``create``: the container's init, stopped before its program, with ``files`` as stdio.

        The child to wait for where that is not init itself, else 0.
        """
        if self.options["shim_cgroup"]:
            join_cgroup(self.options["shim_cgroup"], (os.getppid(), os.getpid()))
        self._give(files)
        arguments = ["create", "--bundle", self._bundle, "--pid-file", pid_file]
        if console:
            arguments += ["--console-socket", console]
        if not self._sandboxed:  # which has neither, nor a use for it
            arguments += ["--no-pivot"] * self.options["no_pivot_root"]
            arguments += ["--no-new-keyring"] * self.options["no_new_keyring"]
        await self._run(arguments, files)
        with open(pid_file) as file:
            if self._sandboxed and parent(int(file.read())) != os.getpid():
                wait = [*self._command, "wait", self._id]
                return standin.begin(self._reaper, self._bundle, files, wait)
        return 0

    async def start(self, stand_in: int) -> None:
        """``start``: init's program; ``stand_in`` is the pid of what stands for it, 0 if none."""
        if not stand_in:
            await self.simple("start")
            return
        with standin.streams(stand_in) as files:
            await self._run(["start"], files)
        standin.go(self._bundle)

    async def exec(
        self, files: Mapping[int, int], process: str, pid_file: str, console: str
    ) -> None:
        """``exec``: one more process, from a file with its OCI ``process``."""
        self._give(files)
        arguments = ["exec", "--process", process, "--detach", "--pid-file", pid_file]
        if self._sandboxed:
            arguments += ["--internal-pid-file", _inner(pid_file)]
        if console:
            arguments += ["--console-socket", console]
        await self._run(arguments, files)

    async def checkpoint(self, image: str, options: Mapping[str, Any]) -> None:
        """``checkpoint`` into the directory ``image``; options are CheckpointOptions."""
        arguments = ["checkpoint", "--image-path", image]
        if options["work_path"]:
            arguments += ["--work-path", options["work_path"]]
        for name, wanted in (
            ("leave-running", not options["exit"]),
            ("tcp-established", options["open_tcp"]),
            ("ext-unix-sk", options["external_unix_sockets"]),
            ("shell-job", options["terminal"]),
            ("file-locks", options["file_locks"]),
        ):
            if wanted:
                arguments.append(f"--{name}")
        for namespace in options["empty_namespaces"]:
            arguments += ["--empty-ns", namespace]
        await self._run(arguments, {})

    async def restore(
        self, files: Mapping[int, int], pid_file: str, console: str, image: str
    ) -> None:
        """``restore``: a running container from the checkpoint in the directory ``image``."""
        self._give(files)
        arguments = ["restore", "--bundle", self._bundle, "--detach", "--pid-file", pid_file]
        arguments += ["--image-path", image]
        work = self.options["criu_work_path"] or os.path.join(self._bundle, "criu")
        os.makedirs(work, mode=0o700, exist_ok=True)
        arguments += ["--work-path", work]
        if console:
            arguments += ["--console-socket", console]
        await self._run(arguments, files)

    async def simple(self, verb: str, *arguments: str) -> None:
        """``pause``, ``resume``, ``delete``, … of this container."""
        await self._run([verb, *arguments], {})

    async def delete(self) -> None:
        """``delete`` of a container that has ended, by force where that is refused."""
        try:
            await self.simple("delete")
        except Failure:
            await self.simple("delete", "--force")

    async def undo(self) -> None:
        """``delete`` of whatever there is after a create that failed."""
        try:
            await self.simple("delete", "--force")
        except Failure as failure:
            # most often: there never was one
            print(f"undoing create: {failure}", file=sys.stderr)

    async def update(self, resources: bytes) -> None:
        """``update`` with OCI ``linux.resources`` as JSON."""
        if self._sandboxed:
            raise Failure(UNIMPLEMENTED, f"OCI runtime {self.binary}: has no update of limits")
        with open(os.memfd_create("resources"), "r+b") as file:
            file.write(resources)
            file.seek(0)
            await self._run(["update", "--resources", "-"], {0: file.fileno()})

    async def signal(
        self, number: int, kill: Callable[[int], None], pid_file: str, *, started: bool
    ) -> None:
        """Signal one process: init, or the exec of a pid file, by ``kill`` where it is the host's.

        ProcessLookupError.
        """
        if not self._sandboxed or not started:
            kill(number)
            return
        # the host's process only stands for the one in the sandbox
        inner = _inner(pid_file)
        which = []
        if os.path.exists(inner):
            with open(inner) as file:
                which = ["--pid", file.read().strip()]
        await self._run(["kill", *which], {}, str(number))

    def forget(self, pid_file: str) -> None:
        """The exec of this pid file has been deleted."""
        if self._sandboxed:
            with suppress(FileNotFoundError):
                os.unlink(_inner(pid_file))

    async def kill_all(self, signal: int) -> None:
        """Signal every process of the container."""
        # in a sandbox that others share runsc takes theirs for its own; delete ends what is left
        everything = [] if standin.there(self._bundle) else ["--all"]
        await self._run(["kill", *everything], {}, str(signal))

    async def pids(self) -> list[int]:
        """All pids of the container, as the host sees them."""
        with open(os.memfd_create("pids"), "r+b") as file:
            await self._run(["ps", "--format", "json"], {1: file.fileno()})
            file.seek(0)
            found = json.loads(file.read() or b"[]")
        return [int(pid) for pid in found or []]

    def _give(self, files: Mapping[int, int]) -> None:
        give(files.values(), self.options["io_uid"], self.options["io_gid"])

    async def _run(self, arguments: list[str], files: Mapping[int, int], *after: str) -> None:
        # a log for each call: several may be under way
        self._calls += 1
        name = "log.json" if arguments[0] == "create" else f"log-{self._calls}.json"
        log = os.path.join(self._bundle, name)
        command = [*self._command, "--log", log, "--log-format", "json"]
        # ours are /dev/null, and shim.log for both others
        streams = {0: 0, 1: 1, 2: 2, **files}
        try:
            pid = self._reaper.spawn(
                [*command, *arguments, self._id, *after], streams, self._environment
            )
            ended: Ended = await self._reaper.ended(pid)
            if ended.status != 0:
                text = _message(log) or f"exit status {ended.status}"
                raise Failure(UNKNOWN, f"OCI runtime {arguments[0]} failed: {text}")
        except OSError as error:
            raise Failure(
                UNKNOWN, f"OCI runtime {self.binary}: cannot be run: {error.strerror}"
            ) from error
        finally:
            with suppress(FileNotFoundError):
                os.unlink(log)


def _message(log: str) -> str:
    """The last error that the runtime has logged; '' if none."""
    last = ""
    try:
        with open(log, errors="replace") as file:
            lines = file.readlines()
    except FileNotFoundError:
        return ""
    for line in lines:
        try:
            # runsc ends its entries without a new line
            entry = json.loads(f"[{line.replace('}{', '},{')}]")[-1]
        except (ValueError, IndexError):
            last = line.strip() or last
            continue
        if entry.get("level") in ("error", "fatal"):
            last = str(entry.get("msg", last)).strip()
    return last.replace("\n", " ")


def _plain(bundle: str) -> bool:
    """Whether config.json has none of the things that make start and delete do more.

    Hooks, a class of caches, and crun's annotations. Read as text: its objects would stay in
    memory.
    """
    with open(os.path.join(bundle, "config.json"), "rb") as file:
        text = file.read()
    return not any(word in text for word in (b'"hooks"', b'"intelRdt"', b'"run.oci.'))


def chosen(bundle: str, namespace: str, binary: str, root: str) -> dict[str, Any]:
    """``{"binary", "root", "fast"}``: as asked for, else by the manager, else what there is.

    A manager that has seen the options has the last word (``"final"``), and may add the runtime's
    ``"kind"``, more ``"options"`` and ``"systemd_cgroup"``. A choice that the bundle's file
    ``runtime`` does not have yet is written there: whoever cleans up after this shim must come to
    the same one.
    """
    path = os.path.join(bundle, "runtime")
    try:
        with open(path) as file:
            before = dict(json.load(file))
    except FileNotFoundError:
        before = {}
    if before.get("final"):
        return before
    choice = dict(before)
    if binary and binary != before.get("binary"):
        choice = {**choice, "binary": binary, "fast": False}
    elif "binary" not in choice:
        choice["binary"] = found()
    if root or "root" not in choice:
        choice["root"] = os.path.join(root or _DEFAULT_ROOT, namespace)
    if choice != before:
        with open(path, "w") as file:
            json.dump(choice, file)
    return choice


def command(choice: Mapping[str, Any]) -> list[str]:
    """The beginning of every call of the runtime of :func:`chosen`."""
    begun = [choice["binary"], "--root", choice["root"], *choice.get("options", ())]
    if choice.get("systemd_cgroup"):
        begun.append("--systemd-cgroup")
    return begun


def _kind(binary: str) -> str:
    name = os.path.basename(binary)
    return next((kind for kind in ("runsc", "crun") if name.startswith(kind)), "runc")


def _inner(pid_file: str) -> str:
    """Where runsc writes the pid that a process has in its sandbox."""
    return f"{pid_file}.inner"


def found() -> str:
    """The first of runc and crun on PATH."""
    for directory in os.environ.get("PATH", os.defpath).split(os.pathsep):
        for name in ("runc", "crun"):
            path = os.path.join(directory, name)
            if os.access(path, os.X_OK):
                return path
    return "runc"
