"""Hypothesis strategies for protobuf messages, from their descriptors alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

__all__ = ["any_bytes", "messages"]

_EDGES_32 = (0, 1, -1, 2**31 - 1, -(2**31))
_EDGES_64 = (*_EDGES_32, 2**32, 2**63 - 1, -(2**63))
_FLOATS = (0.0, -0.0, 1.5, 1e308, float("inf"), float("-inf"), float("nan"))
_DEPTH = 5
# a field number that no message has, as length-delimited, varint and group; and a known number
# with another wire type
_STRANGERS = (
    b"\xfa\xff\x01\x03abc",
    b"\xf8\xff\x01\x96\x01",
    b"\xfb\xff\x01\x08\x01\xfc\xff\x01",
    b"\x08\x01",
)


def messages(
    descriptor: Descriptor,
    words: Sequence[str],
    events: Sequence[Message] = (),
    places: Mapping[str, Sequence[str]] | None = None,
) -> st.SearchStrategy[Message]:
    """Messages of a type: any subset of their fields, edge values, nested up to five deep.

    ``words`` are strings that mean something to the receiver (names, digests, filters); ``events``
    are what an ``Any`` may hold; ``places`` maps field names that are opened, mounted or dialled to
    the only values that such a field gets.
    """
    return _Made(tuple(words), tuple(events), dict(places or {})).message(descriptor, _DEPTH)


def any_bytes(made: st.SearchStrategy[Message]) -> st.SearchStrategy[bytes]:
    """What ``made`` serialises to, with unknown fields, cut short, with flipped bytes, or noise."""

    def spoil(data: bytes, how: int, where: int, noise: bytes) -> bytes:
        at = where % (len(data) + 1)
        match how:
            case 0:
                return data + _STRANGERS[where % len(_STRANGERS)]
            case 1:
                return data[:at]
            case 2:
                return data[:at] + noise + data[at + len(noise) :]
            case 3:
                return data + noise
            case _:
                return noise

    return st.builds(
        spoil,
        made.map(lambda message: message.SerializeToString()),
        st.integers(0, 4),
        st.integers(0, 4096),
        st.binary(max_size=24),
    )


class _Made:
    def __init__(
        self, words: Sequence[str], events: Sequence[Message], places: Mapping[str, Sequence[str]]
    ) -> None:
        self.places = places
        self.text = st.one_of(
            st.sampled_from(words),
            st.sampled_from(words),  # twice: most requests should get past the first check
            st.text(max_size=12),
            st.sampled_from(("", " ", "../..", "a" * 77, "x" * 5000, "\0", "\n", "%00", "é" * 40)),
        )
        self.binary = st.one_of(
            st.binary(max_size=40), st.sampled_from((b"{}", b"null", b"[[", b"\0" * 70000))
        )
        self.events = events
        scalars: dict[int, Callable[[], st.SearchStrategy[Any]]] = {
            FieldDescriptor.CPPTYPE_BOOL: st.booleans,
            FieldDescriptor.CPPTYPE_INT32: lambda: _number(_EDGES_32, -(2**31), 2**31 - 1),
            FieldDescriptor.CPPTYPE_INT64: lambda: _number(_EDGES_64, -(2**63), 2**63 - 1),
            FieldDescriptor.CPPTYPE_UINT32: lambda: _number(_EDGES_32, 0, 2**32 - 1),
            FieldDescriptor.CPPTYPE_UINT64: lambda: _number(_EDGES_64, 0, 2**64 - 1),
            FieldDescriptor.CPPTYPE_ENUM: lambda: st.one_of(
                st.integers(0, 6), st.sampled_from((99, -1, 2**31 - 1))
            ),
            FieldDescriptor.CPPTYPE_DOUBLE: lambda: st.sampled_from(_FLOATS),
            FieldDescriptor.CPPTYPE_FLOAT: lambda: st.sampled_from(_FLOATS[:3] + _FLOATS[4:]),
        }
        self.scalars = scalars

    def message(self, descriptor: Descriptor, depth: int) -> st.SearchStrategy[Message]:
        if descriptor.full_name == "google.protobuf.Any":
            return self._any(descriptor)
        optional = {
            field.name: self._field(field, depth)
            for field in descriptor.fields
            if depth > 0 or field.cpp_type != FieldDescriptor.CPPTYPE_MESSAGE
        }
        made = message_factory.GetMessageClass(descriptor)
        return st.fixed_dictionaries({}, optional=optional).map(lambda fields: _make(made, fields))

    def _field(self, field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key, value = (field.message_type.fields_by_name[n] for n in ("key", "value"))
            return st.dictionaries(
                self._single(key, depth - 1), self._single(value, depth - 1), max_size=3
            )
        single = self._single(field, depth)
        return st.lists(single, max_size=3) if field.is_repeated else single

    def _single(self, field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
        if field.message_type is not None:
            return self.message(field.message_type, depth - 1)
        if field.type == FieldDescriptor.TYPE_STRING:
            return (
                st.sampled_from(self.places[field.name]) if field.name in self.places else self.text
            )
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self.binary
        return self.scalars[field.cpp_type]()

    def _any(self, descriptor: Descriptor) -> st.SearchStrategy[Message]:
        made = message_factory.GetMessageClass(descriptor)
        held = [
            made(type_url=event.DESCRIPTOR.full_name, value=event.SerializeToString())
            for event in self.events
        ]
        wild = st.builds(made, type_url=self.text, value=self.binary)
        return st.one_of(st.sampled_from(held), wild) if held else wild


def _number(edges: Sequence[int], low: int, high: int) -> st.SearchStrategy[int]:
    return st.one_of(
        st.sampled_from([n for n in edges if low <= n <= high]), st.integers(0, min(100, high))
    )


def _make(made: type[Message], fields: Mapping[str, Any]) -> Message:
    message = made()
    for name, value in fields.items():
        field = made.DESCRIPTOR.fields_by_name[name]
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        held = getattr(message, name)
        if is_map and field.message_type.fields_by_name["value"].message_type is not None:
            for key, entry in value.items():
                held[key].CopyFrom(entry)
        elif is_map:
            held.update(value)
        elif field.is_repeated:
            held.extend(value)
        elif field.message_type is not None:
            held.CopyFrom(value)
        else:
            setattr(message, name, value)
    return message
