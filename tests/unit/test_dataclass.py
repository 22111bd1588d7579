"""Our quick dataclasses do what the standard library's do, whatever a class looks like."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import field
from typing import Any, ClassVar

import pytest

from cored.dataclass import dataclass as quick


class Base:
    """A base without fields."""

    __slots__ = ()


def point(decorator: Any) -> Any:
    @decorator(frozen=True, slots=True)
    class Point(Base):
        """With all kinds of fields."""

        x: int
        kind: ClassVar[str] = "point"
        name: str = "p"
        tags: dict[str, str] = field(default_factory=dict, hash=False)
        secret: str = field(default="", repr=False, compare=False)
        made: int = field(default=7, init=False)

        def twice(self) -> int:
            return self.x * 2

    return Point


def derived(decorator: Any, base: Any) -> Any:
    @decorator(frozen=True, slots=True)
    class Derived(base):  # type: ignore[misc]
        kind = "derived"
        name: str = "d"
        more: tuple[int, ...] = ()

        def __post_init__(self) -> None:
            if self.x < 0:
                raise ValueError("negative")

    return Derived


KINDS: dict[str, Callable[[], Any]] = {
    "quick": lambda: point(quick),
    "derived": lambda: derived(quick, point(quick)),
    "a standard one of a quick one": lambda: derived(dataclasses.dataclass, point(quick)),
    "a quick one of a standard one": lambda: derived(quick, point(dataclasses.dataclass)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_quick_class_behaves_like_a_standard_one(kind: str) -> None:
    made = KINDS[kind]()
    standard = point(dataclasses.dataclass)
    if kind != "quick":
        standard = derived(dataclasses.dataclass, standard)
    for arguments, named in (((1,), {}), ((2, "b"), {"tags": {"k": "v"}}), ((3,), {"secret": "s"})):
        ours, theirs = made(*arguments, **named), standard(*arguments, **named)
        assert repr(ours) == repr(theirs).replace(standard.__qualname__, made.__qualname__)
        assert dataclasses.asdict(ours) == dataclasses.asdict(theirs)
        assert dataclasses.astuple(ours) == dataclasses.astuple(theirs)
        assert hash(ours) == hash(theirs)
        assert ours == made(*arguments, **named) != made(9)
        assert ours != theirs
        assert dataclasses.replace(ours, x=5).x == 5
        assert copy.copy(ours) == ours == copy.deepcopy(ours)
        assert (ours.kind, ours.twice()) == (theirs.kind, theirs.twice())
        assert not hasattr(ours, "__dict__")
        for change in (lambda one: setattr(one, "x", 1), lambda one: delattr(one, "x")):
            with pytest.raises(dataclasses.FrozenInstanceError):
                change(ours)
    assert made.__match_args__ == standard.__match_args__
    assert [f.name for f in dataclasses.fields(made)] == [
        f.name for f in dataclasses.fields(standard)
    ]
    assert made(1, secret="a") == made(1, secret="b")
    assert made(1).tags is not made(1).tags
    for wrong in ((), (1, 2, 3, 4, 5, 6)):
        with pytest.raises(TypeError):
            made(*wrong)
    with pytest.raises(TypeError, match="unexpected keyword"):
        made(1, unknown=1)


def test_what_follows_the_constructor_is_called() -> None:
    with pytest.raises(ValueError, match="negative"):
        derived(quick, point(quick))(-1)


def test_methods_of_a_class_s_own_stay() -> None:
    @quick(frozen=True, slots=True)
    class Own:
        x: int

        def __repr__(self) -> str:
            return f"own {self.x}"

        def __eq__(self, other: object) -> bool:
            return True

    assert (repr(Own(1)), Own(1) == Own(2)) == ("own 1", True)
    assert hash(Own(1)) == hash(Own(1)) != hash(Own(2))


def test_what_only_the_standard_library_knows_is_left_to_it() -> None:
    @quick(frozen=True, slots=True)
    class Named:
        x: int = field(kw_only=True)

    with pytest.raises(TypeError):
        Named(1)  # type: ignore[misc]
    with pytest.raises(ValueError, match="mutable default"):

        @quick(frozen=True, slots=True)
        class Shared:
            x: list[int] = []  # noqa: RUF012

    @quick(slots=True)
    class Loose:
        x: int

    loose = Loose(1)
    loose.x = 2
    assert loose == Loose(2)


@quick(frozen=True, slots=True)
class Sent:
    x: int
    y: str = ""


def test_a_value_is_pickled() -> None:
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(Sent(1, "a"), protocol)) == Sent(1, "a")
