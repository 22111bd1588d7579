"""The generated messages: complete, and under the names that clients know."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool

SOURCES = Path(__file__).parents[2] / "proto"


def _file(path: Path) -> object:
    name = path.relative_to(SOURCES).with_suffix("").as_posix().replace("/", ".")
    importlib.import_module(f"cored._pb.{name}_pb2")
    return descriptor_pool.Default().FindFileByName(path.relative_to(SOURCES).as_posix())


def test_the_daemon_api_has_sixteen_services_and_88_methods() -> None:
    services = {}
    for path in (SOURCES / "containerd" / "services").rglob("*.proto"):
        for service in _file(path).services_by_name.values():  # type: ignore[attr-defined]
            services[service.full_name] = len(service.methods)
    services.pop("containerd.services.events.ttrpc.v1.Events")
    assert len(services) == 16
    assert sum(services.values()) == 88


def test_the_cri_has_two_services_and_43_methods() -> None:
    services = _file(SOURCES / "cri/v1/api.proto").services_by_name  # type: ignore[attr-defined]
    assert {name: len(one.methods) for name, one in services.items()} == {
        "RuntimeService": 37,
        "ImageService": 6,
    }


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_a_shim_answers_seventeen_methods(version: str) -> None:
    (task,) = _file(SOURCES / f"containerd/task/{version}/shim.proto").services_by_name.values()  # type: ignore[attr-defined]
    assert len(task.methods) == 17


@pytest.mark.parametrize("path", sorted(SOURCES.rglob("*.proto")), ids=lambda p: p.stem)
def test_packages_follow_paths(path: Path) -> None:
    package = _file(path).package  # type: ignore[attr-defined]
    folder = path.parent.relative_to(SOURCES).as_posix().replace("/", ".")
    if folder == "containerd.events" and path.stem == "image":
        folder = "containerd.services.images.v1"
    if folder == "cri.v1":
        folder = "runtime.v1"
    assert package == folder
