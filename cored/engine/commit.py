"""Commit: an image of what a container has become."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cored.abc.content import ContentStore, read_blob, write_blob
from cored.abc.differ import Differ
from cored.abc.records import Image, ImageStore, LeaseStore
from cored.abc.values import Descriptor
from cored.engine.adjustments import Adjustments
from cored.engine.containers import Containers
from cored.engine.files import Files
from cored.engine.images import Images
from cored.engine.transfers import leased, put_images
from cored.engine.unpack import Unpacker
from cored.engine.workload import ContainerConfig, ContainerView
from cored.oci import changes, mediatypes
from cored.oci.manifest import parse as parse_manifest
from cored.oci.manifest import parse_config
from cored.oci.reference import parse as parse_reference

__all__ = ["Committer", "Wish"]

_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_REF = "containerd.io/gc.ref.content"


@dataclass(frozen=True, slots=True)
class Wish:
    """What the image is to be: ``reference`` '' is none, ``changes`` are a Dockerfile's lines."""

    reference: str = ""
    author: str = ""
    message: str = ""
    changes: Sequence[str] = ()
    pause: bool = True


class Committer:
    """Puts containers and images together."""

    def __init__(
        self,
        containers: Containers,
        adjustments: Adjustments,
        files: Files,
        images: Images,
        store: ImageStore,
        content: ContentStore,
        leases: LeaseStore,
        differs: Mapping[str, Differ],
        unpacker: Unpacker,
    ) -> None:
        self._containers = containers
        self._adjustments = adjustments
        self._files = files
        self._images = images
        self._store = store
        self._content = content
        self._leases = leases
        self._differ = next(iter(differs.values()))
        self._unpacker = unpacker

    async def commit(self, name: str, wish: Wish) -> tuple[str, Descriptor]:
        """The id (docker's: the config's digest) and the manifest. InvalidArgument, NotFound."""
        reference = str(parse_reference(wish.reference)) if wish.reference else ""
        edits = [changes.parse(line) for line in wish.changes]
        view = await self._containers.view(name)
        async with leased(self._leases, "commit"):
            layer = await self._layer(view, pause=wish.pause)
            id, target = await self._image(view, layer, wish, edits)
            record = Image(reference or target.digest, target)
            await put_images(self._store, [record])
            manifest = parse_manifest(await read_blob(self._content, target.digest))
            config = parse_config(await read_blob(self._content, id))
            await self._unpacker.unpack(
                manifest,  # type: ignore[arg-type]
                config,
                snapshotter=view.record.snapshotter,
            )
        await self._containers.tell(view.record, "commit", comment=wish.message)
        return id, target

    async def _layer(self, view: ContainerView, *, pause: bool) -> Descriptor:
        async with AsyncExitStack() as stack:
            if pause and view.status == "running":
                await self._adjustments.pause(view.record.id)
                stack.push_async_callback(self._adjustments.unpause, view.record.id)
            lower = await stack.enter_async_context(self._files.parent(view.record))
            upper = await self._containers.rootfs(view.record)
            spec = json.loads(view.record.spec.value) if view.record.spec else {}
            places = [mount["destination"] for mount in spec.get("mounts", ())]
            return await self._differ.compare(lower, upper, media_type=_LAYER, targets=places)

    async def _image(
        self, view: ContainerView, layer: Descriptor, wish: Wish, edits: Sequence[changes.Edit]
    ) -> tuple[str, Descriptor]:
        base = await self._images.resolve(view.record.image)
        unpacked = await self._images.unpacked(base, view.config.platform)
        raw = await read_blob(self._content, unpacked.config_digest)
        info = await self._content.info(layer.digest)
        document = json.loads(raw)
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        document |= {"created": now, "config": _config(document.get("config") or {}, view.config)}
        for edit in edits:
            edit(document["config"])
        if wish.author:
            document["author"] = wish.author
        document["rootfs"]["diff_ids"].append(info.labels["containerd.io/uncompressed"])
        step = {"created": now, "created_by": " ".join(view.command), "author": wish.author}
        history = document.setdefault("history", [])
        history.append({k: v for k, v in {**step, "comment": wish.message}.items() if v})
        data = json.dumps(document).encode()
        id = await write_blob(self._content, f"commit-{view.record.id}-config", data)
        config = Descriptor(mediatypes.OCI_CONFIG, id, len(data))
        layers = [*unpacked.manifest.layers, layer]
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": mediatypes.OCI_MANIFEST,
                "config": _described(config),
                "layers": [_described(one) for one in layers],
            }
        ).encode()
        labels = {f"{_REF}.config": id}
        labels |= {f"{_REF}.l.{number}": one.digest for number, one in enumerate(layers)}
        ref = f"commit-{view.record.id}-manifest"
        digest = await write_blob(self._content, ref, manifest, labels=labels)
        return id, Descriptor(mediatypes.OCI_MANIFEST, digest, len(manifest))


def _described(one: Descriptor) -> dict[str, object]:
    return {"mediaType": one.media_type, "digest": one.digest, "size": one.size}


def _config(image: Mapping[str, Any], config: ContainerConfig) -> dict[str, Any]:
    """The image's, and over it what the container was made with."""
    found = dict(image)
    if config.entrypoint is not None:
        found["Entrypoint"] = list(config.entrypoint) or None
        found["Cmd"] = list(config.args) or None
    elif config.args:
        found["Cmd"] = list(config.args)
    env = dict(entry.partition("=")[::2] for entry in (*(image.get("Env") or ()), *config.env))
    if env:
        found["Env"] = [f"{name}={value}" for name, value in env.items()]
    for key, value in (
        ("User", config.user),
        ("WorkingDir", config.working_directory),
        ("StopSignal", config.stop_signal),
    ):
        if value:
            found[key] = value
    if config.labels:
        found["Labels"] = {**(image.get("Labels") or {}), **config.labels}
    return found
