"""Each test of the API runs against cored and, where Debian's containerd 1.6 has the RPC, against
that one too: it is the oracle of what the tests expect."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import daemons
from tests.daemons import Daemon
from tests.grpc_client import Client

_NUMBERS = itertools.count(1)
# collections only when a test asks for one: most of what they make hangs in the air
_GC = """
deletion_threshold = 0
mutation_threshold = 1000000
pause_threshold = 0.00001
startup_delay = {}
schedule_delay = {}
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of them want real daemons."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.root)


@pytest.fixture(scope="session")
def running(private_mounts: None) -> Iterator[dict[str, Daemon]]:
    """Both daemons, one of each for all tests of this folder."""
    with ExitStack() as stack:
        yield {
            "cored": stack.enter_context(daemons.cored(f"[gc]{_GC.format(3600, 3600)}")),
            "containerd": stack.enter_context(
                daemons.containerd(
                    '[plugins."io.containerd.gc.v1.scheduler"]' + _GC.format('"1h"', '"0s"')
                )
            ),
        }


@pytest.fixture(params=["cored", "containerd"])
def server(request: pytest.FixtureRequest, running: dict[str, Daemon]) -> Daemon:
    """The daemon under test; ``@only_cored`` leaves the oracle out."""
    return running[request.param]


@pytest.fixture
def api(server: Daemon) -> Iterator[Client]:
    """A client in a namespace of the test's own."""
    oracle = server.command[0] == "containerd"
    with Client(server.address, f"api{next(_NUMBERS)}", oracle=oracle) as client:
        yield client


@pytest.fixture
def other(api: Client) -> Client:
    """The same daemon, from another namespace."""
    return api.within(f"{api.namespace}-other")


@pytest.fixture
def nobody(api: Client) -> Client:
    """The same daemon, without a namespace."""
    return api.within(None)
