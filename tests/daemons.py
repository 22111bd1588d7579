"""Real daemons on private roots, for tests and benchmarks: our own and Debian's containerd."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.living import glob, remove

CORECTL = (sys.executable, "-m", "corectl")
# what a person types: answered by a keeper's worker (corectl.warm), where the above is by itself
INSTALLED = [str(Path(sys.executable).with_name("corectl"))]


def _answers(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(address))
        except OSError:
            return False
    return True


@dataclass
class Daemon:
    """A daemon as a subprocess; ``start`` returns when its socket answers."""

    home: Path
    command: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> Path:
        return self.home / "sock"

    @property
    def log(self) -> str:
        """What it has written to stderr so far."""
        return (self.home / "log").read_text(errors="replace")

    def start(self, timeout: float = 60.0, *, look_every: float = 0.02) -> None:
        assert self.process is None or self.process.poll() is not None
        with open(self.home / "log", "ab") as log:
            self.process = subprocess.Popen(
                list(self.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )
        end = time.monotonic() + timeout
        while not _answers(self.address):
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{self.command[0]} did not start:\n{self.log[-4000:]}")
            time.sleep(look_every)

    def answers(self) -> bool:
        """Whether somebody listens at its socket."""
        return _answers(self.address)

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, timeout: float = 60.0) -> int:
        """SIGTERM; its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def ctr(
        self, *arguments: str, check: bool = True, **options: object
    ) -> subprocess.CompletedProcess[str]:
        """Run Debian's unmodified ctr against this daemon."""
        done = subprocess.run(
            ["ctr", "--address", str(self.address), *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **options,  # type: ignore[call-overload]
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"ctr {' '.join(arguments)}: {done.stderr}\n{self.log[-3000:]}")
        return done

    def corectl(
        self, *arguments: str, check: bool = False, **options: object
    ) -> subprocess.CompletedProcess[bytes]:
        """Run corectl against this daemon."""
        return self._called(CORECTL, *arguments, check=check, **options)

    def installed(
        self, *arguments: str, check: bool = False, **options: object
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the installed corectl against this daemon, as a person does."""
        return self._called(INSTALLED, *arguments, check=check, **options)

    def _called(
        self, program: Sequence[str], *arguments: str, check: bool, **options: object
    ) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            [*program, "--address", str(self.address), *arguments],
            **{"capture_output": True, "timeout": 120, **options},  # type: ignore[call-overload]
        )
        if check and done.returncode != 0:
            raise RuntimeError(
                f"corectl {' '.join(arguments)}: {done.stderr!r}\n{self.log[-3000:]}"
            )
        return done

    def remove_all(self) -> None:
        """Kill and remove every task and container, so that no process outlives the test."""
        from tests.grpc_client import Client

        with Client(self.address) as api:
            for namespace in api.namespaces.List().namespaces:
                inside = api.within(namespace.name)
                with_namespace = ("--namespace", namespace.name)
                for task in inside.tasks.List().tasks:
                    self.ctr(*with_namespace, "tasks", "rm", "-f", task.id, check=False)
                for container in inside.containers.List().containers:
                    self.ctr(*with_namespace, "containers", "rm", container.id, check=False)


@contextmanager
def home(prefix: str) -> Iterator[Path]:
    """A private directory with a short path; all mounts below it are gone at the end."""
    path = Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir="/tmp"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        _end_name_servers(path)
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            target = line.split()[1]
            if target.startswith(f"{path}/"):
                subprocess.run(["umount", "-l", target], check=False)
        remove(path)


def _end_name_servers(home: Path) -> None:
    """Those of networks that a killed daemon left in use: they would keep the next one's ports."""
    for file in glob(home, "**/resolvers/*/pid"):
        with suppress(FileNotFoundError, ProcessLookupError, ValueError):
            pid = int(file.read_text())
            if str(home).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)


@contextmanager
def cored(
    config: str = "",
    *,
    path: str | None = None,
    python: str = sys.executable,
    within: Sequence[str] = (),
    module: str = "cored",
    root: Path | None = None,
    start: bool = True,
) -> Iterator[Daemon]:
    """A private cored; ``path`` replaces PATH in its environment, ``python`` the interpreter,
    ``module`` what that runs, ``root`` its root, and ``within`` is a command that execs it, such
    as unshare. Without ``start`` it is the caller's to start and end."""
    with home("cd") as place:
        (place / "config.toml").write_text(config)
        command = (
            *within,
            python,
            "-m",
            module,
            f"--address={place / 'sock'}",
            f"--root={root or place / 'root'}",
            f"--state={place / 'state'}",
            f"--config={place / 'config.toml'}",
            "--log-level=debug",
        )
        daemon = Daemon(place, command, {"PATH": path} if path is not None else {})
        if not start:
            yield daemon
            return
        daemon.start()
        yield from _lifetime(daemon)


@contextmanager
def containerd(
    settings: str = "",
    disabled: Sequence[str] = (),
    program: str = "containerd",
    *,
    cri: bool = False,
) -> Iterator[Daemon]:
    """A private containerd, Debian's unless ``program`` is another; without CRI unless it is
    wanted, with more settings and less plugins."""
    disabled = [*disabled, *([] if cri else ["io.containerd.grpc.v1.cri"])]
    without = "".join(f', "{plugin}"' for plugin in disabled)
    with home("ctd") as place:
        (place / "config.toml").write_text(
            f"""
version = 2
root = "{place}/root"
state = "{place}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp"{without}]
[grpc]
address = "{place}/sock"
[ttrpc]
address = "{place}/sock.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
path = "{place}/opt"
{settings}
"""
        )
        daemon = Daemon(place, (program, "--config", str(place / "config.toml")))
        daemon.start()
        yield from _lifetime(daemon)


def _lifetime(daemon: Daemon) -> Iterator[Daemon]:
    try:
        yield daemon
    finally:
        if daemon.process is not None and daemon.process.poll() is not None:
            daemon.start()
        daemon.remove_all()
        daemon.stop()
        # ctr puts its containers below a cgroup named like the namespace; nobody removes that
        for place in Path("/sys/fs/cgroup").glob("*/default"):
            with suppress(OSError):  # somebody else's containers may be in it
                place.rmdir()
