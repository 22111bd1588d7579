"""The instructions of a Dockerfile as values; what may hold variables is as written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cored_service_build.dockerfile.lexer import Heredoc
from cored_service_build.dockerfile.source import Range

__all__ = [
    "Add",
    "Arg",
    "Cmd",
    "Command",
    "Copy",
    "Entrypoint",
    "Env",
    "Expose",
    "From",
    "Healthcheck",
    "Instruction",
    "Label",
    "Maintainer",
    "Mount",
    "Onbuild",
    "Run",
    "Shell",
    "Stopsignal",
    "User",
    "Volume",
    "Workdir",
]


@dataclass(frozen=True, slots=True)
class Instruction:
    """``text`` is the whole instruction in one line; ``word`` its first word as typed."""

    word: str
    text: str
    where: Range


@dataclass(frozen=True, slots=True)
class Command:
    """Arguments (the exec form), or one text for the shell."""

    args: tuple[str, ...]
    shell: bool = False


@dataclass(frozen=True, slots=True)
class From(Instruction):
    image: str
    name: str = ""
    platform: str = ""


@dataclass(frozen=True, slots=True)
class Arg(Instruction):
    """Names with their defaults, None for those without."""

    pairs: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Env(Instruction):
    """``legacy``: the old form, a name, a blank and all the rest."""

    pairs: tuple[tuple[str, str], ...]
    legacy: bool = False


@dataclass(frozen=True, slots=True)
class Label(Env):
    pass


@dataclass(frozen=True, slots=True)
class Mount:
    """``--mount`` of RUN: its options by name, as written."""

    options: tuple[tuple[str, str], ...]

    def get(self, *names: str) -> str | None:
        """The last value under one of the names."""
        found = [value for name, value in self.options if name in names]
        return found[-1] if found else None

    @property
    def type(self) -> str:
        return self.get("type") or "bind"


@dataclass(frozen=True, slots=True)
class Run(Instruction):
    """``devices`` are CDI names, and whether the step fails without them."""

    command: Command
    mounts: tuple[Mount, ...] = ()
    network: str = "default"
    security: str = "sandbox"
    heredocs: tuple[Heredoc, ...] = ()
    devices: tuple[tuple[str, bool], ...] = ()


@dataclass(frozen=True, slots=True)
class Copy(Instruction):
    sources: tuple[str, ...]
    target: str
    from_: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True)
class Add(Copy):
    """``unpack`` None: archives of the context are unpacked, those of URLs are not."""

    checksum: str = ""
    keep_git_dir: bool = False
    unpack: bool | None = None


@dataclass(frozen=True, slots=True)
class Cmd(Instruction):
    command: Command


@dataclass(frozen=True, slots=True)
class Entrypoint(Cmd):
    pass


@dataclass(frozen=True, slots=True)
class Expose(Instruction):
    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Healthcheck(Instruction):
    """``command`` None is NONE; durations in ns, 0 for what was not said."""

    command: Command | None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Maintainer(Instruction):
    name: str


@dataclass(frozen=True, slots=True)
class Onbuild(Instruction):
    """``trigger`` is the instruction for later, as written (with its here-documents)."""

    trigger: str


@dataclass(frozen=True, slots=True)
class Shell(Instruction):
    args: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stopsignal(Instruction):
    signal: str


@dataclass(frozen=True, slots=True)
class User(Instruction):
    user: str


@dataclass(frozen=True, slots=True)
class Volume(Instruction):
    paths: Sequence[str]


@dataclass(frozen=True, slots=True)
class Workdir(Instruction):
    path: str
