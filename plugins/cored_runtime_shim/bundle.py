"""Bundles: ``<state>/<namespace>/<id>/``, all that is known of a task outside its processes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cored import linux
from cored.abc.runtime import CreateOptions, Exit
from cored.errors import AlreadyExists
from cored_runtime_shim.oci import OciRuntime

__all__ = ["OWN", "Bundle", "bundles"]

# runtime names that mean our own shim
OWN = frozenset({"", "io.containerd.runc.v2", "io.containerd.cored.v2"})


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
            bundle.path.mkdir(mode=0o711)
        except FileExistsError as error:
            raise AlreadyExists(f"bundle {bundle.path}: already exists") from error
        (bundle.path / "rootfs").mkdir(mode=0o711)
        (bundle.path / "config.json").write_bytes(options.spec.value)
        (bundle.path / "shim").write_text(options.runtime)
        if oci is not None:
            root = oci.root or str(state / ".runtime")
            chosen = {
                "binary": oci.path, "root": f"{root}/{namespace}", "fast": oci.known,
                "kind": oci.program, "options": oci.options, "systemd_cgroup": oci.systemd_cgroup,
                "final": True,
            }  # fmt: skip
            (bundle.path / "runtime").write_text(json.dumps(chosen))
        return bundle

    @property
    def runtime(self) -> str:
        """The shim that it was made for: an executable, or '' for our own."""
        return (self.path / "shim").read_text()

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
        try:
            record = json.loads((self.path / "exit.json").read_text())
        except FileNotFoundError:
            return None
        return Exit(record["pid"], record["status"], record["exited_at"])

    @property
    def pid(self) -> int:
        """Init's pid, 0 when it was never made."""
        try:
            return int((self.path / "init.pid").read_text())
        except (FileNotFoundError, ValueError):
            return 0

    @property
    def exit_told(self) -> bool:
        """Whether a daemon has published the end of its init process."""
        return (self.path / "exit.told").exists()

    def tell_exit(self) -> None:
        """A daemon has published the end of its init process; fine when the bundle has gone."""
        with suppress(FileNotFoundError):
            (self.path / "exit.told").touch()

    @property
    def shared(self) -> bool:
        """Whether its shim is a sandbox's, which other containers are in."""
        return (self.path / "sandbox").exists()

    def remove(self) -> None:
        """Unmount and delete; fine when part of it is gone."""
        linux.unmount_all(self.path / "rootfs", lazy=True)
        socket = self.address.removeprefix("unix://")
        if socket and not self.shared and self.runtime in OWN:
            # a shim removes its own, unless it was killed; a stranger's may have other containers
            Path(socket).unlink(missing_ok=True)
            with suppress(OSError):  # other shims' are in it
                Path(socket).parent.rmdir()
        shutil.rmtree(self.path, ignore_errors=False)


def bundles(state: Path) -> Iterator[Bundle]:
    """All bundles of earlier daemons."""
    for namespace in sorted(state.iterdir()):
        if namespace.name.startswith(".") or not namespace.is_dir():
            continue
        for path in sorted(namespace.iterdir()):
            if path.is_dir():
                yield Bundle(namespace.name, path.name, path)
