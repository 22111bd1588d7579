"""Client and AsyncClient have the same verbs, and the second is what the first makes it."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from cored.client import AsyncClient, Client
from tests.surfaces import TARGET, generated

PARTS = ("builds", "containers", "images", "namespaces", "networks", "system", "volumes")


def test_what_is_written_is_up_to_date() -> None:
    for name, text in generated().items():
        assert (TARGET / name).read_text() == text, "run: python -m tests.surfaces"


def verbs(part: Any) -> dict[str, Any]:
    return {
        name: getattr(type(part), name)
        for name in dir(type(part))
        if not name.startswith("_") and callable(getattr(type(part), name))
    }


@pytest.mark.parametrize("part", PARTS)
def test_every_verb_is_in_both_with_the_same_arguments(part: str) -> None:
    with Client("/nowhere") as client:
        ours, theirs = verbs(getattr(client, part)), verbs(getattr(AsyncClient("/nowhere"), part))
    assert ours.keys() == theirs.keys()
    for name, verb in ours.items():
        plain, awaited = inspect.signature(verb), inspect.signature(theirs[name])
        assert plain.parameters == awaited.parameters, name
        streams = str(plain.return_annotation).startswith("Iterator[")
        assert str(awaited.return_annotation) == ("Async" if streams else "") + str(
            plain.return_annotation
        )
        assert inspect.iscoroutinefunction(theirs[name]) == (not streams), name
        assert verb.__doc__ and theirs[name].__doc__


def test_importing_the_package_loads_nothing() -> None:
    import subprocess
    import sys

    script = (
        "import sys, cored.client; "
        "print([m for m in sys.modules if m.startswith('cored.client.') or m in ('h2', 'ssl')]); "
        "from cored.client import Client; Client('/nowhere'); "
        "print([m for m in ('h2', 'ssl', 'asyncio', 'grpc', 'tarfile') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n") == ["[]", "[]", ""]


def test_what_is_not_known_is_said() -> None:
    from cored.client.api.options import configured
    from cored.errors import InvalidArgument

    with pytest.raises(InvalidArgument, match=r"option 'memroy': unknown \(known: .*memory"):
        configured("busybox", [], {"memroy": 1})
    with pytest.raises(InvalidArgument, match="must be a list of words"):
        configured("busybox", "echo hello", {})


def test_hosts_are_those_that_docker_users_expect() -> None:
    from pathlib import Path

    from cored.client.hosts import host_of, tls_of
    from cored.errors import InvalidArgument

    assert host_of("", {}) == "/run/cored/cored.sock"
    assert host_of("", {"CORED_HOST": "unix:///x", "CORED_ADDRESS": "/y"}) == "/x"
    assert host_of("tcp://h:1", {"CORED_HOST": "/x"}) == "tcp://h:1"
    assert tls_of("/x", environment={}) is None
    tls = tls_of("tcp://h:1", key="/k", environment={"CORED_CERT_PATH": "/certs"})
    assert tls is not None
    assert (tls.ca, tls.certificate, tls.key) == (
        Path("/certs/ca.pem"),
        Path("/certs/cert.pem"),
        "/k",
    )
    with pytest.raises(InvalidArgument, match="is never talked to without TLS"):
        tls_of("tcp://h:1", environment={"CORED_TLS_VERIFY": "0"})


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("tcp://h", "h", 2376), ("tcp://h:1/", "h", 1), ("tcp://[::1]:5", "::1", 5)],
)
def test_addresses_of_the_network(text: str, host: str, port: int) -> None:
    from cored.endpoints import Tcp, parsed

    assert parsed(text) == Tcp(host, port)


@pytest.mark.parametrize("text", ["tcp://", "tcp://h:x", "tcp://h:70000", "tcp://[::1", "http://h"])
def test_addresses_that_cannot_be(text: str) -> None:
    from cored.endpoints import parsed
    from cored.errors import InvalidArgument

    with pytest.raises(InvalidArgument, match="not understood"):
        parsed(text)
