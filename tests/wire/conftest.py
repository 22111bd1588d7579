"""The test that looks back at all others comes last."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A stable sort: everything else keeps its place."""
    items.sort(key=lambda item: item.path.name == "test_every_rpc.py")
