"""Whose attachments are whose, when a daemon starts again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from cored.abc.network import Attachment, Network, NetworkList
from cored.cni import lists
from cored.engine.networks import Catalog, Connections, Resolvers

pytestmark = pytest.mark.asyncio


class Kept(Network):
    """Attachments in memory; what is collected is noted."""

    def __init__(self, kept: Sequence[Attachment]) -> None:
        self.kept = list(kept)
        self.valid: dict[str, list[str]] = {}

    async def attach(self, wanted: Attachment) -> Attachment:
        self.kept.append(wanted)
        return wanted

    async def check(self, attachment: Attachment) -> None:
        """All is well."""

    async def detach(self, attachment: Attachment) -> None:
        self.kept = [one for one in self.kept if one.container_id != attachment.container_id]

    async def collect(self, network: NetworkList, valid: Sequence[Attachment]) -> None:
        self.valid[network.name] = [one.container_id for one in valid]

    async def status(self, network: NetworkList) -> None:
        """It is ready."""

    async def vacate(self, network: NetworkList) -> None:
        """There is nothing else."""

    async def attachments(self) -> Sequence[Attachment]:
        return self.kept


async def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    theirs = {"cniVersion": "1.1.0", "name": "theirs", "plugins": [{"type": "bridge"}]}
    (tmp_path / "conf/10.conflist").write_text(json.dumps(theirs))
    catalog = Catalog(
        tmp_path / "made", [tmp_path / "conf"], tmp_path / "addresses", lambda: iter(())
    )
    lan = (await catalog.create("lan")).config
    state = tmp_path / "netns"

    def attachment(id: str, place: Path, network: NetworkList = lan, **more: bool) -> Attachment:
        return Attachment(id, str(place / id), "eth0", network, **more)

    network = Kept(
        [
            attachment("living", state),
            attachment("dead", state),
            attachment("begun", state, finished=False),
            attachment("pod", tmp_path / "pods"),
            attachment("other", tmp_path / "pods", lists.parse(json.dumps(theirs))),
        ]
    )
    resolvers = Resolvers(tmp_path / "resolvers", "no-such-program")
    async with Connections(network, catalog, resolvers, state).opened() as connections:
        await connections.recover({"living", "begun"})
    assert [one.container_id for one in network.kept] == ["living", "pod", "other"]
    # a directory's networks may have containers of runtimes that we know nothing of
    assert network.valid == {"lan": ["living", "pod"]}


async def test_the_default_network_takes_no_bridge_that_is_there(tmp_path: Path) -> None:
    catalog = Catalog(
        tmp_path / "made",
        [],
        tmp_path / "addresses",
        lambda: iter(()),
        lambda: [(1, "lo"), (2, "cored0"), (4, "cored2")],
    )
    (first,) = [one["bridge"] for one in (await catalog.get("")).config.plugins if "bridge" in one]
    assert first == "cored1"
