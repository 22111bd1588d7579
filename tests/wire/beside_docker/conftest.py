"""Both daemons, started once for all scripts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.both import Both, both_daemons


@pytest.fixture(scope="package")
def both(
    busybox: Path, private_mounts: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Both]:
    with both_daemons(busybox, tmp_path_factory.mktemp("both")) as running:
        yield running
