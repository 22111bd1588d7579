"""Images."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from cored._pb.cored.workloads.v1 import images_pb2
from cored._pb.cored.workloads.v1 import workloads_pb2 as pb
from cored.client.api import conversion
from cored.client.api.values import Image, Progress, Pruned

if TYPE_CHECKING:
    from cored.client.client import Client

__all__ = ["Auth", "Images"]


@dataclass(frozen=True, slots=True)
class Auth:
    """A user at a registry; ``host`` as in references: docker.io, registry.example:5000."""

    host: str
    username: str
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


class Images:
    """An image is named by a reference, complete or short, or by (the beginning of) its id."""

    def __init__(self, client: Client) -> None:
        self._calls = client.workloads

    def list(self, filters: Sequence[str] = ()) -> list[Image]:
        """Those that pass docker's filters: ``reference=*box*``, ``dangling=true``.

        >>> [image.name for image in client.images.list(["reference=busybox"])]
        ['docker.io/library/busybox:latest']
        """
        return [_image(one) for one in self._calls.images(filters)]

    def inspect(self, reference: str, platform: str = "") -> dict[str, Any]:
        """An image's configuration, as the OCI specification has it. NotFound.

        >>> client.images.inspect("busybox")["os"]
        'linux'
        """
        found: dict[str, Any] = json.loads(self._calls.inspect_image(reference, platform).config)
        return found

    def pull(
        self,
        reference: str,
        *,
        platform: str = "",
        all_platforms: bool = False,
        auth: Sequence[Auth] = (),
    ) -> Image:
        """Fetch and unpack one. NotFound, PermissionDenied, Unavailable as the registry has it."""
        request = pb.PullRequest(
            reference=reference,
            platform=platform,
            all_platforms=all_platforms,
            auths=map(_auth, auth),
        )
        return _last(self._calls.pull(request))

    def watch_pull(self, reference: str, *, auth: Sequence[Auth] = ()) -> Iterator[Progress]:
        """The same, told as it goes; it ends with the iterator, also when that is closed."""
        request = pb.PullRequest(reference=reference, auths=map(_auth, auth))
        for message in self._calls.pull(request):
            yield conversion.value(Progress, message)

    def push(
        self,
        reference: str,
        destination: str = "",
        *,
        platform: str = "",
        all_platforms: bool = False,
        auth: Sequence[Auth] = (),
    ) -> Image:
        """Send one to the registry of its name, or of ``destination``."""
        request = images_pb2.PushRequest(
            reference=reference,
            destination=destination,
            platform=platform,
            all_platforms=all_platforms,
            auths=map(_auth, auth),
        )
        return _last(self._calls.push(request))

    def load(self, archive: BinaryIO | bytes, *, name: str = "") -> tuple[Image, ...]:
        """Images of an OCI layout or docker-archive; ``name`` for one that has none."""
        file = io.BytesIO(archive) if isinstance(archive, bytes) else archive
        found = self._calls.import_archive(file, pb.ImportOptions(name=name))
        return tuple(_image(one.image) for one in found if one.HasField("image"))

    def save(self, references: Sequence[str], platforms: Sequence[str] = ()) -> Iterator[bytes]:
        """Images as one archive, piece by piece; the same images give the same bytes.

        >>> archive = b"".join(client.images.save(["busybox"]))
        >>> [image.name for image in client.images.load(archive)]
        ['docker.io/library/busybox:latest']
        """
        yield from self._calls.export(references, platforms)

    def tag(self, source: str, target: str) -> None:
        """One more name for an image."""
        self._calls.tag_image(source, target)

    def remove(self, reference: str, *, force: bool = False) -> Pruned:
        """Take a name away, or by id all of them; and with the last one the image."""
        found = self._calls.remove_image(reference, force=force)
        return Pruned((*found.untagged, *found.deleted), 0)

    def prune(self, filters: Sequence[str] = (), *, all: bool = False) -> Pruned:
        """Remove those without a name, or all that no container was made from."""
        found = self._calls.prune_images(filters, everything=all)
        return Pruned((*found.untagged, *found.deleted), found.reclaimed)

    def login(self, auth: Auth) -> str:
        """Ask a registry whether it knows a user. An identity token for next time, or ''."""
        return self._calls.login(_auth(auth))


def _auth(auth: Auth) -> images_pb2.RegistryAuth:
    return images_pb2.RegistryAuth(
        host=auth.host,
        username=auth.username,
        password=auth.password,
        identity_token=auth.identity_token,
    )


def _last(messages: Iterable[pb.TransferProgress]) -> Image:
    found = None
    for message in messages:
        if message.HasField("image"):
            found = message.image
    assert found is not None  # the API's promise
    return _image(found)


def _image(message: pb.Image) -> Image:
    return Image(
        message.name,
        message.target.digest,
        message.config_digest,
        message.size,
        message.platform,
        dict(message.config_labels),
        conversion.moment(message.created_at),
    )
