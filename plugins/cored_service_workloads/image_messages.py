"""Values about images to messages of cored.workloads.v1, and back."""

from __future__ import annotations

from collections.abc import Iterable

from cored._pb.containerd.types import descriptor_pb2, mount_pb2
from cored._pb.cored.workloads.v1 import images_pb2, workloads_pb2
from cored.abc.records import Image
from cored.abc.values import Descriptor, Mount
from cored.engine.image_details import Inspection, Summary
from cored.engine.progress import Progress
from cored.engine.registry import Access, Credentials, keyring
from cored_service_workloads.messages import timestamp

__all__ = [
    "access_value",
    "credentials_value",
    "image_message",
    "inspection_message",
    "mount_message",
    "progress_message",
    "summary_message",
]


def credentials_value(message: images_pb2.RegistryAuth) -> Credentials:
    return Credentials(message.username, message.password, message.identity_token)


def access_value(messages: Iterable[images_pb2.RegistryAuth]) -> Access:
    """Each registry with its own credentials, for as long as the request lasts."""
    return keyring({message.host: credentials_value(message) for message in messages})


def progress_message(progress: Progress) -> workloads_pb2.TransferProgress:
    return workloads_pb2.TransferProgress(
        id=progress.id, status=progress.status, offset=progress.offset, total=progress.total
    )


def image_message(image: Image) -> workloads_pb2.Image:
    return workloads_pb2.Image(
        name=image.name,
        target=_descriptor(image.target),
        created_at=timestamp(image.created_at),
        labels=image.labels,
    )


def summary_message(summary: Summary) -> workloads_pb2.Image:
    message = image_message(summary.image)
    message.size = summary.size
    message.config_digest = summary.config_digest
    message.created = summary.created
    message.config_labels.update(summary.labels)
    message.platform = summary.platform
    return message


def inspection_message(found: Inspection) -> images_pb2.InspectImageResponse:
    return images_pb2.InspectImageResponse(
        name=found.image.name,
        target=_descriptor(found.image.target),
        names=found.names,
        manifest=_descriptor(found.part.target),
        config_digest=found.part.manifest.config.digest,
        config=found.config,
        layers=[
            images_pb2.ImageLayer(
                digest=layer.blob.digest,
                diff_id=layer.diff_id,
                size=layer.blob.size,
                unpacked_size=layer.unpacked,
            )
            for layer in found.layers
        ],
        created_at=timestamp(found.image.created_at),
        platforms=found.platforms,
    )


def mount_message(mount: Mount) -> mount_pb2.Mount:
    return mount_pb2.Mount(
        type=mount.type, source=mount.source, target=mount.target, options=mount.options
    )


def _descriptor(value: Descriptor) -> descriptor_pb2.Descriptor:
    return descriptor_pb2.Descriptor(
        media_type=value.media_type,
        digest=value.digest,
        size=value.size,
        annotations=value.annotations,
    )
