"""``dataclass`` as in the standard library, where ``frozen=True, slots=True`` costs a tenth.

The standard library writes, compiles and runs six functions for each class, which was a quarter of
what a daemon's start took. Here the constructor is compiled when it is first called, and the other
methods are closures. All else (``fields``, ``replace``, ``asdict``, ``field``, inheritance in both
directions, pickling) is as it was; ``tests/unit/test_dataclass.py`` compares both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from operator import attrgetter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

_PARAMS = SimpleNamespace(
    init=True, repr=True, eq=True, order=False, unsafe_hash=False, frozen=True
)
_SELF = "self"

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls: type | None = None, /, **options: bool) -> Any:
        """The decorator."""
        if options == {"frozen": True, "slots": True}:
            return _made
        return dataclasses.dataclass(cls, **options)


def _made(cls: type) -> type:
    own = _own_fields(cls)
    if own is None:
        return dataclasses.dataclass(frozen=True, slots=True)(cls)
    every: dict[str, dataclasses.Field[Any]] = {}
    for base in cls.__mro__[-1:0:-1]:
        every.update(getattr(base, "__dataclass_fields__", {}))
    every.update(own)
    real = [f for f in every.values() if f._field_type is dataclasses._FIELD]  # type: ignore[attr-defined]
    names = {f.name for f in real if f.name in own}
    taken = {slot for base in cls.__mro__[1:] for slot in _slots(base)}
    space = {
        name: value
        for name, value in vars(cls).items()
        if name not in names and name not in ("__dict__", "__weakref__")
    }
    space.update(
        __slots__=tuple(f.name for f in real if f.name in own and f.name not in taken),
        __dataclass_fields__=every,
        __dataclass_params__=_PARAMS,
        __match_args__=tuple(f.name for f in real if f.init),
    )
    if space.get("__doc__") is None:
        space["__doc__"] = cls.__name__
    given = _methods(real)
    if space.get("__hash__") is None:  # an __eq__ of its own has made it None
        space["__hash__"] = given["__hash__"]
    for name, method in given.items():
        space.setdefault(name, method)
    made = type(cls)(cls.__name__, cls.__bases__, space)
    made.__qualname__ = cls.__qualname__
    if "__init__" not in vars(cls):
        made.__init__ = _constructor(made, real)  # type: ignore[misc]
    return made


def _own_fields(cls: type) -> dict[str, dataclasses.Field[Any]] | None:
    """Fields by name; None where there is something that only the standard library knows."""
    found: dict[str, dataclasses.Field[Any]] = {}
    for name, annotation in vars(cls).get("__annotations__", {}).items():
        given = vars(cls).get(name, dataclasses.MISSING)
        if not isinstance(annotation, str) or "KW_ONLY" in annotation or "InitVar" in annotation:
            return None
        field: Any = given
        if not isinstance(given, dataclasses.Field):
            field = dataclasses.field(default=given)
        if field.kw_only is True or hasattr(field.default, "__get__"):
            return None
        if field.default.__class__.__hash__ is None:
            return None  # a mutable default, which it refuses
        class_s = annotation.startswith(("ClassVar", "typing.ClassVar"))
        kind = "_FIELD_CLASSVAR" if class_s else "_FIELD"
        field.name, field.type, field.kw_only = name, annotation, False
        field._field_type = getattr(dataclasses, kind)
        found[name] = field
    return found


def _slots(cls: type) -> Sequence[str]:
    slots = vars(cls).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _methods(fields: Sequence[dataclasses.Field[Any]]) -> dict[str, Callable[..., Any]]:
    every = [f.name for f in fields]
    shown = [f.name for f in fields if f.repr]
    compared = _getter([f.name for f in fields if f.compare])
    hashed = _getter([f.name for f in fields if (f.compare if f.hash is None else f.hash)])

    def __repr__(self: Any) -> str:
        inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
        return f"{self.__class__.__qualname__}({inside})"

    def __eq__(self: Any, other: object) -> Any:
        if other.__class__ is self.__class__:
            return compared(self) == compared(other)
        return NotImplemented

    def __hash__(self: Any) -> int:
        return hash(hashed(self))

    def __setattr__(self: Any, name: str, value: object) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self: Any, name: str) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    def __getstate__(self: Any) -> list[Any]:
        return [getattr(self, name) for name in every]

    def __setstate__(self: Any, state: Sequence[Any]) -> None:
        for name, value in zip(every, state, strict=True):
            object.__setattr__(self, name, value)

    methods = (__repr__, __eq__, __hash__, __setattr__, __delattr__, __getstate__, __setstate__)
    return {method.__name__: method for method in methods}


def _getter(names: Sequence[str]) -> Callable[[Any], Any]:
    return attrgetter(*names) if names else lambda _: ()


def _constructor(cls: type, fields: Sequence[dataclasses.Field[Any]]) -> Callable[..., None]:
    """An ``__init__`` that puts the real one in its place when it is first called."""

    def __init__(*arguments: Any, **named: Any) -> None:
        if vars(cls)["__init__"] is __init__:
            cls.__init__ = _compiled(cls, fields)  # type: ignore[misc]
        vars(cls)["__init__"](*arguments, **named)

    return __init__


def _compiled(cls: type, fields: Sequence[dataclasses.Field[Any]]) -> Callable[..., None]:
    """The constructor's source, run: slots are set by their descriptors."""
    scope: dict[str, Any] = {"_MISSING": dataclasses.MISSING}
    parameters, body = [_SELF], []
    for number, field in enumerate(fields):
        name, value = field.name, field.name
        made = field.default_factory is not dataclasses.MISSING
        if made:
            scope[f"_make{number}"] = field.default_factory
        elif field.default is not dataclasses.MISSING:
            scope[f"_default{number}"] = field.default
        if made:
            default = "=_MISSING"
            value = f"_make{number}() if {name} is _MISSING else {name}"
        else:
            default = f"=_default{number}" if f"_default{number}" in scope else ""
        if field.init:
            parameters.append(name + default)
        elif made:
            value = f"_make{number}()"
        elif default:
            value = f"_default{number}"
        else:
            continue
        scope[f"_set{number}"] = getattr(cls, name).__set__
        body.append(f"_set{number}({_SELF}, {value})")
    if hasattr(cls, "__post_init__"):
        body.append(f"{_SELF}.__post_init__()")
    lines = "\n ".join(body or ["pass"])
    exec(f"def __init__({', '.join(parameters)}):\n {lines}", scope)
    made_init: Callable[..., None] = scope["__init__"]
    made_init.__qualname__ = f"{cls.__qualname__}.__init__"
    return made_init
