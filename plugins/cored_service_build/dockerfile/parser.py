"""From a Dockerfile's text to stages of instructions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cored_service_build.dockerfile.instructions import Arg, From, Instruction
from cored_service_build.dockerfile.lexer import Line, directives, logical_lines
from cored_service_build.dockerfile.reading import read
from cored_service_build.dockerfile.source import DockerfileError, Range, Source

__all__ = ["Dockerfile", "Stage", "parse", "parse_trigger"]


@dataclass(frozen=True, slots=True)
class Stage:
    """One FROM and what follows it; ``name`` is lower case, or the stage's number as text."""

    number: int
    base: From
    instructions: tuple[Instruction, ...]

    @property
    def name(self) -> str:
        return self.base.name.lower() or str(self.number)


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """``arguments`` are the ARGs before the first FROM."""

    source: Source
    directives: Mapping[str, str]
    escape: str
    arguments: tuple[Arg, ...]
    stages: tuple[Stage, ...]
    lines: tuple[Line, ...]

    def stage(self, name: str) -> Stage | None:
        """By name (the last of that name counts) or number."""
        for stage in reversed(self.stages):
            if stage.base.name and stage.base.name.lower() == name.lower():
                return stage
        if name.isdecimal() and int(name) < len(self.stages):
            return self.stages[int(name)]
        return None


def parse(text: str, name: str = "Dockerfile") -> Dockerfile:
    """Read a whole file. DockerfileError with file, line and the text itself."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    source = Source(name, tuple(text.split("\n")))
    found = directives(source)
    escape = found.get("escape", "\\")
    lines = tuple(logical_lines(source, escape))
    if not lines:
        raise source.error(Range(1, 1), "is empty", hint="it needs a FROM at least")
    arguments: list[Arg] = []
    stages: list[tuple[From, list[Instruction]]] = []
    for line in lines:
        instruction = read(source, line, escape)
        if isinstance(instruction, From):
            stages.append((instruction, []))
        elif stages:
            stages[-1][1].append(instruction)
        elif isinstance(instruction, Arg):
            arguments.append(instruction)
        else:
            raise source.error(
                line.where, f"{line.keyword} before FROM", hint="only ARG may be there"
            )
    if not stages:
        raise source.error(lines[-1].where, "has no FROM")
    numbered = [Stage(n, base, tuple(inside)) for n, (base, inside) in enumerate(stages)]
    return Dockerfile(source, found, escape, tuple(arguments), tuple(numbered), lines)


def parse_trigger(text: str, image: str) -> Instruction:
    """What an image's ONBUILD says. DockerfileError."""
    source = Source(f"ONBUILD of {image}", tuple(text.split("\n")))
    lines = list(logical_lines(source))
    if len(lines) != 1:
        raise DockerfileError(source, Range(1, 1), "must be one instruction")
    return read(source, lines[0], "\\")
