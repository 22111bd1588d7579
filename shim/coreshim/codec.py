"""Protobuf's wire format by tables: dicts to bytes and back, for the few messages of a shim.

Much smaller in memory than a protobuf runtime, which a process beside every container would pay
for (performance.md: 0.7 MiB each). A property test compares it with the generated messages.
"""

from __future__ import annotations

from typing import Any

from coreshim.messages import MESSAGES

__all__ = ["DecodeError", "decode", "encode", "encode_table"]


class DecodeError(Exception):
    """Bytes that are no message."""


def encode(name: str, values: dict[str, Any]) -> bytes:
    """The message ``name`` of MESSAGES; absent, None and default values are left out."""
    out = bytearray()
    for number, (field, kind, repeated) in MESSAGES[name].items():
        value = values.get(field)
        if not value and value != {}:
            continue
        if kind == "map":
            for item in value.items():
                entry = encode("map", {"key": item[0], "value": item[1]})
                _bytes(out, number, entry)
        elif repeated:
            for item in value:
                _field(out, number, kind, item)
        else:
            _field(out, number, kind, value)
    return bytes(out)


def decode(name: str, data: bytes) -> dict[str, Any]:
    """All fields of the message, absent ones with their defaults (None for messages)."""
    table = MESSAGES[name]
    values: dict[str, Any] = {}
    for field, kind, repeated in table.values():
        values[field] = {} if kind == "map" else [] if repeated else _DEFAULTS.get(kind)
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        raw: Any
        wire = key & 7
        if wire == 0:
            raw, at = _varint(data, at)
        elif wire == 2:
            length, at = _varint(data, at)
            raw = data[at : at + length]
            at += length
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            raw = data[at : at + size]
            at += size
        else:
            raise DecodeError(f"{name}: wire type {wire}")
        if at > end:
            raise DecodeError(f"{name}: cut short")
        if key >> 3 in table:
            _store(values, table[key >> 3], wire, raw)
    return values


_DEFAULTS: dict[str, Any] = {"str": "", "bytes": b"", "int": 0, "bool": False}


def _store(values: dict[str, Any], entry: tuple[str, str, bool], wire: int, raw: Any) -> None:
    field, kind, repeated = entry
    if (wire == 0) != (kind in ("int", "bool")):
        if wire == 2 and kind == "int" and repeated:  # packed
            at = 0
            while at < len(raw):
                value, at = _varint(raw, at)
                values[field].append(value)
            return
        raise DecodeError(f"{field}: wire type {wire} for {kind}")
    if wire in (1, 5):  # fixed width: no field of ours
        raise DecodeError(f"{field}: wire type {wire} for {kind}")
    if kind == "str":
        try:
            raw = raw.decode()
        except UnicodeDecodeError as error:
            raise DecodeError(f"{field}: not UTF-8") from error
    elif kind == "bool":
        raw = bool(raw)
    elif kind == "int":
        raw = raw - (1 << 64) if raw >> 63 else raw
    elif kind == "map":
        item = decode("map", raw)
        values[field][item["key"]] = item["value"]
        return
    elif kind != "bytes":
        raw = decode(kind, raw)
    if repeated:
        values[field].append(raw)
    else:
        values[field] = raw


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise DecodeError("number cut short")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7


def _number(out: bytearray, value: int) -> None:
    value &= 0xFFFFFFFFFFFFFFFF
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _bytes(out: bytearray, number: int, value: bytes) -> None:
    _number(out, number << 3 | 2)
    _number(out, len(value))
    out += value


def _field(out: bytearray, number: int, kind: str, value: Any) -> None:
    if kind in ("int", "bool"):
        _number(out, number << 3)
        _number(out, int(value))
    elif kind == "str":
        _bytes(out, number, value.encode())
    elif kind == "bytes":
        _bytes(out, number, value)
    else:
        _bytes(out, number, encode(kind, value))


def encode_table(fields: dict[int, Any]) -> bytes:
    """A message given by field numbers: numbers, texts, nested messages and lists of one of them.

    Zeros, empty texts and empty lists are left out; an empty message is not.
    """
    out = bytearray()
    for number, value in fields.items():
        if isinstance(value, dict):
            _bytes(out, number, encode_table(value))
        elif isinstance(value, list) and value and isinstance(value[0], int):
            packed = bytearray()
            for each in value:
                _number(packed, each)
            _bytes(out, number, bytes(packed))
        elif isinstance(value, list):
            for each in value:
                out += encode_table({number: each})
        elif value:
            _field(out, number, "str" if isinstance(value, str) else "int", value)
    return bytes(out)
