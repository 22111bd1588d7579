"""Which stages a target needs, and which need each other: known before anything runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cored.errors import InvalidArgument
from cored_service_build.dockerfile import instructions as i
from cored_service_build.dockerfile.instructions import Instruction
from cored_service_build.dockerfile.parser import Dockerfile, Stage
from cored_service_build.dockerfile.words import Expansion, WordError

__all__ = ["Plan", "plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """``bases`` has each needed stage's FROM with its variables replaced, by the stage's number;
    ``globals_`` the arguments from before the first FROM."""

    target: Stage
    needed: tuple[Stage, ...]
    bases: Mapping[int, str]
    platforms: Mapping[int, str]
    globals_: Mapping[str, str]


def plan(
    file: Dockerfile,
    target: str,
    args: Mapping[str, str],
    platform: Mapping[str, str],
    named: Collection[str] = (),
) -> Plan:
    """Resolve FROMs and prune. ``named`` are contexts, which hide nothing but images.

    DockerfileError for a FROM that comes to nothing, a stage that needs itself.
    """
    chosen = file.stage(target) if target else file.stages[-1]
    if chosen is None:
        there = ", ".join(s.base.name for s in file.stages if s.base.name) or "none with a name"
        raise InvalidArgument(f"target {target!r}: no such stage", hint=f"there is {there}")
    known = _globals(file, args, platform)
    bases: dict[int, str] = {}
    platforms: dict[int, str] = {}
    for stage in file.stages:
        bases[stage.number] = _expanded(file, stage.base, stage.base.image, known)
        platforms[stage.number] = _expanded(file, stage.base, stage.base.platform, known)
    order: list[Stage] = []
    _visit(file, chosen, bases, named, order, [])
    return Plan(chosen, tuple(order), bases, platforms, known)


def _globals(
    file: Dockerfile, args: Mapping[str, str], platform: Mapping[str, str]
) -> dict[str, str]:
    known = dict(platform)
    for entry in file.arguments:
        for name, default in entry.pairs:
            if name in args:
                known[name] = args[name]
            elif default is not None:
                known[name] = _expanded(file, entry, default, known)
            elif name not in known:
                known[name] = ""
    return known


def _expanded(file: Dockerfile, at: Instruction, text: str, known: Mapping[str, str]) -> str:
    try:
        found = Expansion(known, file.escape).word(text)
    except WordError as error:
        raise file.source.error(at.where, str(error)) from error
    if text and not found and isinstance(at, i.From):
        raise file.source.error(
            at.where, f"FROM: {text!r} is empty", hint="give its arguments with --build-arg"
        )
    return found


def _visit(
    file: Dockerfile,
    stage: Stage,
    bases: Mapping[int, str],
    named: Collection[str],
    order: list[Stage],
    path: list[Stage],
) -> None:
    if stage in path:
        ring = " -> ".join(s.name for s in [*path[path.index(stage) :], stage])
        raise file.source.error(stage.base.where, f"stage {stage.name!r}: needs itself: {ring}")
    if stage in order:
        return
    inside = [*path, stage]
    base = base_stage(file, stage, bases[stage.number], named)
    if base is not None:
        _visit(file, base, bases, named, order, inside)
    for name in references(stage.instructions):
        other = file.stage(name) if name not in named else None
        if other is not None:
            _visit(file, other, bases, named, order, inside)
    order.append(stage)


def base_stage(
    file: Dockerfile, stage: Stage, base: str, named: Collection[str] = ()
) -> Stage | None:
    """The earlier stage that a FROM names, None for an image."""
    if base in named:
        return None
    for other in reversed(file.stages[: stage.number]):
        if other.base.name and other.base.name.lower() == base.lower():
            return other
    return None


def references(instructions: Collection[Instruction]) -> list[str]:
    """What ``--from`` names, in COPY and in mounts."""
    found = []
    for entry in instructions:
        if isinstance(entry, i.Copy) and entry.from_:
            found.append(entry.from_)
        if isinstance(entry, i.Run):
            found += [name for mount in entry.mounts if (name := mount.get("from"))]
    return found
