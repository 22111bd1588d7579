"""Every RPC of containerd's API is there, 16 services, 88 RPCs, and wants to know a namespace."""

from __future__ import annotations

import grpc
import pytest

from tests.grpc_client import RPCS, SERVICES, Client, only_cored

COUNTS = {
    "containers": 6, "content": 9, "controller": 9, "diff": 2, "events": 3, "images": 5,
    "introspection": 3, "leases": 6, "mounts": 5, "namespaces": 5, "snapshots": 10, "store": 5,
    "streaming": 1, "tasks": 17, "transfer": 1, "version": 1,
}  # fmt: skip


# they look at the whole daemon; of events, an envelope brings its namespace
WITHOUT = {("events", "Forward"), ("events", "Subscribe")}


def test_there_are_88() -> None:
    assert COUNTS.keys() == SERVICES.keys()
    assert sum(COUNTS.values()) == 88


@only_cored
@pytest.mark.parametrize("service", sorted(SERVICES))
def test_each_has_its_methods(api: Client, service: str) -> None:
    rpcs = getattr(api, service)
    names = [method.name for method in rpcs._descriptor.methods]
    assert len(names) == COUNTS[service]
    for name in names:
        rpc = getattr(rpcs, name)
        call = rpc([], timeout=5) if rpc.streams_in else None
        try:
            answer = call if call is not None else rpc(timeout=0.5 if name == "Subscribe" else 5)
            if rpc.streams_out:
                next(answer, None)
        except grpc.RpcError as error:
            # what grpc itself says where there is no handler
            assert error.details() != "Method not found!", f"{service}.{name}"


@only_cored
@pytest.mark.parametrize(
    ("service", "name"),
    [
        rpc
        for rpc in RPCS
        if rpc not in WITHOUT and rpc[0] not in ("introspection", "namespaces", "version")
    ],
)
def test_each_needs_a_namespace(nobody: Client, service: str, name: str) -> None:
    rpc = getattr(getattr(nobody, service), name)
    with nobody.refused("FAILED_PRECONDITION", "namespace"):
        answer = rpc([rpc.request()]) if rpc.streams_in else rpc()
        if rpc.streams_out:
            next(answer)
