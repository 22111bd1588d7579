"""The contracts through gRPC: our own storage behind our proxies, and a real containerd's."""

from __future__ import annotations

import functools
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cored._pb.containerd.services.leases.v1 import leases_pb2
from cored.abc.content import ContentStore
from cored.abc.snapshots import Snapshotter
from cored.config import Config
from cored.proxies.content import ProxyContent
from cored.proxies.peer import Peer
from cored.proxies.snapshotter import ProxySnapshotter
from cored.rpc.channel import Channel
from cored.storage import serving
from cored.testing.content import ContentStoreContract
from cored.testing.snapshots import SnapshotterContract
from tests.daemons import Daemon, containerd

pytestmark = pytest.mark.root
CONTENT = "containerd.services.content.v1.Content"
SNAPSHOTS = "containerd.services.snapshots.v1.Snapshots"
_NUMBERS = itertools.count(1)


@asynccontextmanager
async def storage(root: Path) -> AsyncIterator[Channel]:
    """Our own storage, and a channel to it."""
    config = Config(address=f"{root}/sock", root=root / "root", state=root / "state")
    async with serving(config), Channel.opened(config.address) as channel:
        yield channel


class TestOwnSnapshotter(SnapshotterContract):
    @pytest.fixture(params=["overlayfs", "native"])
    async def snapshotter(
        self, request: pytest.FixtureRequest, short_tmp: Path
    ) -> AsyncIterator[Snapshotter]:
        capabilities = frozenset({"rebase"} if request.param == "overlayfs" else ())
        async with storage(short_tmp) as channel:
            yield ProxySnapshotter(Peer(channel, SNAPSHOTS), request.param, capabilities, {})


class TestOwnContent(ContentStoreContract):
    @pytest.fixture
    async def store(self, short_tmp: Path) -> AsyncIterator[ContentStore]:
        async with storage(short_tmp) as channel:
            yield ProxyContent(Peer(channel, CONTENT))


@pytest.fixture(scope="module")
def theirs(private_mounts: None) -> Iterator[Daemon]:
    with containerd() as daemon:
        yield daemon


def differs(test: Callable[..., Any], why: str, *, strict: bool = True) -> Any:
    """A test of the contract that containerd 1.6 does not pass, for a reason that we know."""

    @functools.wraps(test)
    async def copy(*arguments: Any, **values: Any) -> None:
        await test(*arguments, **values)

    return pytest.mark.xfail(strict=strict, reason=why)(copy)


async def leased(channel: Channel) -> str:
    """A new namespace of theirs, with a lease: their garbage collection sees no use of ours."""
    namespace = f"test-{next(_NUMBERS)}"
    leases = Peer(channel, "containerd.services.leases.v1.Leases", namespace)
    await leases.call("Create", leases_pb2.CreateRequest(id="test"), leases_pb2.CreateResponse)
    return namespace


class TestTheirSnapshotter(SnapshotterContract):
    @pytest.fixture
    async def snapshotter(self, theirs: Daemon) -> AsyncIterator[Snapshotter]:
        async with Channel.opened(str(theirs.address)) as channel:
            peer = Peer(channel, SNAPSHOTS, await leased(channel), "test")
            yield ProxySnapshotter(peer, "overlayfs", frozenset(), {})

    test_owner_and_mode_of_the_root_are_inherited = differs(
        SnapshotterContract.test_owner_and_mode_of_the_root_are_inherited, "the owner only"
    )
    test_an_empty_key_is_refused = differs(
        SnapshotterContract.test_an_empty_key_is_refused, "as UNKNOWN"
    )
    test_a_commit_keeps_the_parent = differs(
        SnapshotterContract.test_a_commit_keeps_the_parent, "an empty name is UNKNOWN"
    )
    test_bad_filters_are_refused = differs(
        SnapshotterContract.test_bad_filters_are_refused, "as UNKNOWN"
    )


class TestTheirContent(ContentStoreContract):
    @pytest.fixture
    async def store(self, theirs: Daemon) -> AsyncIterator[ContentStore]:
        async with Channel.opened(str(theirs.address)) as channel:
            yield ProxyContent(Peer(channel, CONTENT, await leased(channel), "test"))

    test_a_blob_is_known_by_sha512_when_that_is_asked_for = differs(
        ContentStoreContract.test_a_blob_is_known_by_sha512_when_that_is_asked_for, "sha256 only"
    )
    test_what_is_no_digest_is_refused = differs(
        ContentStoreContract.test_what_is_no_digest_is_refused,
        "as NOT_FOUND, all but an empty one",
        strict=False,
    )
    test_abort_throws_the_bytes_away = differs(
        ContentStoreContract.test_abort_throws_the_bytes_away, "also while it is written"
    )
    test_a_later_writer_goes_on = differs(
        ContentStoreContract.test_a_later_writer_goes_on, "the total is forgotten"
    )
    test_a_ref_is_free_after_a_failed_opening = differs(
        ContentStoreContract.test_a_ref_is_free_after_a_failed_opening, "nonsense is accepted"
    )
    test_walk_lists_what_filters_ask_for = differs(
        ContentStoreContract.test_walk_lists_what_filters_ask_for, "size is no field"
    )
