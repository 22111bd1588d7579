"""Network namespaces that are kept by a file (network_namespaces(7)): made, entered, removed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cored import linux

__all__ = ["entered", "exists", "keep", "make", "remove"]

_SELF = "/proc/thread-self/ns/net"


def make(path: Path) -> None:
    """Make a namespace and keep it at ``path``, a new file. OSError; nothing stays of a failure."""
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    def pin() -> None:
        linux.unshare(linux.CLONE_NEWNET)
        linux.mount(_SELF, path, None, linux.MS_BIND)

    try:
        _in_thread(pin)
    except BaseException:
        path.unlink()
        raise


def keep(pid: int, path: Path) -> None:
    """Keep the namespace of a process at ``path``, a new file, also after its end. OSError."""
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        linux.mount(f"/proc/{pid}/ns/net", path, None, linux.MS_BIND)
    except BaseException:
        path.unlink()
        raise


def remove(path: Path) -> None:
    """Let go of the namespace at ``path``; fine when it is gone."""
    linux.unmount_all(path, lazy=True)
    path.unlink(missing_ok=True)


def exists(path: str) -> bool:
    """Whether there is a namespace at ``path``, not only a file that once kept one."""
    try:
        with open(path, "rb") as file:
            return os.fstat(file.fileno()).st_dev == Path(_SELF).stat().st_dev
    except OSError:
        return False


@contextmanager
def entered(path: str) -> Iterator[None]:
    """This thread in the namespace at ``path``; '' is its own. OSError where there is none."""
    if not path:
        yield
        return
    here = os.open(_SELF, os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            linux.setns(there, linux.CLONE_NEWNET)
        finally:
            os.close(there)
        try:
            yield
        finally:
            linux.setns(here, linux.CLONE_NEWNET)
    finally:
        os.close(here)


def _in_thread(work: Callable[[], None]) -> None:
    """Run what changes the thread that it runs in, in one that goes away."""
    failure: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
