"""runtime.v1.ImageService: images as a kubelet manages them. A service of its own."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

from cored._pb.cri.v1 import api_pb2 as pb
from cored.abc.records import ImageStore
from cored.abc.service import Service
from cored.engine.images import Images
from cored.engine.naming import Naming
from cored.engine.pull import Puller
from cored.engine.registry import ANONYMOUS, Access, Credentials, keyring, known_user
from cored.engine.selection import single
from cored.engine.snapshotters import Snapshotters
from cored.errors import InvalidArgument, NotFound
from cored.hookspecs import PluginContext
from cored.oci.reference import parse as parse_reference
from cored_service_cri.imagefacts import PINNED, ImageFacts
from cored_service_cri.usage import Filesystem, by_handler
from cored_service_cri.values import NAMESPACE

__all__ = ["ImageService", "opened"]

_MANAGED = {"io.cri-containerd.image": "managed"}
_PAGE = 100


class ImageService(Service):
    """``pinned`` are names of images that a kubelet's garbage collection is to leave alone;
    ``snapshotters`` those that images are unpacked for, by runtime handler, where not the usual."""

    service = "runtime.v1.ImageService"
    scoped = False
    namespace = NAMESPACE

    def __init__(
        self,
        facts: ImageFacts,
        store: ImageStore,
        puller: Puller,
        filesystem: Filesystem,
        pinned: frozenset[str],
        snapshotters: Mapping[str, str],
    ) -> None:
        self._facts = facts
        self._store = store
        self._puller = puller
        self._filesystem = filesystem
        self._pinned = pinned
        self._by_handler = snapshotters
        self._removing = asyncio.Lock()

    async def ListImages(self, request: pb.ListImagesRequest) -> pb.ListImagesResponse:
        return pb.ListImagesResponse(images=await self._list(request.filter))

    async def StreamImages(
        self, request: pb.StreamImagesRequest
    ) -> AsyncIterator[pb.StreamImagesResponse]:
        found = await self._list(request.filter)
        for start in range(0, max(1, len(found)), _PAGE):
            yield pb.StreamImagesResponse(images=found[start : start + _PAGE])

    async def ImageStatus(self, request: pb.ImageStatusRequest) -> pb.ImageStatusResponse:
        try:
            found = await self._facts.find(request.image.image)
        except NotFound:
            return pb.ImageStatusResponse()
        info = {}
        if request.verbose:
            unpacked = found.unpacked
            table = {
                "chainID": unpacked.chain_id,
                "imageSpec": {
                    "os": unpacked.config.platform.os,
                    "architecture": unpacked.config.platform.architecture,
                    "config": {
                        "User": unpacked.config.user, "Env": unpacked.config.env,
                        "Entrypoint": unpacked.config.entrypoint, "Cmd": unpacked.config.cmd,
                        "WorkingDir": unpacked.config.working_dir,
                        "Labels": dict(unpacked.config.labels),
                    },
                },
            }  # fmt: skip
            info["info"] = json.dumps(table)
        return pb.ImageStatusResponse(image=found.message(), info=info)

    async def PullImage(self, request: pb.PullImageRequest) -> pb.PullImageResponse:
        reference = str(parse_reference(request.image.image))
        labels = dict(_MANAGED)
        if reference in self._pinned:
            labels[PINNED] = "pinned"
        access = _access(request.auth) if request.HasField("auth") else ANONYMOUS
        snapshotter = self._by_handler.get(request.image.runtime_handler, "")
        await self._puller.pull(
            reference, single("", snapshotter), naming=Naming(reference, labels), access=access
        )
        return pb.PullImageResponse(image_ref=(await self._facts.find(reference)).id)

    async def RemoveImage(self, request: pb.RemoveImageRequest) -> pb.RemoveImageResponse:
        try:
            found = await self._facts.find(request.image.image)
        except NotFound:
            return pb.RemoveImageResponse()
        # one after the other: of several that remove the same, all but one find it gone
        async with self._removing:
            for name in found.names:
                with suppress(NotFound):
                    await self._store.delete(name)
        return pb.RemoveImageResponse()

    async def ImageFsInfo(self, request: pb.ImageFsInfoRequest) -> pb.ImageFsInfoResponse:
        del request
        usage = await self._filesystem.used()
        answer = pb.FilesystemUsage(
            timestamp=time.time_ns(),
            fs_id=pb.FilesystemIdentifier(mountpoint=self._filesystem.place),
            used_bytes=pb.UInt64Value(value=usage.size),
            inodes_used=pb.UInt64Value(value=usage.inodes),
        )
        return pb.ImageFsInfoResponse(image_filesystems=[answer], container_filesystems=[answer])

    async def _list(self, wanted: pb.ImageFilter) -> list[pb.Image]:
        if not wanted.image.image:
            return [one.message() for one in await self._facts.list()]
        try:
            return [(await self._facts.find(wanted.image.image)).message()]
        except NotFound:
            return []


def _access(auth: pb.AuthConfig) -> Access:
    """What a kubelet's credentials are, sent only to the registry that they are for."""
    username, password = auth.username, auth.password
    if auth.auth:
        try:
            username, _, password = base64.b64decode(auth.auth).decode().partition(":")
        except (binascii.Error, ValueError) as error:
            raise InvalidArgument("auth: is not base64 of user:password") from error
    credentials = Credentials(
        username,
        password.rstrip("\0"),
        auth.identity_token,
        f"Bearer {auth.registry_token}" if auth.registry_token else "",
    )
    if not auth.server_address:
        return known_user(credentials)
    host = auth.server_address.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return keyring({host: credentials})


@asynccontextmanager
async def opened(context: PluginContext) -> AsyncIterator[Service]:
    """Open it, and pin the images that are to stay."""
    settings = context.settings
    snapshotters = by_handler(settings)
    pinned = frozenset(str(parse_reference(name)) for name in settings.get("pinned", ()))
    store: ImageStore = context.require(ImageStore)  # type: ignore[type-abstract]
    service = ImageService(
        ImageFacts(context.require(Images), store, pinned),
        store,
        context.require(Puller),
        Filesystem(context.require(Snapshotters), str(context.root.parent), snapshotters.values()),
        pinned,
        snapshotters,
    )
    yield service
