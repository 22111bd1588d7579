"""From a finished stage to an image: config, manifest, names."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cored.abc.content import ContentStore, write_blob
from cored.abc.records import Image, ImageStore
from cored.abc.values import Descriptor
from cored.engine.transfers import child_labels, put_images
from cored.oci import digest, mediatypes
from cored.oci.manifest import Index, Manifest, parse
from cored.oci.reference import parse as parse_reference
from cored_service_build.state import StageState, timestamp
from cored_service_build.values import Layer, Request, Result

__all__ = ["Results"]

_LAYERS = {
    mediatypes.DOCKER_LAYER: mediatypes.OCI_LAYER,
    mediatypes.DOCKER_LAYER_GZIP: mediatypes.OCI_LAYER_GZIP,
}


@dataclass(frozen=True, slots=True)
class Results:
    """Writes images. ``snapshotter`` is the id of that which has the layers."""

    content: ContentStore
    images: ImageStore
    snapshotter: str

    async def write(self, state: StageState, request: Request) -> Result:
        """Config and manifest into the store; nothing has a name yet."""
        config = _json(_document(state, request))
        reference = f"containerd.io/gc.ref.snapshot.{self.snapshotter}"
        labels = {reference: state.chain_id} if state.chain_id else {}
        config_digest = digest.of(config)
        blobs = [_oci(layer) for layer in state.layers]
        document = {
            "schemaVersion": 2,
            "mediaType": mediatypes.OCI_MANIFEST,
            "config": _entry(Descriptor(mediatypes.OCI_CONFIG, config_digest, len(config))),
            "layers": [_entry(blob) for blob in blobs],
        }
        manifest = _json(document)
        parsed = parse(manifest, mediatypes.OCI_MANIFEST)
        assert isinstance(parsed, Manifest)
        _, name = await asyncio.gather(
            self._blob(config, labels), self._blob(manifest, child_labels(parsed))
        )
        target = Descriptor(mediatypes.OCI_MANIFEST, name, len(manifest))
        return Result(target, config_digest, state.chain_id, tuple(state.layers))

    async def index(self, results: Sequence[Result], states: Sequence[StageState]) -> Result:
        """One for all platforms."""
        manifests = [
            {**_entry(result.target), "platform": _platform(state)}
            for result, state in zip(results, states, strict=True)
        ]
        document = {
            "schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": manifests,
        }  # fmt: skip
        index = _json(document)
        parsed = parse(index, mediatypes.OCI_INDEX)
        assert isinstance(parsed, Index)
        name = await self._blob(index, child_labels(parsed))
        return Result(Descriptor(mediatypes.OCI_INDEX, name, len(index)))

    async def name(self, result: Result, tags: Sequence[str]) -> list[Image]:
        """Give it its names; one without a name is called by its digest."""
        names = [str(parse_reference(tag)) for tag in tags]
        found = names or [result.target.digest]
        return await put_images(self.images, [Image(each, result.target) for each in found])

    async def _blob(self, data: bytes, labels: dict[str, str]) -> str:
        expected = digest.of(data)
        # builds that come to the same at the same time do not wait for each other
        ref = f"build-{uuid.uuid4().hex}"
        return await write_blob(self.content, ref, data, expected=expected, labels=labels)


def _document(state: StageState, request: Request) -> dict[str, Any]:
    created = state.created if request.epoch is None else timestamp(request.epoch)
    document = {**state.document, "created": created}
    config = dict(state.config)
    if request.labels:
        config["Labels"] = {**(config.get("Labels") or {}), **request.labels}
    document["config"] = {name: config[name] for name in sorted(config)}
    for legacy in ("container", "container_config", "docker_version", "id", "parent"):
        document.pop(legacy, None)
    diff_ids = [layer.diff_id for layer in state.layers]
    document["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
    return document


def _platform(state: StageState) -> dict[str, str]:
    names = ("architecture", "os", "variant")
    return {name: state.document[name] for name in names if state.document.get(name)}


def _oci(layer: Layer) -> Descriptor:
    blob = layer.blob
    kind = _LAYERS.get(blob.media_type, blob.media_type)
    return Descriptor(kind, blob.digest, blob.size)


def _entry(blob: Descriptor) -> dict[str, Any]:
    return {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}


def _json(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
