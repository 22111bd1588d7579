"""Indexes, manifests and configs as values (image-spec); docker's schema 2 reads the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cored.errors import InvalidArgument, NotFound, Unimplemented
from cored.oci import digest, mediatypes, platforms
from cored.oci.values import Descriptor, Platform

__all__ = ["ImageConfig", "ImageHealth", "Index", "Manifest", "descriptor", "parse", "parse_config"]

_MOST_CHILDREN = 4096


@dataclass(frozen=True, slots=True)
class Manifest:
    """One platform's image: its config, and its layers from the bottom; or an artifact.

    ``subject`` is the manifest that this one says something about.
    """

    config: Descriptor
    layers: tuple[Descriptor, ...]
    artifact_type: str = ""
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def children(self) -> tuple[Descriptor, ...]:
        return (self.config, *self.layers)


@dataclass(frozen=True, slots=True)
class Index:
    """Manifests for several platforms."""

    manifests: tuple[Descriptor, ...]
    artifact_type: str = ""
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def children(self) -> tuple[Descriptor, ...]:
        return self.manifests

    def choose(self, what: str, wanted: Platform) -> Descriptor:
        """The manifest that fits best. NotFound says which platforms there are."""
        ranked = []
        for number, entry in enumerate(self.manifests):
            if entry.annotations.get("vnd.docker.reference.type") == "attestation-manifest":
                continue
            rank = platforms.rank(wanted, entry.platform) if entry.platform else 1000
            if rank is not None:
                ranked.append((rank, number, entry))
        if ranked:
            return min(ranked)[2]
        there = sorted({platforms.format(e.platform) for e in self.manifests if e.platform})
        raise NotFound(
            f"image {what!r}: has nothing for {platforms.format(wanted)}",
            hint=f"there is {', '.join(there) or 'nothing'}",
        )


@dataclass(frozen=True, slots=True)
class ImageHealth:
    """docker's HEALTHCHECK: ``test`` is NONE, CMD and words, or CMD-SHELL, a line; times in ns."""

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    retries: int = 0
    start_period: int = 0
    start_interval: int = 0


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image says of itself and of how to run it."""

    platform: Platform
    diff_ids: tuple[str, ...]
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""
    stop_signal: str = ""
    volumes: tuple[str, ...] = ()
    exposed_ports: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    created: str = ""
    health: ImageHealth | None = None
    shell: tuple[str, ...] = ()


def descriptor(document: Any) -> Descriptor:
    """A descriptor from JSON. InvalidArgument."""
    if not isinstance(document, dict):
        raise InvalidArgument("image manifest: a descriptor is not an object")
    size = document.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise InvalidArgument(f"image manifest: a descriptor's size is {size!r}")
    platform = document.get("platform")
    return Descriptor(
        media_type=_text(document, "mediaType"),
        digest=digest.check(document.get("digest")),
        size=size,
        annotations=_map(document, "annotations"),
        platform=_platform(platform) if isinstance(platform, dict) else None,
        artifact_type=_text(document, "artifactType"),
        urls=_list(document, "urls"),
    )


def parse(data: bytes, media_type: str = "") -> Manifest | Index:
    """An index or a manifest. InvalidArgument; Unimplemented for docker's schema 1."""
    document = _object(data, "image manifest")
    kind = media_type or _text(document, "mediaType")
    if kind in mediatypes.SCHEMA_1 or document.get("schemaVersion") == 1:
        raise Unimplemented(
            "image manifest: is of docker's schema 1, which is no longer supported",
            hint="push the image again with a current tool",
        )
    if "manifests" in document and ("layers" in document or "config" in document):
        # two readers could take it for two different things (image-spec 1.0.2)
        raise InvalidArgument("image manifest: is an index and a manifest at once")
    kept = _text(document, "artifactType"), _subject(document), _map(document, "annotations")
    if kind in mediatypes.INDEXES or (not kind and "manifests" in document):
        return Index(_descriptors(document, "manifests"), *kept)
    if kind in mediatypes.MANIFESTS or (not kind and "config" in document):
        layers = _descriptors(document, "layers")
        return Manifest(descriptor(document.get("config")), layers, *kept)
    raise InvalidArgument(f"image manifest: unknown media type {kind!r}")


def parse_config(data: bytes) -> ImageConfig:
    """An image's config. InvalidArgument."""
    document = _object(data, "image config")
    config = document.get("config") or {}
    rootfs = document.get("rootfs") or {}
    if not isinstance(config, dict) or not isinstance(rootfs, dict):
        raise InvalidArgument("image config: config and rootfs must be objects")
    return ImageConfig(
        platform=platforms.normalized(_platform(document)),
        diff_ids=tuple(digest.check(entry) for entry in _list(rootfs, "diff_ids")),
        env=_list(config, "Env"),
        entrypoint=_list(config, "Entrypoint"),
        cmd=_list(config, "Cmd"),
        working_dir=_text(config, "WorkingDir"),
        user=_text(config, "User"),
        stop_signal=_text(config, "StopSignal"),
        volumes=tuple(config.get("Volumes") or {}),
        exposed_ports=tuple(config.get("ExposedPorts") or {}),
        labels=_map(config, "Labels"),
        created=_text(document, "created"),
        health=_health(config.get("Healthcheck")),
        shell=_list(config, "Shell"),
    )


def _health(found: Any) -> ImageHealth | None:
    if not isinstance(found, dict):
        return None
    names = ("Interval", "Timeout", "Retries", "StartPeriod", "StartInterval")
    numbers = [value if isinstance(value := found.get(n), int) else 0 for n in names]
    return ImageHealth(_list(found, "Test"), *numbers)


def _subject(document: Mapping[str, Any]) -> Descriptor | None:
    found = document.get("subject")
    return descriptor(found) if found is not None else None


def _platform(document: Mapping[str, Any]) -> Platform:
    return Platform(
        os=_text(document, "os"),
        architecture=_text(document, "architecture"),
        variant=_text(document, "variant"),
        os_version=_text(document, "os.version"),
        os_features=_list(document, "os.features"),
    )


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except ValueError as error:
        raise InvalidArgument(f"{what}: is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidArgument(f"{what}: is not a JSON object")
    return document


def _descriptors(document: Mapping[str, Any], key: str) -> tuple[Descriptor, ...]:
    entries = document.get(key) or []
    if not isinstance(entries, list) or len(entries) > _MOST_CHILDREN:
        raise InvalidArgument(f"image manifest: {key} is not a list of at most {_MOST_CHILDREN}")
    return tuple(descriptor(entry) for entry in entries)


def _text(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ""


def _list(document: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value: Sequence[Any] = document.get(key) or ()
    if not isinstance(value, list | tuple):
        raise InvalidArgument(f"image: {key} is not a list")
    return tuple(str(entry) for entry in value)


def _map(document: Mapping[str, Any], key: str) -> dict[str, str]:
    value = document.get(key) or {}
    if not isinstance(value, dict):
        raise InvalidArgument(f"image: {key} is not an object")
    return {str(name): str(text) for name, text in value.items()}
