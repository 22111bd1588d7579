"""What can be read, and still is not as it should be: the customary rules, by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cored_service_build.dockerfile import instructions as i
from cored_service_build.dockerfile.ignore import Ignore
from cored_service_build.dockerfile.parser import Dockerfile, Stage
from cored_service_build.dockerfile.scopes import PLATFORM, PREDEFINED
from cored_service_build.dockerfile.source import Range, nearest
from cored_service_build.dockerfile.words import Expansion, WordError

__all__ = ["Finding", "errors_wanted", "lint"]

_SECRET = re.compile(
    r"(?i)(?:_|^)(?:apikey|auth|credential|credentials|key|password|pword|passwd|secret|token)"
    r"(?:_|$)"
)
_PUBLIC = re.compile(r"(?i)(?:_|^)(?:public)(?:_|$)")
_PORT = re.compile(r"(?:\d{1,5}(?:-\d{1,5})?)(?:/(\w+))?")


@dataclass(frozen=True, slots=True)
class Finding:
    """``rule`` is its name for ``# check=skip=``."""

    rule: str
    where: Range
    text: str


def errors_wanted(file: Dockerfile, args: Mapping[str, str]) -> bool:
    """Whether a warning ends the build: ``check=error=true``, or the argument that wins over it."""
    check = _check(file, args)
    return bool(re.search(r"(?:^|;)\s*error\s*=\s*(?:true|1)", check, re.IGNORECASE))


def _check(file: Dockerfile, args: Mapping[str, str]) -> str:
    """What the directive ``check`` says, or the argument that wins over it."""
    return args.get("BUILDKIT_DOCKERFILE_CHECK", file.directives.get("check", ""))


def lint(
    file: Dockerfile, ignore: Ignore | None = None, args: Mapping[str, str] = MappingProxyType({})
) -> list[Finding]:
    """All warnings, in the order of the lines, without those that the file or ``args`` skip."""
    check = _check(file, args)
    skipped = _skipped(check)
    found = [
        *_casing(file), *_names(file), *_stages(file), *_arguments(file), *_bodies(file),
        *_ignored(file, ignore), *_described(file, check),
    ]  # fmt: skip
    if "all" in skipped:
        return []
    kept = [warning for warning in found if warning.rule.lower() not in skipped]
    return sorted(kept, key=lambda warning: (warning.where.first, warning.rule))


def _skipped(check: str) -> set[str]:
    match = re.search(r"skip=([^;]*)", check)
    return {name.strip().lower() for name in match[1].split(",")} if match else set()


def _casing(file: Dockerfile) -> Iterator[Finding]:
    upper = sum(line.word.isupper() for line in file.lines) >= len(file.lines) / 2
    wanted = "upper" if upper else "lower"
    for line in file.lines:
        if line.word != (line.word.upper() if upper else line.word.lower()):
            text = f"{line.word!r}: the other instructions are in {wanted} case"
            yield Finding("ConsistentInstructionCasing", line.where, text)
        if line.empty_continuation:
            yield Finding("NoEmptyContinuation", line.where, "an empty line in an instruction")
        match = re.search(r"\s([aA][sS])\s", line.rest) if line.keyword == "FROM" else None
        if match and match[1] != (match[1].upper() if line.word.isupper() else match[1].lower()):
            text = f"{match[1]!r} and {line.word!r}: differ in case"
            yield Finding("FromAsCasing", line.where, text)


def _names(file: Dockerfile) -> Iterator[Finding]:
    seen: set[str] = set()
    for stage in file.stages:
        name = stage.base.name
        if not name:
            continue
        where = stage.base.where
        if name != name.lower():
            yield Finding("StageNameCasing", where, f"stage {name!r}: should be in lower case")
        if name.lower() in seen:
            yield Finding("DuplicateStageName", where, f"stage {name!r}: is there twice")
        if name.lower() in ("scratch", "context"):
            yield Finding("ReservedStageName", where, f"stage {name!r}: a reserved name")
        seen.add(name.lower())


def _stages(file: Dockerfile) -> Iterator[Finding]:
    names = {name for arg in file.arguments for name, _ in arg.pairs}
    values = {name: value for arg in file.arguments for name, value in arg.pairs}
    for stage in file.stages:
        base = stage.base
        if base.platform in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
            text = f"platform {base.platform}: is the default"
            yield Finding("RedundantTargetPlatform", base.where, text)
        elif base.platform and "$" not in base.platform:
            text = f"platform {base.platform!r}: a constant"
            yield Finding("FromPlatformFlagConstDisallowed", base.where, text)
        used = Expansion({name: value or "" for name, value in values.items()}, file.escape)
        try:
            result = used.word(base.image)
        except WordError:
            continue
        for name in sorted(used.used - names - set(PLATFORM)):
            hint = nearest(name, sorted(names | set(PLATFORM)))
            text = f"variable {name!r}: no ARG before FROM declares it"
            yield Finding("UndefinedArgInFrom", base.where, f"{text} ({hint})" if hint else text)
        if used.used & names and (not result or result.startswith(":") or result.endswith(":")):
            text = f"{base.image!r}: is no image with the defaults of its arguments"
            yield Finding("InvalidDefaultArgInFrom", base.where, text)


def _arguments(file: Dockerfile) -> Iterator[Finding]:
    outside = {name for arg in file.arguments for name, _ in arg.pairs}
    inherited: dict[str, set[str]] = {}
    for stage in file.stages:
        known = {"PATH", *PREDEFINED, *inherited.get(stage.base.image.lower(), set())}
        foreign = stage.base.image != "scratch" and stage.base.image.lower() not in inherited
        for entry in stage.instructions:
            if isinstance(entry, i.Arg | i.Env):
                for name, value in entry.pairs:
                    if not isinstance(entry, i.Label) and _secret(name):
                        text = f"{entry.word.upper()} {name!r}: secrets stay in the image"
                        yield Finding("SecretsUsedInArgOrEnv", entry.where, text)
                    yield from _undefined(file, entry, value or "", known, foreign)
                if not isinstance(entry, i.Label):
                    known |= {name for name, _ in entry.pairs}
            elif isinstance(entry, i.Workdir | i.User | i.Copy | i.Expose | i.Volume):
                yield from _undefined(file, entry, entry.text.partition(" ")[2], known, foreign)
        inherited[stage.name] = known - outside
        known |= outside


def _undefined(
    file: Dockerfile, entry: i.Instruction, text: str, known: set[str], foreign: bool
) -> Iterator[Finding]:
    used = Expansion(dict.fromkeys(known, "x"), file.escape)
    try:
        used.word(text)
    except WordError:
        return  # told when the value is needed
    for name in sorted(used.unset):
        hint = nearest(name, sorted(known))
        if foreign and hint is None:
            continue  # the base image may well have it
        told = f"variable ${name}: is not set"
        yield Finding("UndefinedVar", entry.where, f"{told} ({hint})" if hint else told)


def _secret(name: str) -> bool:
    return bool(_SECRET.search(name)) and not _PUBLIC.search(name)


def _bodies(file: Dockerfile) -> Iterator[Finding]:
    for stage in file.stages:
        yield from _body(stage)


def _body(stage: Stage) -> Iterator[Finding]:
    absolute = shell = False
    last: dict[str, i.Instruction] = {}
    for entry in stage.instructions:
        keyword, where = entry.word.upper(), entry.where
        shell = shell or isinstance(entry, i.Shell)
        if isinstance(entry, i.Cmd) and entry.command.shell and not shell:
            yield Finding("JSONArgsRecommended", where, f"{keyword}: signals reach the shell only")
        if isinstance(entry, i.Maintainer):
            text = 'MAINTAINER: use LABEL org.opencontainers.image.authors="..."'
            yield Finding("MaintainerDeprecated", where, text)
        if isinstance(entry, i.Env) and entry.legacy:
            yield Finding("LegacyKeyValueFormat", where, f"{keyword}: write NAME=VALUE")
        if isinstance(entry, i.Workdir):
            relative = not entry.path.startswith(("/", "$", '"', "'"))
            if relative and not absolute:
                text = f"{entry.path!r}: relative, to what the base image may change"
                yield Finding("WorkdirRelativePath", where, text)
            absolute = absolute or not relative
        if keyword in ("CMD", "ENTRYPOINT", "HEALTHCHECK"):
            if keyword in last:
                text = f"{keyword}: only the last one of a stage counts"
                yield Finding("MultipleInstructionsDisallowed", last[keyword].where, text)
            last[keyword] = entry
        if isinstance(entry, i.Expose):
            yield from _ports(entry)


def _ports(entry: i.Expose) -> Iterator[Finding]:
    for port in entry.ports:
        if "$" in port:
            continue
        match = _PORT.fullmatch(port)
        if match is None:
            text = f"{port!r}: not PORT[/PROTOCOL]"
            yield Finding("ExposeInvalidFormat", entry.where, text)
        elif match[1] and match[1] != match[1].lower():
            text = f"{port!r}: protocols are in lower case"
            yield Finding("ExposeProtoCasing", entry.where, text)


def _described(file: Dockerfile, check: str) -> Iterator[Finding]:
    """An experimental rule, for files that ask for it: ``check=experimental=...``."""
    wanted = re.search(r"experimental=([^;]*)", check)
    names = {name.strip().lower() for name in wanted[1].split(",")} if wanted else set()
    if not names & {"all", "invaliddefinitiondescription"}:
        return
    named = [(stage.base.where, stage.base.name) for stage in file.stages if stage.base.name]
    named += [(arg.where, arg.pairs[0][0]) for arg in file.arguments]
    for where, name in named:
        above = file.source.lines[where.first - 2].strip() if where.first > 1 else ""
        if above.startswith("#") and "=" not in above and not above.startswith(f"# {name} "):
            text = f"{name!r}: the comment above is no description of it: # {name} TEXT"
            yield Finding("InvalidDefinitionDescription", where, text)


def _ignored(file: Dockerfile, ignore: Ignore | None) -> Iterator[Finding]:
    for stage in file.stages if ignore else ():
        for entry in stage.instructions:
            if not isinstance(entry, i.Copy) or entry.from_:
                continue
            for name in entry.sources:
                path = name.strip("/").removeprefix("./")
                plain = path not in ("", ".") and not re.search(r"[$*?\[:]", path)
                if plain and ignore and ignore.ignored(path):
                    text = f"{name!r}: .dockerignore leaves it out"
                    yield Finding("CopyIgnoredFile", entry.where, text)
