"""Templates as trees of frozen nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from corectl.templates.functions import FUNCTIONS
from corectl.templates.lexer import Action, Token, pieces, wrong

__all__ = ["Block", "Call", "Field", "Literal", "Method", "Node", "Pipe", "Text", "parse"]


@dataclass(frozen=True, slots=True)
class Text:
    """What stands outside of braces."""

    text: str


@dataclass(frozen=True, slots=True)
class Literal:
    """A string, number, true, false or nil."""

    value: object


@dataclass(frozen=True, slots=True)
class Field:
    """``.A.B``, ``$x.A``, ``(pipe).A``: names looked up one after the other.

    ``start`` is a variable's name, '' for the dot, or a pipe.
    """

    start: str | Pipe
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Method:
    """A field that takes arguments: ``.Label "a"``."""

    field: Field
    arguments: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A function and its arguments."""

    function: str
    arguments: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Pipe:
    """Stages, each the last argument of the next; ``variables`` get the result."""

    text: str
    stages: tuple[Operand, ...]
    variables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Block:
    """``if``, ``range`` or ``with``."""

    kind: str
    pipe: Pipe
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]


Operand = Literal | Field | Method | Call | Pipe
Node = Text | Pipe | Block

_WORDS = {"true": True, "false": False, "nil": None}
_BLOCKS = ("if", "range", "with")


def parse(text: str) -> tuple[Node, ...]:
    """InvalidArgument says what is wrong, and where."""
    parser = _Parser(list(pieces(text)))
    body, end = parser.nodes()
    if end is not None:
        raise wrong(end.text, "nothing is open here")
    return body


class _Parser:
    def __init__(self, parts: Sequence[str | Action]) -> None:
        self._parts = iter(parts)

    def nodes(self) -> tuple[tuple[Node, ...], Action | None]:
        """Nodes up to an ``end`` or ``else`` that belongs to somebody else."""
        found: list[Node] = []
        for part in self._parts:
            if isinstance(part, str):
                found.append(Text(part))
                continue
            word = part.tokens[0].text if part.tokens and part.tokens[0].kind == "word" else ""
            if word in ("end", "else"):
                return tuple(found), part
            if word in _BLOCKS:
                found.append(self._block(word, part, part.tokens[1:]))
            else:
                found.append(_Words(part, part.tokens).whole())
        return tuple(found), None

    def _block(self, kind: str, opened: Action, tokens: list[Token]) -> Block:
        pipe = _Words(opened, tokens).whole()
        body, end = self.nodes()
        otherwise: tuple[Node, ...] = ()
        if end is not None and end.tokens[0].text == "else":
            rest = end.tokens[1:]
            if rest:  # else if, else with: a block in the else that shares our end
                if rest[0].text not in _BLOCKS:
                    raise wrong(end.text, "else what?")
                return Block(kind, pipe, body, (self._block(rest[0].text, end, rest[1:]),))
            otherwise, end = self.nodes()
        if end is None or end.tokens[0].text != "end":
            raise wrong(opened.text, f"{kind} without end")
        return Block(kind, pipe, body, otherwise)


class _Words:
    """The words of one action."""

    def __init__(self, action: Action, tokens: Sequence[Token]) -> None:
        self._action = action
        self._tokens = list(tokens)
        self._at = 0

    def whole(self) -> Pipe:
        variables = self._variables()
        pipe = self._pipe(variables)
        if self._at < len(self._tokens):
            raise wrong(self._action.text, f"'{self._tokens[self._at].text}' is too much")
        return pipe

    def _peek(self) -> Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _variables(self) -> tuple[str, ...]:
        """``$a :=`` or ``$a, $b :=`` at the beginning."""
        marks = [n for n, token in enumerate(self._tokens) if token.kind == "assign"]
        if not marks:
            return ()
        before = self._tokens[: marks[0]]
        self._at = marks[0] + 1
        names = tuple(token.text for token in before if token.kind == "variable")
        if len(marks) > 1 or not names or len(before) != 2 * len(names) - 1:
            raise wrong(self._action.text, "not an assignment")
        return names

    def _pipe(self, variables: tuple[str, ...] = ()) -> Pipe:
        stages = [self._stage()]
        while (token := self._peek()) and token == ("mark", "|"):
            self._at += 1
            stages.append(self._stage())
        if any(not isinstance(stage, Call) for stage in stages[1:]):
            raise wrong(self._action.text, "only functions can follow a |")
        return Pipe(self._action.text, tuple(stages), variables)

    def _stage(self) -> Operand:
        token = self._peek()
        if token is None:
            raise wrong(self._action.text, "something is missing")
        if token.kind == "word" and token.text not in _WORDS:
            if token.text not in FUNCTIONS:
                raise wrong(self._action.text, f"there is no function '{token.text}'")
            self._at += 1
            arguments = []
            while (following := self._peek()) and following.text not in ("|", ")"):
                arguments.append(self._operand())
            return Call(token.text, tuple(arguments))
        found = self._operand()
        given = []
        while (
            isinstance(found, Field)
            and (following := self._peek())
            and (following.text not in ("|", ")"))
        ):
            given.append(self._operand())
        return Method(found, tuple(given)) if given and isinstance(found, Field) else found

    def _operand(self) -> Operand:
        token = self._tokens[self._at]
        self._at += 1
        match token.kind:
            case "string":
                return Literal(token.text)
            case "number":
                return Literal(float(token.text) if "." in token.text else int(token.text))
            case "dot":
                return Field("", ())
            case "field":
                return Field("", tuple(token.text[1:].split(".")))
            case "variable":
                name, *names = token.text.split(".")
                return Field(name, tuple(names))
            case "word" if token.text in _WORDS:
                return Literal(_WORDS[token.text])
            case "word" if token.text in FUNCTIONS:
                return Call(token.text, ())
            case "mark" if token.text == "(":
                return self._bracketed()
        raise wrong(self._action.text, f"'{token.text}' makes no sense")

    def _bracketed(self) -> Operand:
        inner = self._pipe()
        if self._peek() != ("mark", ")"):
            raise wrong(self._action.text, "a bracket is not closed")
        self._at += 1
        following = self._peek()
        if following is not None and following.kind == "field":
            self._at += 1
            return Field(inner, tuple(following.text[1:].split(".")))
        return inner
