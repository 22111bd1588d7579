"""Values to JSON and back, as the tables keep them."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

from cored.abc.records import Container, Image, Lease, Sandbox
from cored.abc.values import Descriptor, Platform, Typed

__all__ = [
    "container_row",
    "container_value",
    "dumped",
    "image_row",
    "image_value",
    "lease_row",
    "lease_value",
    "sandbox_row",
    "sandbox_value",
]


def dumped(value: Any) -> str:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"))


def _typed(value: Typed | None) -> list[str] | None:
    return None if value is None else [value.type_url, b64encode(value.value).decode()]


def _untyped(value: list[str] | None) -> Typed | None:
    return None if value is None else Typed(value[0], b64decode(value[1]))


def _extensions(values: Mapping[str, Typed]) -> dict[str, Any]:
    return {key: _typed(value) for key, value in values.items()}


def _unextended(values: Mapping[str, list[str]]) -> dict[str, Typed]:
    return {key: Typed(url, b64decode(data)) for key, (url, data) in values.items()}


def container_row(value: Container) -> str:
    return dumped(
        {
            "labels": dict(value.labels),
            "image": value.image,
            "runtime": value.runtime,
            "runtime_options": _typed(value.runtime_options),
            "spec": _typed(value.spec),
            "snapshotter": value.snapshotter,
            "snapshot_key": value.snapshot_key,
            "created_at": value.created_at,
            "updated_at": value.updated_at,
            "extensions": _extensions(value.extensions),
            "sandbox": value.sandbox,
        }
    )


def container_value(id: str, text: str) -> Container:
    row = json.loads(text)
    row["runtime_options"] = _untyped(row["runtime_options"])
    row["spec"] = _untyped(row["spec"])
    row["extensions"] = _unextended(row["extensions"])
    return Container(id=id, **row)


def sandbox_row(value: Sandbox) -> str:
    return dumped(
        {
            "runtime": value.runtime,
            "runtime_options": _typed(value.runtime_options),
            "spec": _typed(value.spec),
            "labels": dict(value.labels),
            "created_at": value.created_at,
            "updated_at": value.updated_at,
            "extensions": _extensions(value.extensions),
            "sandboxer": value.sandboxer,
        }
    )


def sandbox_value(id: str, text: str) -> Sandbox:
    row = json.loads(text)
    row["runtime_options"] = _untyped(row["runtime_options"])
    row["spec"] = _untyped(row["spec"])
    row["extensions"] = _unextended(row["extensions"])
    return Sandbox(id=id, **row)


def image_row(value: Image) -> str:
    target = value.target
    platform = target.platform
    return dumped(
        {
            "target": {
                "media_type": target.media_type,
                "digest": target.digest,
                "size": target.size,
                "annotations": dict(target.annotations),
                "artifact_type": target.artifact_type,
                "urls": list(target.urls),
                "platform": platform
                and {
                    "os": platform.os,
                    "architecture": platform.architecture,
                    "variant": platform.variant,
                    "os_version": platform.os_version,
                    "os_features": list(platform.os_features),
                },
            },
            "labels": dict(value.labels),
            "created_at": value.created_at,
            "updated_at": value.updated_at,
        }
    )


def image_value(name: str, text: str) -> Image:
    row = json.loads(text)
    target = row.pop("target")
    platform = target.pop("platform")
    if platform is not None:
        platform = Platform(**{**platform, "os_features": tuple(platform["os_features"])})
    target["urls"] = tuple(target["urls"])
    return Image(name=name, target=Descriptor(**target, platform=platform), **row)


def lease_row(value: Lease) -> str:
    return dumped({"labels": dict(value.labels), "created_at": value.created_at})


def lease_value(id: str, text: str) -> Lease:
    return Lease(id=id, **json.loads(text))
