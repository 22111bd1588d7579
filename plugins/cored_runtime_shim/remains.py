"""What a shim leaves that died: processes, mounts, cgroups, the runtime's state; and their end.

Everything here blocks, may be done twice, and never trusts a pid by its number alone.
"""

from __future__ import annotations

import errno
import glob
import json
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cored import linux, log
from cored.abc.runtime import Exit
from cored_runtime_shim.bundle import Bundle, bundles

__all__ = ["end", "forget_other_boots", "sweep_sockets"]

_PATIENCE = 15.0
_CGROUPS = Path("/sys/fs/cgroup")
_SOCKETS = Path("/run/cored-shim")


def end(bundle: Bundle) -> None:
    """End the container of ``bundle``, and free all that it had but the bundle itself."""
    _end_commands(bundle)
    with _ended_after(bundle.pid, _cgroups(bundle)):
        choice = _chosen(bundle)
        if choice:
            command = [choice["binary"], "--root", choice["root"], *choice.get("options", ())]
            command += ["--systemd-cgroup"] * choice.get("systemd_cgroup", False)
            _run(bundle, [*command, "delete", "--force", bundle.id])
        _sweep(bundle)


def forget_other_boots(state: Path, boot: str = "") -> None:
    """See to it that nobody believes what bundles say that were made before the host last started.

    Their pids, sockets and mounts are void: others have the pids now. ``boot`` is this boot's id.
    """
    boot = boot or Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    mark = state / ".boot"
    if mark.exists() and mark.read_text() == boot:
        return
    if mark.exists():
        for bundle in bundles(state):
            _sweep(bundle, processes=False)
            pid, exit = bundle.pid, _exit_before(bundle)
            if pid or exit is not None:
                # 255, as containerd: nobody has killed it, and nobody saw how it ended
                bundle.settle(exit or Exit(pid, 255, time.time_ns()))
            else:
                bundle.remove()
    # only now: whoever is killed before this begins again
    mark.write_text(boot)


def sweep_sockets(place: Path = _SOCKETS) -> None:
    """Remove the sockets of shims that were killed when nobody was there who knew of them.

    They are other daemons', too: only what nobody listens on goes, and who sleeps is not woken.
    """
    alive = {line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines()[1:]}
    for path in [*place.glob("*.sock"), *place.glob("*.console")]:
        with suppress(OSError):  # it has just gone
            about = path.lstat()
            # younger ones may be about to listen
            old = time.time() - about.st_mtime > 60
            if old and stat.S_ISSOCK(about.st_mode) and str(path) not in alive and _refused(path):
                path.unlink()
    with suppress(OSError):  # others are in it
        place.rmdir()


def _refused(path: Path) -> bool:
    """Whether nobody listens; who does so in another network is not in our /proc."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        return probe.connect_ex(str(path)) == errno.ECONNREFUSED


def _exit_before(bundle: Bundle) -> Exit | None:
    """The exit recorded before the host went down, if it got to the disk."""
    try:
        return bundle.exit
    except ValueError:
        (bundle.path / "exit.json").unlink()
        return None


def _sweep(bundle: Bundle, *, processes: bool = True) -> None:
    """Free what no runtime has freed: cgroups with their processes, state, mounts."""
    for place in _cgroups(bundle):
        if processes:
            _end_processes(place)
        _remove_cgroup(place)
    choice = _chosen(bundle)
    if choice:
        shutil.rmtree(Path(choice["root"]) / bundle.id, ignore_errors=True)
    linux.unmount_all(bundle.path / "rootfs", lazy=True)


def _chosen(bundle: Bundle) -> dict[str, Any]:
    """The OCI runtime that our own shim uses for it; nothing for others' shims."""
    try:
        return dict(json.loads((bundle.path / "runtime").read_text()))
    except (FileNotFoundError, ValueError):
        return {}


def _run(bundle: Bundle, command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        text = str(error)
    else:
        if done.returncode == 0:
            return
        text = done.stderr.strip()
    log.get("runtime").warning("cleaning up after a shim", container=bundle.id, error=text)


def _end_commands(bundle: Bundle) -> None:
    """Calls of the runtime that the shim was waiting for: they must not go on to make anything."""
    mark = f"\0--log\0{bundle.path}/log".encode()
    for place in Path("/proc").iterdir():
        if place.name.isdecimal() and _contains(place / "cmdline", mark):
            _end(int(place.name), place / "cmdline", mark)


@contextmanager
def _ended_after(pid: int, cgroups: list[Path]) -> Iterator[None]:
    """After the body, wait for the end of a process, if it is in one of ``cgroups`` before it."""
    marks = {f"/{place.name}\n".encode() for place in cgroups}
    try:
        handle = os.pidfd_open(pid) if pid else -1
    except ProcessLookupError:
        handle = -1
    try:
        ours = any(_contains(Path(f"/proc/{pid}/cgroup"), mark) for mark in marks)
        yield
        if handle >= 0 and ours:
            _await_end(handle)
    finally:
        if handle >= 0:
            os.close(handle)


def _await_end(handle: int) -> None:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    poll.poll(2000)


def _end_processes(place: Path) -> None:
    """SIGKILL for all that is in a cgroup, until nothing is."""
    limit = time.monotonic() + _PATIENCE
    while time.monotonic() < limit:
        try:
            # 0 is a process of another pid namespace
            pids = set((place / "cgroup.procs").read_text().split()) - {"0"}
        except OSError:
            return
        if not pids:
            return
        for pid in pids:
            _end(int(pid), Path(f"/proc/{pid}/cgroup"), f"/{place.name}\n".encode())
        time.sleep(0.01)


def _end(pid: int, evidence: Path, mark: bytes) -> None:
    """SIGKILL for a process whose file ``evidence`` has ``mark`` in it, and wait for its end."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        # asked while we hold it: from here on the number cannot become another's
        if not _contains(evidence, mark):
            return
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        _await_end(handle)
    except OSError as error:
        log.get("runtime").debug("ending a process", pid=pid, error=str(error))
    finally:
        os.close(handle)


def _contains(file: Path, mark: bytes) -> bool:
    try:
        return mark in file.read_bytes()
    except OSError:
        return False  # the process has ended


def _cgroups(bundle: Bundle) -> list[Path]:
    """Where the spec puts the container, in every hierarchy; only what is named like it alone."""
    try:
        spec = json.loads((bundle.path / "config.json").read_bytes())
        path = str(spec.get("linux", {}).get("cgroupsPath") or f"/{bundle.id}")
    except (OSError, ValueError, AttributeError):
        return []
    relative = path.lstrip("/")
    # systemd's notation has a manager that removes its scopes; a group that is shared is not ours
    if ":" in path or ".." in path.split("/") or bundle.id not in relative.rpartition("/")[2]:
        return []
    places = [_CGROUPS / relative, *_CGROUPS.glob(f"*/{glob.escape(relative)}")]
    return [place for place in places if (place / "cgroup.procs").exists()]


def _remove_cgroup(place: Path) -> None:
    """rmdir, the lowest first; what is in use stays."""
    for directory, _, _ in os.walk(place, topdown=False):
        with suppress(OSError):
            Path(directory).rmdir()
