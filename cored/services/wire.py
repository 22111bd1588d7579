"""The conversions that several services need: values of :mod:`cored.abc` to messages and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.timestamp_pb2 import Timestamp

from cored._pb.containerd.types import descriptor_pb2, mount_pb2
from cored.abc.values import Descriptor, Labels, Mount, Typed
from cored.errors import InvalidArgument

__all__ = [
    "descriptor_message",
    "descriptor_value",
    "label_changes",
    "labels_value",
    "mount_message",
    "mount_values",
    "nanoseconds",
    "timestamp",
    "typed_message",
    "typed_value",
]

_NS = 1_000_000_000
# the years 1 to 9999: what a Timestamp may say
_FIRST = -62_135_596_800
_LAST = 253_402_300_799


def timestamp(ns: int) -> Timestamp | None:
    """A Timestamp from ns since the epoch; None (an absent field) for 0."""
    return Timestamp(seconds=ns // _NS, nanos=ns % _NS) if ns else None


def nanoseconds(message: Timestamp) -> int:
    """ns since the epoch; 0 for an absent Timestamp. InvalidArgument for what is no date."""
    if not (_FIRST <= message.seconds <= _LAST and 0 <= message.nanos < _NS):
        raise InvalidArgument(f"timestamp {message.seconds} s {message.nanos} ns: is no date")
    return int(message.seconds * _NS + message.nanos)


def typed_message(value: Typed | None) -> AnyMessage | None:
    """An Any that carries the type URL as it is, without a prefix (compat.md, A)."""
    return None if value is None else AnyMessage(type_url=value.type_url, value=value.value)


def typed_value(holder: Any, name: str) -> Typed | None:
    """The field ``name`` of a message as a value; None when it is absent."""
    if not holder.HasField(name):
        return None
    found = getattr(holder, name)
    return Typed(found.type_url, found.value)


def mount_message(mount: Mount) -> mount_pb2.Mount:
    """A mount as a message."""
    return mount_pb2.Mount(
        type=mount.type, source=mount.source, target=mount.target, options=mount.options
    )


def mount_values(mounts: Iterable[mount_pb2.Mount]) -> list[Mount]:
    """Messages as mounts."""
    return [Mount(m.type, m.source, m.target, tuple(m.options)) for m in mounts]


def descriptor_message(value: Descriptor) -> descriptor_pb2.Descriptor:
    """A descriptor as a message; platform and urls do not travel in containerd's."""
    return descriptor_pb2.Descriptor(
        media_type=value.media_type,
        digest=value.digest,
        size=value.size,
        annotations=value.annotations,
    )


def descriptor_value(message: descriptor_pb2.Descriptor) -> Descriptor:
    """A message as a descriptor."""
    return Descriptor(message.media_type, message.digest, message.size, dict(message.annotations))


def labels_value(labels: Mapping[str, str]) -> dict[str, str]:
    """A map of a message: one without a value is none (containerd keeps none either)."""
    return {key: value for key, value in labels.items() if value}


def label_changes(labels: Labels, paths: Sequence[str]) -> tuple[Mapping[str, str | None], bool]:
    """(changes, replace) for seams whose only mutable field is their labels.

    An empty mask and ``labels`` replace all of them; ``labels.<key>`` (dots in the key kept) sets
    one, or removes it when the record does not have it.
    """
    changes: dict[str, str | None] = {}
    for path in paths:
        noun, dot, key = path.partition(".")
        if noun != "labels" or bool(dot) != bool(key):
            raise InvalidArgument(
                f"field mask path {path!r}: cannot be updated", hint="labels, or labels.<key>"
            )
        changes[key] = labels.get(key)
    if not paths or "labels" in paths:
        return labels_value(labels), True
    return changes, False
