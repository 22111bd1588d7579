"""Running a template over one thing's fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from corectl.templates.functions import FUNCTIONS, shown, true
from corectl.templates.lexer import wrong
from corectl.templates.parser import (
    Block,
    Call,
    Field,
    Literal,
    Method,
    Node,
    Operand,
    Pipe,
    Text,
    parse,
)

__all__ = ["Template"]


class Template:
    """A parsed template. Fields are the keys of dicts; a key that is not there is an error at
    the top (a slip of the pen) and nothing further down (where maps are somebody's own)."""

    def __init__(self, text: str) -> None:
        """InvalidArgument for what is no template."""
        self._nodes = parse(text)

    def render(self, value: Any) -> str:
        """The text for ``value``. InvalidArgument: it has no such field, a function fails."""
        return "".join(_Run(value).nodes(self._nodes, value, {"$": value}))

    def headers(self, headers: Mapping[str, str]) -> str:
        """The head of a table: each field by its name in ``headers``, or in capitals."""
        value = _Headers(headers)
        return "".join(_Run(value).nodes(self._nodes, value, {"$": value}))


class _Headers(dict[str, Any]):
    """Answers every field with its heading."""

    def __missing__(self, name: str) -> str:
        return name.upper()

    def __contains__(self, name: object) -> bool:
        return True


class _Run:
    """One rendering; ``root`` is the whole value."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._heading = isinstance(root, _Headers)

    def nodes(self, nodes: Iterable[Node], dot: Any, variables: Mapping[str, Any]) -> Iterator[str]:
        mine = dict(variables)
        for node in nodes:
            match node:
                case Text(text):
                    yield text
                case Pipe(variables=names):
                    value = self._pipe(node, dot, mine)
                    if names:
                        mine[names[-1]] = value
                    else:
                        yield shown(value)
                case Block():
                    yield from self._block(node, dot, mine)

    def _block(self, block: Block, dot: Any, variables: Mapping[str, Any]) -> Iterator[str]:
        value = self._pipe(block.pipe, dot, variables)
        if not true(value) or (block.kind == "range" and self._heading):
            yield from self.nodes(block.otherwise, dot, variables)
        elif block.kind == "range":
            for key, item in _items(value, block.pipe):
                yield from self.nodes(block.body, item, {**variables, **_named(block, key, item)})
        else:
            inner = value if block.kind == "with" else dot
            named = {name: value for name in block.pipe.variables}
            yield from self.nodes(block.body, inner, {**variables, **named})

    def _pipe(self, pipe: Pipe, dot: Any, variables: Mapping[str, Any]) -> Any:
        first, *others = pipe.stages
        value = self._operand(first, dot, variables, pipe)
        for stage in others:
            value = self._operand(stage, dot, variables, pipe, value)
        return value

    def _operand(
        self, operand: Operand, dot: Any, variables: Mapping[str, Any], pipe: Pipe, *last: Any
    ) -> Any:
        match operand:
            case Literal(value):
                return value
            case Pipe():
                return self._pipe(operand, dot, variables)
            case Field(start, names):
                return self._field(start, names, dot, variables, pipe)
            case Method(field, arguments):
                method = self._field(field.start, field.names, dot, variables, pipe)
                given = [self._operand(a, dot, variables, pipe) for a in arguments]
                if self._heading:
                    return given[0]
                if not callable(method):
                    raise wrong(pipe.text, f"'{shown(given[0])}' is too much")
                return method(*given)
            case Call(function, arguments):
                values = [self._operand(a, dot, variables, pipe) for a in arguments]
                return self._called(function, [*values, *last], pipe)

    def _field(
        self,
        start: str | Pipe,
        names: Sequence[str],
        dot: Any,
        variables: Mapping[str, Any],
        pipe: Pipe,
    ) -> Any:
        if isinstance(start, Pipe):
            value = self._pipe(start, dot, variables)
        elif not start:
            value = dot
        elif start in variables:
            value = variables[start]
        else:
            raise wrong(pipe.text, f"there is no variable {start}")
        for name in names:
            if isinstance(value, Mapping) and name in value:
                value = value[name]
            elif name in getattr(value, "unset", {}):
                value = value.unset[name]
            elif value is self._root or not isinstance(value, Mapping | None):
                raise wrong(pipe.text, f"there is no field {name}")
            else:
                value = None
        return value

    def _called(self, function: str, values: list[Any], pipe: Pipe) -> Any:
        if self._heading:  # a table's head shows fields, whatever is done with them
            return next((v for v in values if isinstance(v, str)), "")
        try:
            return FUNCTIONS[function](*values)
        except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            raise wrong(pipe.text, f"{function}: {error}") from error


def _items(value: Any, pipe: Pipe) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return sorted(value.items())
    if isinstance(value, list | tuple):
        return enumerate(value)
    raise wrong(pipe.text, f"cannot go through {shown(value)}")


def _named(block: Block, key: Any, item: Any) -> dict[str, Any]:
    match block.pipe.variables:
        case (name,):
            return {name: item}
        case (first, second):
            return {first: key, second: item}
        case _:
            return {}
