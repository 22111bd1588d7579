"""One suite for networks: the usual plugins in process, and as Debian's executables."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from cored_network_native.caller import Native
from cored_network_native.rules import Rules

from cored.abc.network import Network
from cored.cni.cache import Cache
from cored.cni.chain import Chain
from cored.cni.executables import Executables
from cored.testing.networks import NetworkContract
from cored.testing.worlds import World, world

pytestmark = pytest.mark.root


PROGRAM = Path(sys.executable).with_name("cored-cni")


def owned_rules() -> list[str]:
    """What our tables of the packet filter have of attachments."""
    rules = Rules()
    try:
        return sorted(f"{owner} {element}" for owner, element in rules.owned())
    finally:
        rules.close()


@pytest.fixture(name="world")
def made_world(tmp_path: Path, private_mounts: None) -> Iterator[World]:
    place = tmp_path / "namespaces"
    place.mkdir()
    with world(place) as made:
        yield made


class TestNative(NetworkContract):
    knows = frozenset(("addresses", "apart", "busy", "gone", "partial"))
    lives = 100

    @pytest.fixture
    async def network(self, world: World, tmp_path: Path) -> AsyncIterator[Network]:
        native = Native(Executables(paths=("/nowhere",)))
        try:
            yield Chain(native, Cache(tmp_path / "results"))
        finally:
            await native.close()

    def rules(self) -> list[str]:
        return owned_rules()


class TestExecutables(NetworkContract):
    @pytest.fixture
    async def network(self, world: World, tmp_path: Path) -> AsyncIterator[Network]:
        yield Chain(Executables(), Cache(tmp_path / "results"))

    def rules(self) -> list[str]:
        done = subprocess.run(
            ["nft", "--json", "list", "ruleset"], capture_output=True, check=True, text=True
        )
        entries = json.loads(done.stdout)["nftables"]
        # counters and handles change; chains that plugins make once stay
        rules = [entry["rule"] for entry in entries if "rule" in entry]
        return sorted(
            f"{rule['family']} {rule['table']} {rule['chain']} {rule.get('comment', '')}"
            for rule in rules
        )


class TestOurExecutables:
    """The native plugins, called by their names as any runtime would; a part of the suite.

    They are the same code as :class:`TestNative`, in interpreters that take their time to start.
    """

    knows = TestNative.knows
    version = NetworkContract.version
    config, wanted, state = NetworkContract.config, NetworkContract.wanted, NetworkContract.state
    _says = NetworkContract._says

    test_attach = NetworkContract.test_an_attachment_has_an_interface_addresses_and_routes
    test_detach = NetworkContract.test_detaching_leaves_nothing_and_may_be_repeated
    test_busy = NetworkContract.test_a_port_of_a_program_is_not_taken_from_it
    test_full = NetworkContract.test_a_network_without_addresses_says_so

    @pytest.fixture
    async def network(self, world: World, tmp_path: Path) -> AsyncIterator[Network]:
        subprocess.run([PROGRAM, "install", tmp_path / "bin"], check=True, capture_output=True)
        yield Chain(Executables(paths=(str(tmp_path / "bin"),)), Cache(tmp_path / "results"))

    def rules(self) -> list[str]:
        return owned_rules()
