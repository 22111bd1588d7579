"""From a logical line to its instruction."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

from cored_service_build.dockerfile import instructions as i
from cored_service_build.dockerfile.lexer import Heredoc, Line
from cored_service_build.dockerfile.source import DockerfileError, Range, Source, nearest
from cored_service_build.dockerfile.words import WordError, split

__all__ = ["FLAGS", "read"]

FLAGS: Mapping[str, tuple[str, ...]] = {
    "ADD": ("keep-git-dir", "checksum", "chmod", "chown", "link", "unpack", "exclude"),
    "COPY": ("from", "chmod", "chown", "link", "parents", "exclude"),
    "FROM": ("platform",),
    "HEALTHCHECK": ("interval", "timeout", "start-period", "start-interval", "retries"),
    "RUN": ("mount", "network", "security", "device"),
}
_REPEATED = ("mount", "exclude", "device")
_SWITCHES = ("link", "parents", "keep-git-dir", "unpack")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_STAGE = re.compile(r"[a-z][a-z0-9._-]*", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9}
_NS["h"] = 3600 * 10**9


@dataclass(slots=True)
class _Given:
    """One line in the making: flags taken off, ``rest`` without them."""

    source: Source
    line: Line
    escape: str
    flags: dict[str, list[str]]
    rest: str

    @property
    def base(self) -> tuple[str, str, Range]:
        text = f"{self.line.keyword} {self.line.rest}".strip()
        return self.line.word, text, self.line.where

    def error(self, what: str, hint: str | None = None) -> DockerfileError:
        return self.source.error(self.line.where, f"{self.line.keyword}: {what}", hint)

    def flag(self, name: str) -> str:
        return self.flags.get(name, [""])[-1]

    def switch(self, name: str) -> bool:
        value = self.flags.get(name, ["false"])[-1].lower()
        if value not in ("", "true", "false", "1", "0"):
            raise self.error(f"flag --{name}: {value!r} is neither true nor false")
        return value in ("", "true", "1")

    def words(self) -> list[str]:
        try:
            return split(self.rest, self.escape)
        except WordError as error:
            raise self.error(str(error)) from error

    def array(self) -> tuple[str, ...] | None:
        """The JSON form, None where it is not one."""
        if not self.rest.startswith("["):
            return None
        try:
            found = json.loads(self.rest)
        except ValueError:
            return None
        if not isinstance(found, list) or not all(isinstance(entry, str) for entry in found):
            return None
        return tuple(found)

    def command(self) -> i.Command:
        array = self.array()
        return i.Command((self.rest,), shell=True) if array is None else i.Command(array)

    def one(self) -> str:
        if not self.rest:
            raise self.error("needs an argument")
        return self.rest


def read(source: Source, line: Line, escape: str) -> i.Instruction:
    """The instruction of a line. DockerfileError."""
    reader = _READERS.get(line.keyword)
    if reader is None:
        raise source.error(
            line.where,
            f"unknown instruction {line.word!r}",
            hint=nearest(line.keyword, list(_READERS)),
        )
    flags, rest = _flags(source, line)
    return reader(_Given(source, line, escape, flags, rest))


def _flags(source: Source, line: Line) -> tuple[dict[str, list[str]], str]:
    known = FLAGS.get(line.keyword, ())
    flags: dict[str, list[str]] = {}
    rest = line.rest
    if line.keyword in ("CMD", "ENTRYPOINT", "SHELL", "ONBUILD", "MAINTAINER"):
        return flags, rest
    while match := re.match(r"--(\S*)(?:\s+|$)", rest):
        if not match[1]:
            return flags, rest[match.end() :]
        name, equal, value = match[1].partition("=")
        if name not in known:
            hint = nearest(name, known) or (
                f"it takes {', '.join(f'--{k}' for k in known)}" if known else "it takes none"
            )
            raise source.error(line.where, f"{line.keyword}: unknown flag --{name}", hint)
        if not equal and name not in _SWITCHES:
            raise source.error(line.where, f"{line.keyword}: flag --{name} has no value")
        if name in flags and name not in _REPEATED:
            raise source.error(line.where, f"{line.keyword}: flag --{name} is there twice")
        flags.setdefault(name, []).append(value.strip("\"'"))
        rest = rest[match.end() :]
    return flags, rest


def _from(g: _Given) -> i.Instruction:
    words = g.rest.split()
    if len(words) not in (1, 3) or (len(words) == 3 and words[1].upper() != "AS"):
        raise g.error("takes one argument, or three", hint="FROM IMAGE [AS NAME]")
    name = words[2] if len(words) == 3 else ""
    if name and not _STAGE.fullmatch(name):
        raise g.error(f"invalid name of a stage {name!r}", hint="letters, digits, . _ -")
    return i.From(*g.base, words[0], name, g.flag("platform"))


def _run(g: _Given) -> i.Instruction:
    network = g.flag("network") or "default"
    if network not in ("default", "none", "host"):
        raise g.error(f"unknown network {network!r}", hint="default, none or host")
    security = g.flag("security") or "sandbox"
    if security not in ("sandbox", "insecure"):
        raise g.error(f"unknown security {security!r}", hint="sandbox or insecure")
    g.one()
    devices = tuple(_device(g, text) for text in g.flags.get("device", []))
    mounts = tuple(_mount(g, text) for text in g.flags.get("mount", []))
    return i.Run(*g.base, g.command(), mounts, network, security, g.line.heredocs, devices)


def _device(g: _Given, text: str) -> tuple[str, bool]:
    """``[name=]NAME[,required[=BOOL]]``, where NAME may be VENDOR/CLASS=DEVICE."""
    name, required = "", False
    for part in text.split(","):
        key, equal, value = part.partition("=")
        if key == "required":
            required = not equal or value.lower() in ("true", "1")
        elif name or not part:
            raise g.error(f"device {text!r}: invalid", hint="VENDOR/CLASS=NAME[,required]")
        else:
            name = value if key == "name" else part
    if not name:
        raise g.error(f"device {text!r}: has no name", hint="VENDOR/CLASS=NAME[,required]")
    return name, required


_MOUNTS = {
    "bind": {"target", "dst", "destination", "source", "src", "from", "rw", "readwrite", "ro",
             "readonly"},
    "cache": {"id", "target", "dst", "destination", "ro", "readonly", "rw", "readwrite", "sharing",
              "from", "source", "src", "mode", "uid", "gid"},
    "tmpfs": {"target", "dst", "destination", "size"},
    "secret": {"id", "target", "dst", "destination", "required", "mode", "uid", "gid", "env"},
    "ssh": {"id", "target", "dst", "destination", "required", "mode", "uid", "gid"},
}  # fmt: skip


def _mount(g: _Given, text: str) -> i.Mount:
    options = []
    for part in text.split(","):
        name, equal, value = part.partition("=")
        options.append((name.strip().lower(), value if equal else "true"))
    mount = i.Mount(tuple(options))
    known = _MOUNTS.get(mount.type)
    if known is None:
        raise g.error(f"unknown type of mount {mount.type!r}", hint=", ".join(_MOUNTS))
    for name, _ in options:
        if name not in known and name != "type":
            raise g.error(
                f"mount of type {mount.type} has no option {name!r}",
                hint=nearest(name, sorted(known)),
            )
    target = mount.get("target", "dst", "destination")
    if mount.type in ("bind", "cache", "tmpfs") and not target:
        raise g.error(f"mount of type {mount.type} needs a target")
    sharing = mount.get("sharing") or "shared"
    if sharing not in ("shared", "private", "locked"):
        raise g.error(f"unknown sharing {sharing!r}", hint="shared, private or locked")
    return mount


def _copy(g: _Given) -> i.Instruction:
    array = g.array()
    words = list(array) if array is not None else g.words()
    documents = g.line.heredocs if array is None else ()
    if len(words) < 2:
        raise g.error("needs a source and a target", hint=f"{g.line.keyword} SOURCE... TARGET")
    *sources, target = words
    mode = g.flag("chmod")
    if re.fullmatch(r"\d+", mode) and not re.fullmatch(r"0*[0-7]{1,4}", mode):
        raise g.error(f"mode {mode!r}: not an octal number up to 7777")
    names = {f"<<{'-' if d.chomp else ''}{d.name}" for d in documents}
    sources = [s for s in sources if s.replace("'", "").replace('"', "") not in names]
    copied = i.Copy(
        *g.base, tuple(sources), target, g.flag("from"), g.flag("chown"), mode, g.switch("link"),
        g.switch("parents"), tuple(g.flags.get("exclude", [])), documents,
    )  # fmt: skip
    if g.line.keyword == "COPY":
        return copied
    checksum = g.flag("checksum")
    if checksum and not checksum.startswith("$"):
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", checksum):
            raise g.error(f"checksum {checksum!r}: invalid", hint="sha256: and 64 digits")
        if len(sources) != 1:
            raise g.error("a checksum needs exactly one source")
    unpack = g.switch("unpack") if "unpack" in g.flags else None
    return i.Add(
        **{field.name: getattr(copied, field.name) for field in fields(copied)},
        checksum=checksum,
        keep_git_dir=g.switch("keep-git-dir"),
        unpack=unpack,
    )


def _pairs(g: _Given) -> tuple[tuple[tuple[str, str], ...], bool]:
    """``a=b c=d``, or ``a b c`` where the first word has no =; values as written."""
    g.one()
    words = g.words()
    if "=" not in words[0]:
        value = g.rest.partition(words[0])[2].strip()
        if not value:
            raise g.error(f"{words[0]} has no value", hint=f"{g.line.keyword} NAME=VALUE")
        return ((words[0], value),), True
    pairs = []
    for word in words:
        name, equal, value = word.partition("=")
        if not equal:
            raise g.error(f"{word!r}: no = in it", hint="values with blanks need quotes")
        if not name:
            raise g.error(f"{word!r}: no name before the =")
        pairs.append((name, value))
    return tuple(pairs), False


def _env(g: _Given) -> i.Instruction:
    return i.Env(*g.base, *_pairs(g))


def _label(g: _Given) -> i.Instruction:
    return i.Label(*g.base, *_pairs(g))


def _arg(g: _Given) -> i.Instruction:
    g.one()
    pairs: list[tuple[str, str | None]] = []
    for word in g.words():
        name, equal, value = word.partition("=")
        if not _NAME.fullmatch(name):
            raise g.error(f"{word!r}: invalid name of an argument")
        pairs.append((name, value if equal else None))
    return i.Arg(*g.base, tuple(pairs))


def _healthcheck(g: _Given) -> i.Instruction:
    kind, _, rest = g.one().partition(" ")
    if kind.upper() == "NONE":
        if rest.strip():
            raise g.error("NONE takes no arguments")
        return i.Healthcheck(*g.base, None)
    if kind.upper() != "CMD":
        raise g.error(f"unknown type {kind!r}", hint="CMD or NONE")
    g.rest = rest.strip()
    command = (g.one(), g.command())[1]
    interval, timeout, period, start = (_duration(g, name) for name in FLAGS["HEALTHCHECK"][:4])
    retries = g.flag("retries") or "0"
    if not retries.isdecimal():
        raise g.error(f"retries {retries!r}: not a number")
    return i.Healthcheck(*g.base, command, interval, timeout, period, start, int(retries))


def _duration(g: _Given, name: str) -> int:
    text = g.flag(name)
    if not text or text == "0":
        return 0
    parts = _DURATION.findall(text)
    if "".join(a + b for a, b in parts) != text:
        raise g.error(f"{name} {text!r}: not a duration", hint="30s, 1m30s, 500ms")
    return int(sum(float(amount) * _NS[unit] for amount, unit in parts))


def _onbuild(g: _Given) -> i.Instruction:
    inner = g.one().split()[0].upper()
    if inner in ("ONBUILD", "FROM", "MAINTAINER"):
        raise g.error(f"{inner} is not allowed as a trigger")
    text = g.rest + "".join(_document(document) for document in g.line.heredocs)
    word, _, rest = g.rest.partition(" ")
    read(g.source, Line(word, rest.strip(), g.line.where, g.line.heredocs), g.escape)
    return i.Onbuild(*g.base, text)


def _document(document: Heredoc) -> str:
    return f"\n{document.content}{document.name}"


def _shell(g: _Given) -> i.Instruction:
    array = g.array()
    if not array:
        raise g.error("needs the JSON form", hint='SHELL ["/bin/bash", "-c"]')
    return i.Shell(*g.base, array)


def _volume(g: _Given) -> i.Instruction:
    array = g.array()
    paths: Sequence[str] = array if array is not None else g.words()
    if not paths or not all(paths):
        raise g.error("needs a path, and none that is empty")
    return i.Volume(*g.base, tuple(paths))


def _expose(g: _Given) -> i.Instruction:
    g.one()
    return i.Expose(*g.base, tuple(g.words()))


def _simple(kind: Callable[..., i.Instruction]) -> Callable[[_Given], i.Instruction]:
    return lambda g: kind(*g.base, g.one())


def _commanded(kind: Callable[..., i.Instruction]) -> Callable[[_Given], i.Instruction]:
    return lambda g: kind(*g.base, g.command())


_READERS: Mapping[str, Callable[[_Given], i.Instruction]] = {
    "ADD": _copy, "ARG": _arg, "CMD": _commanded(i.Cmd), "COPY": _copy,
    "ENTRYPOINT": _commanded(i.Entrypoint), "ENV": _env, "EXPOSE": _expose, "FROM": _from,
    "HEALTHCHECK": _healthcheck, "LABEL": _label, "MAINTAINER": _simple(i.Maintainer),
    "ONBUILD": _onbuild, "RUN": _run, "SHELL": _shell, "STOPSIGNAL": _simple(i.Stopsignal),
    "USER": _simple(i.User), "VOLUME": _volume, "WORKDIR": _simple(i.Workdir),
}  # fmt: skip
