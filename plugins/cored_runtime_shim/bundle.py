"""Bundles: ``<state>/<namespace>/<id>/``, all that is known of a task outside its processes."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from cored import linux
from cored.abc.runtime import CreateOptions, Exit
from cored.dataclass import dataclass
from cored.errors import AlreadyExists, NotFound
from cored_runtime_shim.oci import OciRuntime

__all__ = ["KILLED", "OWN", "Bundle", "bundles", "remove_tree"]

# runtime names that mean our own shim
OWN = frozenset({"", "io.containerd.runc.v2", "io.containerd.cored.v2"})
# the exit status of who was ended by SIGKILL, and of whom nobody saw the end
KILLED = 137
# beside the namespaces: bundles on their way out
_GONE = ".gone"


@dataclass(frozen=True, slots=True)
class Bundle:
    """One bundle; its file ``shim`` names the executable of a shim that is not ours."""

    namespace: str
    id: str
    path: Path

    @classmethod
    def make(
        cls, state: Path, namespace: str, options: CreateOptions, id: str, oci: OciRuntime | None
    ) -> Bundle:
        """Make the directory with its files. AlreadyExists."""
        bundle = cls(namespace, id, state / namespace / id)
        bundle.path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        try:
            bundle.path.mkdir(mode=0o700)
        except FileExistsError as error:
            raise AlreadyExists(f"bundle {bundle.path}: already exists") from error
        try:
            bundle._fill(options, oci)
        except BaseException:
            # a disk that is full: the next one must not find half of it
            shutil.rmtree(bundle.path, ignore_errors=True)
            raise
        return bundle

    def _fill(self, options: CreateOptions, oci: OciRuntime | None) -> None:
        self._let_in(options.spec.value)
        (self.path / "rootfs").mkdir(mode=0o711)
        (self.path / "config.json").write_bytes(options.spec.value)
        (self.path / "shim").write_text(options.runtime)
        if oci is not None:
            root = oci.root or str(self.path.parent.parent / ".runtime")
            chosen = {
                "binary": oci.path, "root": f"{root}/{self.namespace}", "fast": oci.known,
                "kind": oci.program, "options": oci.options, "systemd_cgroup": oci.systemd_cgroup,
                "final": True,
            }  # fmt: skip
            (self.path / "runtime").write_text(json.dumps(chosen))

    def _let_in(self, spec: bytes) -> None:
        """Who is root in the container's user namespace has to come by; other users of the host
        must not, or they had the container's secrets and its setuid programs."""
        if b'"gidMappings"' not in spec:
            return
        try:
            found = [m["hostID"] for m in json.loads(spec)["linux"]["gidMappings"]
                     if m["containerID"] == 0]  # fmt: skip
            for group in found:
                os.chown(self.path, -1, group)
                self.path.chmod(0o710)
        except (ValueError, LookupError, TypeError, OverflowError):
            return  # the runtime will say what is wrong with it

    @property
    def runtime(self) -> str:
        """The shim that it was made for: an executable, or '' for our own."""
        try:
            return (self.path / "shim").read_text()
        except FileNotFoundError:
            return ""  # it was not made to the end

    @property
    def address(self) -> str:
        """Where its shim listens; '' when it never did."""
        try:
            return (self.path / "address").read_text().strip()
        except FileNotFoundError:
            return ""

    @property
    def exit(self) -> Exit | None:
        """The recorded end of its init process."""
        return _exit(self.path / "exit.json")

    @property
    def causes(self) -> Mapping[str, int]:
        """What our shim has recorded of the end beside the exit."""
        try:
            record = json.loads((self.path / "exit.json").read_text())
        except FileNotFoundError:
            return {}
        known = ("pid", "status", "exited_at")
        return {name: int(value) for name, value in record.items() if name not in known}

    def exit_of(self, exec_id: str) -> Exit | None:
        """The recorded end of an exec; our own shims write it, and keep it until its deletion."""
        return _exit(self.path / "exits" / exec_id)

    @property
    def pid(self) -> int:
        """Init's pid, 0 when it was never made."""
        try:
            return int((self.path / "init.pid").read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def untold(self) -> list[str]:
        """The exec ids of processes whose end no daemon has published; '' is init."""
        try:
            owed = sorted(path.name for path in (self.path / "execs").iterdir())
        except FileNotFoundError:
            owed = []
        return owed if (self.path / "exit.told").exists() else [*owed, ""]

    def owe(self, exec_id: str, pid: int = 0) -> None:
        """The end of an exec is to be published from now on. NotFound when the task has gone."""
        try:
            (self.path / "execs").mkdir(mode=0o700, exist_ok=True)
            (self.path / "execs" / exec_id).write_text(str(pid))
        except FileNotFoundError as error:
            raise NotFound(f"task {self.id!r}: not found") from error

    def owed_pid(self, exec_id: str) -> int | None:
        """The pid of an exec whose end is to be published, 0 when unknown; None when none is."""
        try:
            return int((self.path / "execs" / exec_id).read_text() or 0)
        except FileNotFoundError:
            return None

    def tell_exit(self, exec_id: str = "") -> None:
        """A daemon has published the end of a process; fine when the bundle has gone."""
        with suppress(FileNotFoundError):
            if exec_id:
                (self.path / "execs" / exec_id).unlink()
            else:
                (self.path / "exit.told").touch()

    def keep(self, exit: Exit, exec_id: str = "") -> None:
        """Record the end of a process, unless its shim has; fine when the bundle has gone."""
        path = self.path / "exits" / exec_id if exec_id else self.path / "exit.json"
        if path.exists():
            return
        record = {"pid": exit.pid, "status": exit.status, "exited_at": exit.exited_at}
        new = path.with_name(f"{path.name}.new")
        with suppress(FileNotFoundError):
            if exec_id:
                path.parent.mkdir(mode=0o700, exist_ok=True)
            new.write_text(json.dumps(record))
            new.rename(path)

    def settle(self, exit: Exit) -> None:
        """Its shim is gone and so are all processes: this was the end, where none is recorded."""
        for exec_id in self.untold():
            if exec_id:
                pid = self.owed_pid(exec_id) or 0
                self.keep(Exit(pid, KILLED, exit.exited_at), exec_id)
        self.keep(exit)
        self._remove_socket()
        (self.path / "address").unlink(missing_ok=True)

    @property
    def settled(self) -> bool:
        """Whether its shim is gone, and all that the shim has left."""
        return not self.address and self.exit is not None

    def forget_exec(self, exec_id: str) -> None:
        """Nobody will ask for it any more."""
        self.tell_exit(exec_id)
        with suppress(FileNotFoundError):
            (self.path / "exits" / exec_id).unlink()

    @property
    def shared(self) -> bool:
        """Whether its shim is a sandbox's, which other containers are in."""
        return (self.path / "sandbox").exists()

    def remove(self) -> None:
        """Unmount and delete; fine when part of it is gone."""
        remove_tree(self.discard())

    def discard(self) -> Path:
        """The quick part of :meth:`remove`: it is no bundle any more, but files somewhere else."""
        linux.unmount_all(self.path / "rootfs", lazy=True)
        self._remove_socket()
        # in one step: half a bundle would be found by the next daemon
        gone = self.path.parent.parent / _GONE
        gone.mkdir(mode=0o700, exist_ok=True)
        away = gone / f"{self.namespace}.{self.id}.{time.time_ns()}"
        with suppress(FileNotFoundError):
            self.path.rename(away)
        return away

    def _remove_socket(self) -> None:
        """A shim removes its own, unless it was killed."""
        socket = self.address.removeprefix("unix://")
        if socket and not self.shared and self.runtime in OWN:
            # a stranger's may have other containers
            Path(socket).unlink(missing_ok=True)
            with suppress(OSError):  # other shims' are in it
                Path(socket).parent.rmdir()


def _exit(path: Path) -> Exit | None:
    try:
        record = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return Exit(record["pid"], record["status"], record["exited_at"])


def remove_tree(path: Path) -> None:
    """Delete what is left of a bundle."""
    while path.exists():
        with suppress(FileNotFoundError):  # its shim, which ends, removes files too
            shutil.rmtree(path)


def bundles(state: Path) -> Iterator[Bundle]:
    """All bundles of earlier daemons; what those were about to remove goes now."""
    for kind in (state, state / ".sandboxes"):
        for away in (kind / _GONE).glob("*"):
            remove_tree(away)
    for namespace in _directories(state):
        if not namespace.startswith("."):
            for id in _directories(state / namespace):
                yield Bundle(namespace, id, state / namespace / id)


def _directories(place: Path) -> list[str]:
    with os.scandir(place) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir())
