"""Namespaces of other containers, when names lead in a circle."""

from __future__ import annotations

from pathlib import Path

import pytest

from cored.abc.records import Container
from cored.engine.sharing import Sharing
from cored.engine.workload import ContainerConfig, ContainerState, encoded
from cored.errors import FailedPrecondition


async def test_containers_that_share_a_network_in_a_circle_are_refused() -> None:
    async def find(name: str) -> Container:
        other = {"a": "b", "b": "a"}[name]
        config = ContainerConfig("image", network=f"container:{other}")
        return Container(name, extensions=encoded(config, ContainerState()))

    sharing = Sharing(find, lambda id: 7, Path, Path, lambda id, config: "")
    with pytest.raises(FailedPrecondition, match="circle"):
        await sharing.borrowed(ContainerConfig("image", network="container:a"))
