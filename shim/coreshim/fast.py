"""What ``start`` and ``delete`` of runc and crun do, without a process for it.

Used where the manager knows the runtime's version (``"fast"`` in the bundle's ``runtime``) and the
spec has no hooks; everything unexpected falls back to the command.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection
from contextlib import suppress

from coreshim.loop import READ, Future, Loop

__all__ = ["cgroups_of", "delete", "remove_cgroups", "start"]

_PATIENCE = 10.0
_CGROUPS = "/sys/fs/cgroup/"


async def start(loop: Loop, kind: str, place: str, ended: Future) -> bool:
    """Let the init of a runtime's state directory ``place`` go on to its program; False if not."""
    return _release_crun(place) if kind == "crun" else await _release(loop, place, ended)


def delete(kind: str, place: str, cgroups: Collection[str]) -> bool:
    """Remove a stopped container's cgroups and state directory; False if something resists."""
    return _sweep_crun(place, cgroups) if kind == "crun" else _sweep(place)


async def _release(loop: Loop, place: str, ended: Future) -> bool:
    """runc's init waits in open(2) of ``exec.fifo`` for a reader, and then writes one byte."""
    path = os.path.join(place, "exec.fifo")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    heard = Future(loop)

    async def watch_end() -> None:
        await ended
        heard.set()

    watching = watch_end()
    try:
        loop.watch(fd, READ, lambda events: heard.set())
        loop.later(_PATIENCE, heard.set)
        loop.spawn(watching)
        await heard
        loop.unwatch(fd)
        if os.read(fd, 1) != b"0":
            return False
        os.unlink(path)
    except BlockingIOError:
        return False
    finally:
        loop.abandon(watching, ended)
        loop.unwatch(fd)
        os.close(fd)
    return True


def _release_crun(place: str) -> bool:
    """crun's init has the fifo open and reads a byte from it."""
    path = os.path.join(place, "exec.fifo")
    try:
        # without a reader: no init
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.unlink(path)  # first, as crun does: who finds it may start the container
        os.write(fd, b"\0")
    finally:
        os.close(fd)
    return True


def cgroups_of(pid: int) -> list[str]:
    """The cgroup directories of a process, but for those that we are in too."""
    ours = set(_lines("self"))
    places = []
    for line in _lines(str(pid)):
        _, controllers, path = line.split(":", 2)
        if line not in ours and path != "/":
            name = controllers.removeprefix("name=")
            if name:
                places.append(f"{_CGROUPS}{name}{path}")
            else:
                places += [f"/sys/fs/cgroup{path}", f"/sys/fs/cgroup/unified{path}"]
    return places


def remove_cgroups(places: list[str]) -> None:
    """Remove what a runtime has left; what is in use stays.

    crun 1.8 forgets hugetlb, and where that is no cgroup file system it makes a plain directory
    with a plain file in it.
    """
    for place in places:
        with suppress(OSError):
            os.rmdir(place)
    for rest in {place.removeprefix(_CGROUPS).partition("/")[2] for place in places} - {""}:
        forgotten = f"{_CGROUPS}hugetlb/{rest}"
        with suppress(OSError):  # not there, or a real one: its files cannot be removed
            os.unlink(f"{forgotten}/cgroup.procs")
        with suppress(OSError):
            os.rmdir(forgotten)


def _lines(pid: str) -> list[str]:
    try:
        with open(f"/proc/{pid}/cgroup") as file:
            return file.read().splitlines()
    except OSError:
        return []  # it has ended already


def _sweep(place: str) -> bool:
    """runc's state says where all of the container's cgroups are."""
    try:
        with open(os.path.join(place, "state.json")) as file:
            state = json.load(file)
        if state.get("intel_rdt_path"):
            return False
        for path in set(state["cgroup_paths"].values()):
            try:
                os.rmdir(path)
            except FileNotFoundError:
                continue
        shutil.rmtree(place)
    except (OSError, ValueError, KeyError, AttributeError):
        return False
    return True


def _sweep_crun(place: str, cgroups: Collection[str]) -> bool:
    """crun's state does not say where all of the container's ``cgroups`` are."""
    if not cgroups:
        return False
    try:
        with open(os.path.join(place, "status")) as file:
            state = json.load(file)
        inside = state["cgroup-path"]
        if state["systemd-cgroup"] or state["scope"] or not inside.strip("/"):
            return False
        for path in cgroups:
            if not path.endswith(inside):
                return False
            try:
                os.rmdir(path)
            except FileNotFoundError:
                continue
        shutil.rmtree(place)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False
    return True
