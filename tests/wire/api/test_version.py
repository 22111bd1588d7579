"""containerd.services.version.v1.Version"""

from __future__ import annotations

import re

from tests.grpc_client import Client


def test_the_version_is_one_that_clients_can_parse(api: Client) -> None:
    """Some parse it as a semantic version, after a ``v`` that may be missing."""
    found = api.version.Version()
    assert re.fullmatch(r"v?\d+\.\d+\.\d+([-+~][0-9A-Za-z.+~-]+)?", found.version)


def test_no_namespace_is_needed(nobody: Client, api: Client) -> None:
    assert nobody.version.Version() == api.version.Version()
