"""containerd.services.introspection.v1.Introspection"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.daemons import Daemon
from tests.grpc_client import Client, kept, message, only_cored


def plugins(api: Client, *filters: str) -> dict[tuple[str, str], Any]:
    found = api.introspection.Plugins(filters=filters).plugins
    return {(p.type, p.id): p for p in found}


@pytest.mark.parametrize(
    "expected",
    [
        ("io.containerd.content.v1", "content"),
        ("io.containerd.snapshotter.v1", "overlayfs"),
        ("io.containerd.snapshotter.v1", "native"),
        ("io.containerd.gc.v1", "scheduler"),
        ("io.containerd.runtime.v2", "task"),
        *(
            ("io.containerd.grpc.v1", service)
            for service in (
                "containers", "content", "diff", "events", "healthcheck", "images",
                "introspection", "leases", "namespaces", "snapshots", "tasks", "version",
            )
        ),
    ],
)  # fmt: skip
def test_the_plugins_that_clients_look_for_are_there(
    api: Client, expected: tuple[str, str]
) -> None:
    plugin = plugins(api)[expected]
    assert not plugin.HasField("init_err")


def test_a_snapshotter_tells_its_root_and_platform(api: Client, server: Daemon) -> None:
    plugin = plugins(api)["io.containerd.snapshotter.v1", "overlayfs"]
    assert plugin.exports["root"].startswith(f"{server.home}/")
    (platform,) = plugin.platforms
    assert platform.os == "linux"
    assert platform.architecture in ("amd64", "arm64")


def test_no_namespace_is_needed(nobody: Client) -> None:
    assert plugins(nobody)
    assert nobody.introspection.Server().uuid


def test_filters(api: Client) -> None:
    everything = plugins(api)
    snapshotters = plugins(api, "type==io.containerd.snapshotter.v1")
    assert snapshotters.keys() == {
        key for key in everything if key[0] == "io.containerd.snapshotter.v1"
    }
    assert list(plugins(api, "type==io.containerd.snapshotter.v1,id==native")) == [
        ("io.containerd.snapshotter.v1", "native")
    ]
    assert plugins(api, "id==nonsense") == {}
    assert plugins(api, "type~=/snapshotter/", "id==content").keys() > snapshotters.keys()
    with api.refused("INVALID_ARGUMENT", "filter"):
        plugins(api, "type=")


def test_the_server_tells_who_it_is(api: Client, server: Daemon) -> None:
    first, second = api.introspection.Server(), api.introspection.Server()
    assert first == second
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", first.uuid)
    if not api.oracle:  # since 1.7
        assert server.process is not None
        assert first.pid == server.process.pid
        assert first.pidns == Path("/proc/self/ns/pid").stat().st_ino


@only_cored  # since 2.0
def test_a_plugin_is_shown_alone(api: Client) -> None:
    for (type, id), plugin in plugins(api).items():
        assert api.introspection.PluginInfo(type=type, id=id).plugin == plugin
    with api.refused("NOT_FOUND", "nonsense"):
        api.introspection.PluginInfo(type="io.containerd.snapshotter.v1", id="nonsense")


@only_cored
def test_a_runtime_tells_its_version(api: Client) -> None:
    wanted = message("containerd.types.RuntimeRequest", runtime_path="io.containerd.runc.v2")
    answer = api.introspection.PluginInfo(
        type="io.containerd.runtime.v2",
        id="task",
        options=kept("containerd.types.RuntimeRequest", wanted),
    )
    assert answer.extra.type_url == "containerd.types.RuntimeInfo"
    info = message("containerd.types.RuntimeInfo")
    info.ParseFromString(answer.extra.value)
    assert info.name
    assert info.version.version


@only_cored
def test_bad_options_are_refused(api: Client) -> None:
    for code, id, options in (
        ("INVALID_ARGUMENT", "task", kept("containerd.types.RuntimeRequest", b"\xff")),
        ("UNIMPLEMENTED", "task", kept("some.Other", b"\x08\x01")),
        ("NOT_FOUND", "nonsense", kept("containerd.types.RuntimeRequest")),
    ):
        with api.refused(code):
            api.introspection.PluginInfo(type="io.containerd.runtime.v2", id=id, options=options)
    with api.refused("UNIMPLEMENTED"):
        api.introspection.PluginInfo(
            type="io.containerd.gc.v1", id="scheduler", options=kept("some.Other")
        )
