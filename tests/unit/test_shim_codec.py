"""The shim's own codec beside the generated messages: every table, every field, any value."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from coreshim.codec import DecodeError, decode, encode
from coreshim.messages import MESSAGES, PROTOBUF_NAMES
from google.protobuf import descriptor_pool, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st

PROTO = Path(__file__).parents[2] / "proto"
TABLES = sorted(name for name in MESSAGES if name != "map")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "str": TEXT,
    "bytes": st.binary(max_size=40),
    "int": st.integers(0, 2**31 - 1),
    "bool": st.booleans(),
    "map": st.dictionaries(TEXT, TEXT, max_size=3),
}


def generated(name: str) -> Any:
    """The class of the generated message for a table."""
    for path in PROTO.rglob("*.proto"):
        module = path.relative_to(PROTO).with_suffix("").as_posix().replace("/", ".")
        importlib.import_module(f"cored._pb.{module}_pb2")
    full = PROTOBUF_NAMES.get(name, f"containerd.task.v2.{name}")
    return message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(full))


def values(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Dicts for a table."""
    fields = {}
    for field, kind, repeated in MESSAGES[name].values():
        one = SCALARS[kind] if kind in SCALARS else st.deferred(lambda kind=kind: values(kind))
        if repeated and kind != "map":
            one = st.lists(one, max_size=3)
        fields[field] = one
    return st.fixed_dictionaries({}, optional=fields)


def as_message(name: str, value: dict[str, Any]) -> Any:
    message = generated(name)()
    for field, kind, repeated in MESSAGES[name].values():
        if field not in value:
            continue
        given_value = value[field]
        if kind == "map":
            getattr(message, field).update(given_value)
        elif kind in SCALARS:
            if repeated:
                getattr(message, field).extend(given_value)
            else:
                setattr(message, field, given_value)
        elif repeated:
            getattr(message, field).extend(as_message(kind, item) for item in given_value)
        else:
            getattr(message, field).CopyFrom(as_message(kind, given_value))
    return message


@pytest.mark.parametrize("name", TABLES)
def test_every_field_has_the_number_and_type_of_the_contract(name: str) -> None:
    descriptor = generated(name).DESCRIPTOR
    for number, (field, kind, _) in MESSAGES[name].items():
        there = descriptor.fields_by_number[number]
        assert there.name == field
        if kind not in SCALARS:
            full = PROTOBUF_NAMES.get(kind, f"containerd.task.v2.{kind}")
            assert there.message_type.full_name == full


@pytest.mark.parametrize("name", TABLES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_bytes_and_dicts_agree_with_protobuf(name: str, data: st.DataObject) -> None:
    value = data.draw(values(name))
    theirs = as_message(name, value)
    assert generated(name).FromString(encode(name, value)) == theirs
    again = decode(name, theirs.SerializeToString())
    assert generated(name).FromString(encode(name, again)) == theirs


@given(data=st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    try:
        decode("CreateTaskRequest", data)
    except (DecodeError, UnicodeDecodeError):
        return


def test_what_is_cut_short_is_refused() -> None:
    whole = encode("StateRequest", {"id": "container", "exec_id": "process"})
    with pytest.raises(DecodeError):
        decode("StateRequest", whole[:-3])
