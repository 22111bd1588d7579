"""The shim's hand-written protobuf codec, message by message beside the generated classes."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from coreshim.codec import DecodeError, decode, encode, encode_table
from coreshim.messages import MESSAGES, PROTOBUF_NAMES
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

_MODULES = (
    "cored._pb.containerd.events.task_pb2",
    "cored._pb.containerd.runc.v1.oci_pb2",
    "cored._pb.containerd.services.events.ttrpc.v1.events_pb2",
    "cored._pb.containerd.task.v2.shim_pb2",
    "cored._pb.containerd.task.v3.shim_pb2",
    "cored._pb.google.rpc.status_pb2",
    "cored._pb.ttrpc.request_pb2",
    "google.protobuf.empty_pb2",
)
_INTS = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    # the tables know one kind of integer, which is signed; no message of a shim goes beyond
    FieldDescriptor.TYPE_UINT64: (0, 2**63 - 1),
    FieldDescriptor.TYPE_ENUM: (0, 2),
}
_NAMES = sorted(set(MESSAGES) - {"map"})


def _descriptor(name: str, version: str = "v2") -> Descriptor:
    for module in _MODULES:
        importlib.import_module(module)
    full = PROTOBUF_NAMES.get(name, f"containerd.task.{version}.{name}")
    return descriptor_pool.Default().FindMessageTypeByName(full)


def _repeated(field: FieldDescriptor) -> bool:
    return bool(field.is_repeated)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _kind(field: FieldDescriptor) -> str:
    if _is_map(field):
        return "map"
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return str(field.message_type.name)
    if field.type in _INTS:
        return "int"
    names = {
        FieldDescriptor.TYPE_STRING: "str",
        FieldDescriptor.TYPE_BYTES: "bytes",
        FieldDescriptor.TYPE_BOOL: "bool",
    }
    return names[field.type]


def _values(descriptor: Descriptor) -> st.SearchStrategy[dict[str, Any]]:
    """Values for the fields that the table knows, set or at their default; messages also None."""
    known = MESSAGES[descriptor.name]
    return st.fixed_dictionaries(
        {field.name: _value(field) for field in descriptor.fields if field.number in known}
    )


def _value(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    text = st.text(max_size=12)
    if _is_map(field):
        return st.dictionaries(text, text, max_size=3)
    one: st.SearchStrategy[Any]
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        one = _values(field.message_type)
        return st.lists(one, max_size=3) if _repeated(field) else st.none() | one
    if field.type in _INTS:
        one = st.integers(*_INTS[field.type])
    elif field.type == FieldDescriptor.TYPE_BOOL:
        one = st.booleans()
    else:
        one = text if field.type == FieldDescriptor.TYPE_STRING else st.binary(max_size=12)
    return st.lists(one, max_size=3) if _repeated(field) else one


def _message(descriptor: Descriptor, values: dict[str, Any]) -> Message:
    """The same values as a generated message."""
    message = message_factory.GetMessageClass(descriptor)()
    for field in descriptor.fields:
        value = values.get(field.name)
        if value is None:
            continue
        target = getattr(message, field.name)
        if _is_map(field):
            target.update(value)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            if _repeated(field):
                target.extend(_message(field.message_type, item) for item in value)
            else:
                target.SetInParent()
                target.CopyFrom(_message(field.message_type, value))
        elif _repeated(field):
            target.extend(value)
        else:
            setattr(message, field.name, value)
    return message


@pytest.mark.parametrize("name", _NAMES)
def test_a_table_has_the_fields_of_the_generated_message(name: str) -> None:
    for version in ("v2", "v3"):
        fields = {
            field.number: (field.name, _kind(field), _repeated(field))
            for field in _descriptor(name, version).fields
        }
        table = MESSAGES[name]
        assert table.items() <= fields.items(), version
        if name not in ("Envelope", "Options", "CheckpointOptions", "Status"):
            assert table == fields, version


@pytest.mark.parametrize("name", _NAMES)
@settings(max_examples=40)
@given(data=st.data())
def test_what_is_encoded_is_read_by_protobuf_and_back(name: str, data: st.DataObject) -> None:
    descriptor = _descriptor(name)
    values = data.draw(_values(descriptor))
    message = _message(descriptor, values)
    ours = encode(name, values)
    assert type(message).FromString(ours) == message
    assert decode(name, ours) == values
    assert decode(name, message.SerializeToString()) == values


@given(st.binary(max_size=64))
def test_any_bytes_are_a_message_or_a_decode_error(data: bytes) -> None:
    for name in ("Request", "CreateTaskRequest", "UpdateTaskRequest"):
        try:
            found = decode(name, data)
        except DecodeError:
            continue
        assert set(found) == {field for field, _, _ in MESSAGES[name].values()}


def test_fields_that_nobody_knows_are_passed_over() -> None:
    unknown = b"\xfa\x01\x03abc" + b"\xf8\x01\x05" + b"\xf5\x01abcd" + b"\xf1\x01abcdefgh"
    assert decode("StartResponse", unknown + encode("StartResponse", {"pid": 7})) == {"pid": 7}


def test_a_field_of_the_wrong_type_is_refused() -> None:
    with pytest.raises(DecodeError):
        decode("StartResponse", b"\x0a\x01a")


def test_metrics_by_numbers_are_containerd_s_metrics() -> None:
    from cored._pb.io.containerd.cgroups.v1 import metrics_pb2

    data = encode_table({2: {1: 3, 2: 2**64 - 1}, 4: {33: {2: 4096}}})
    found = metrics_pb2.Metrics.FromString(data)
    assert (found.pids.current, found.pids.limit) == (3, 2**64 - 1)
    assert found.memory.usage.usage == 4096
