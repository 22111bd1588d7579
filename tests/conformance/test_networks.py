"""One suite for networks: the usual plugins in process, and as Debian's executables."""

from __future__ import annotations

import json
import subprocess
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


@pytest.fixture(name="world")
def made_world(tmp_path: Path, private_mounts: None) -> Iterator[World]:
    place = tmp_path / "namespaces"
    place.mkdir()
    with world(place) as made:
        yield made


class TestNative(NetworkContract):
    knows = frozenset(("addresses", "apart", "busy", "gone", "partial"))

    @pytest.fixture
    async def network(self, world: World, tmp_path: Path) -> AsyncIterator[Network]:
        native = Native(Executables(paths=("/nowhere",)))
        try:
            yield Chain(native, Cache(tmp_path / "results"))
        finally:
            await native.close()

    def rules(self) -> list[str]:
        rules = Rules()
        try:
            return sorted(f"{owner} {element}" for owner, element in rules.owned())
        finally:
            rules.close()


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
