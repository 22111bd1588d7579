"""YAML to a tree, as compose reads it: scalars of YAML 1.2, merge keys, !reset and !override."""

from __future__ import annotations

import re

import yaml

from corectl.compose.tree import Node, Place, Scalar
from cored.errors import InvalidArgument

__all__ = ["read", "scalar"]

_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_MOST = 200_000
_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?(?:0o?[0-7_]+|0x[0-9a-fA-F_]+|0b[01_]+|[0-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF|nan|NaN|NAN)")
_TYPED = {
    "tag:yaml.org,2002:int",
    "tag:yaml.org,2002:float",
    "tag:yaml.org,2002:bool",
    "tag:yaml.org,2002:null",
}


def read(text: str, file: str) -> Node:
    """The one document in ``text``; ``file`` is its name in errors. InvalidArgument.

    An empty document is an empty mapping.
    """
    try:
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = error.problem or error.context or "not understood"
        raise InvalidArgument(f"{file}:{line}: not YAML: {problem}") from error
    except yaml.YAMLError as error:
        raise InvalidArgument(f"{file}: not YAML: {error}") from error
    if root is None:
        return Node({}, Place(file, 1))
    return _Reader(file).node(root)


class _Reader:
    """Turns one document's nodes into ours; remembers where it is, for cycles and bombs."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._open: set[int] = set()
        self._count = 0

    def node(self, source: yaml.Node) -> Node:
        place = self._place(source)
        self._count += 1
        if id(source) in self._open:
            raise InvalidArgument(f"{place}: an anchor that contains itself")
        if self._count > _MOST:
            raise InvalidArgument(f"{place}: more than {_MOST} values, aliases counted")
        self._open.add(id(source))
        try:
            return self._made(source, place)
        finally:
            self._open.remove(id(source))

    def _made(self, source: yaml.Node, place: Place) -> Node:
        tag = source.tag[1:] if source.tag in ("!reset", "!override") else ""
        match source:
            case yaml.MappingNode():
                return Node(self._mapping(source), place, tag)
            case yaml.SequenceNode():
                return Node([self.node(inner) for inner in source.value], place, tag)
            case _:
                plain = not source.style and source.tag != "!"
                typed = source.tag in _TYPED
                text = str(source.value)
                return Node(scalar(text) if plain or typed else text, place, tag)

    def _mapping(self, source: yaml.MappingNode) -> dict[str, Node]:
        found: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        for key, value in source.value:
            place = self._place(key)
            if not isinstance(key, yaml.ScalarNode):
                raise InvalidArgument(f"{place}: a key must be a word")
            name = str(key.value)
            if name == "<<" and not key.style:
                for one in self._sources(value):
                    merged = {**one, **merged}
                continue
            if name in found:
                hint = f"it is also in line {found[name].place.line}"
                raise InvalidArgument(f"{place}: key '{name}' is there twice", hint=hint)
            made = self.node(value)
            # an error is about the line with the key, also when the value is elsewhere
            found[name] = Node(made.value, place, made.tag)
        return {**merged, **found}

    def _sources(self, value: yaml.Node) -> list[dict[str, Node]]:
        """What a merge key names: earlier ones win."""
        many = value.value if isinstance(value, yaml.SequenceNode) else [value]
        found = [self.node(one) for one in many]
        for one in found:
            if not isinstance(one.value, dict):
                raise InvalidArgument(f"{one.place}: << wants mappings")
        return [one.mapping for one in found]

    def _place(self, source: yaml.Node) -> Place:
        return Place(self._file, source.start_mark.line + 1)


def scalar(text: str) -> Scalar:
    """What an unquoted word stands for."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if special := _SPECIAL.fullmatch(text):
        return float(f"{special[1]}{special[2].lower()}")
    return text


def _integer(text: str) -> Scalar:
    digits = text.replace("_", "")
    sign, number = (digits[0], digits[1:]) if digits[0] in "+-" else ("", digits)
    octal = re.fullmatch(r"0[0-7]+", number)
    try:
        return int(sign + (f"0o{number[1:]}" if octal else number), 0)
    except ValueError:
        # 089, 1__0: numbers to nobody
        return text
