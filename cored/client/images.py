"""The verbs of cored.workloads.v1.Workloads about images and registries, typed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from google.protobuf.empty_pb2 import Empty

from cored._pb.cored.workloads.v1 import images_pb2, workloads_pb2
from cored.client.channel import Channel

__all__ = ["ImageVerbs"]

_SERVICE = "/cored.workloads.v1.Workloads/"
_BLOCK = 256 << 10


class ImageVerbs:
    """An image is named by a reference, complete or short, or by (the beginning of) its id."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    @property
    def channel(self) -> Channel:
        """What the calls go over."""
        return self._channel

    def pull(self, request: workloads_pb2.PullRequest) -> Iterator[workloads_pb2.TransferProgress]:
        """Fetch and unpack; the last message carries the image."""
        return self._channel.stream(f"{_SERVICE}Pull", (request,), workloads_pb2.TransferProgress)

    def push(self, request: images_pb2.PushRequest) -> Iterator[workloads_pb2.TransferProgress]:
        """Send to a registry; the last message carries the image as it is there."""
        return self._channel.stream(f"{_SERVICE}Push", (request,), workloads_pb2.TransferProgress)

    def import_archive(
        self, archive: BinaryIO, options: workloads_pb2.ImportOptions
    ) -> Iterator[workloads_pb2.TransferProgress]:
        """Load an OCI layout or docker-archive from an unbuffered file; ends with its images."""
        return self._channel.stream(
            f"{_SERVICE}Import", _import_requests(archive, options), workloads_pb2.TransferProgress
        )

    def export(self, references: Sequence[str], platforms: Sequence[str] = ()) -> Iterator[bytes]:
        """Images as an archive, piece by piece; without ``platforms`` all that are there."""
        request = images_pb2.ExportRequest(references=references, platforms=platforms)
        answers = self._channel.stream(f"{_SERVICE}Export", (request,), images_pb2.ExportResponse)
        return (answer.data for answer in answers)

    def images(self, filters: Iterable[str] = ()) -> list[workloads_pb2.Image]:
        """The images of the namespace that pass docker's filters."""
        answer = self._channel.unary(
            f"{_SERVICE}ListImages",
            workloads_pb2.ListImagesRequest(filters=filters),
            workloads_pb2.ListImagesResponse,
        )
        return list(answer.images)

    def inspect_image(self, reference: str, platform: str = "") -> images_pb2.InspectImageResponse:
        """Everything about one."""
        request = images_pb2.InspectImageRequest(reference=reference, platform=platform)
        return self._channel.unary(
            f"{_SERVICE}InspectImage", request, images_pb2.InspectImageResponse
        )

    def tag_image(self, source: str, target: str) -> None:
        """Give an image one more name."""
        request = images_pb2.TagImageRequest(source=source, target=target)
        self._channel.unary(f"{_SERVICE}TagImage", request, Empty)

    def remove_image(
        self, reference: str, *, force: bool = False
    ) -> workloads_pb2.RemoveImageResponse:
        """Remove an image's name, or by id all its names, and what only it needs."""
        request = workloads_pb2.RemoveImageRequest(reference=reference, force=force)
        return self._channel.unary(
            f"{_SERVICE}RemoveImage", request, workloads_pb2.RemoveImageResponse
        )

    def prune_images(
        self, filters: Iterable[str] = (), *, everything: bool = False
    ) -> images_pb2.PruneImagesResponse:
        """Remove images without names, or all that no container was made from."""
        request = images_pb2.PruneImagesRequest(filters=filters, all=everything)
        return self._channel.unary(
            f"{_SERVICE}PruneImages", request, images_pb2.PruneImagesResponse
        )

    def mount_image(self, request: images_pb2.MountImageRequest) -> images_pb2.MountImageResponse:
        """Mounts that show an image's files, for us to mount."""
        return self._channel.unary(f"{_SERVICE}MountImage", request, images_pb2.MountImageResponse)

    def unmount_image(self, target: str) -> None:
        """Give back what mount_image made for this target."""
        request = images_pb2.UnmountImageRequest(target=target)
        self._channel.unary(f"{_SERVICE}UnmountImage", request, Empty)

    def login(self, auth: images_pb2.RegistryAuth) -> str:
        """Ask a registry whether it knows a user; an identity token to show from now on, or ''."""
        request = images_pb2.LoginRequest(auth=auth)
        return self._channel.unary(
            f"{_SERVICE}Login", request, images_pb2.LoginResponse
        ).identity_token


def _import_requests(
    archive: BinaryIO, options: workloads_pb2.ImportOptions
) -> Iterator[workloads_pb2.ImportRequest]:
    yield workloads_pb2.ImportRequest(options=options)
    while data := archive.read(_BLOCK):
        yield workloads_pb2.ImportRequest(data=data)
