"""What all suites share: root or skip, a mount namespace of pytest's own, and real daemons."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.daemons import Daemon

PROJECT = Path(__file__).resolve().parents[1]

# a busy machine is slow, which is no fault of an example
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

_CLONE_NEWNS = 0x00020000
_MS_REC_PRIVATE = 0x4000 | 0x40000


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What needs root is skipped, with the reason, when there is none."""
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="needs root: real mounts, namespaces and runtimes")
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(skip)


def pytest_sessionstart() -> None:
    """Who runs the suite in a shell's background has SIGINT ignored, and all children would."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def private_mounts() -> None:
    """Put pytest into a mount namespace of its own: whatever a test mounts dies with it."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNS)")
    if libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None) != 0:
        raise OSError(ctypes.get_errno(), "mount --make-rprivate /")


@pytest.fixture(scope="module", autouse=True)
def no_links_left() -> Iterator[None]:
    """A module leaves no bridge, and nothing else with an address, to the ones after it.

    Whatever stays has a subnet of those that networks are made from, until there is none left.
    """
    if "CORED_TESTS_ALONE" not in os.environ:
        yield  # others have links, too
        return
    before = _links()
    yield
    end = time.monotonic() + 60  # a bridge goes ten seconds after its last container
    while (left := _links() - before) and time.monotonic() < end:
        time.sleep(0.1)
    for name in left:
        subprocess.run(["ip", "link", "delete", name], check=False)
    assert not left, "a test has left links"


def _links() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


@pytest.fixture
def short_tmp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory whose path is short enough for unix sockets below it."""
    import tempfile

    from tests.living import remove

    path = Path(tempfile.mkdtemp(prefix="cd-", dir="/tmp"))
    yield path
    remove(path)


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A docker-archive of the image that the quickstart makes: busybox:latest."""
    path = tmp_path_factory.mktemp("image") / "busybox.tar"
    subprocess.run([PROJECT / "deploy/quickstart/busybox-image", path], check=True)
    return path


@pytest.fixture(scope="module")
def daemon(busybox: Path, private_mounts: None) -> Iterator[Daemon]:
    """A running cored that knows docker.io/library/busybox:latest, in ctr's default namespace."""
    from tests import daemons

    with daemons.cored() as running:
        running.ctr("images", "import", str(busybox))
        yield running
