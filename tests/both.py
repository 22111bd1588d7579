"""The same scripts for corectl and for docker: exit codes and outputs line by line."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.daemons import INSTALLED, Daemon
from tests.docker import Docker

__all__ = ["Both", "Outcome", "Script", "both_daemons", "compared", "scripts"]

# without the networks that the machine's other programs have
_ALONE = 'network_config_dirs = ["/nowhere"]\n'
_DOCKER = "/usr/bin/docker"
_NORMAL = [
    (re.compile(r"sha256:[0-9a-f]{64}"), "<digest>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<id>"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "<short>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"), "<time>"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? [+-]\d{4} \w+"), "<time>"),
    (re.compile(r"(Less than a|About an?|\d+) (second|minute|hour)s?"), "<while>"),
    (re.compile(r"\b\d+\.\d+\.\d+\.\d+\b(?<!0\.0\.0\.0)(?<!127\.0\.0\.1)"), "<address>"),
    (re.compile(r"\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b"), "<mac>"),
]


@dataclass(frozen=True)
class Script:
    """Lines of sh; ``d`` is the program. ``but`` has those whose difference is meant, and why."""

    lines: Sequence[str]
    but: Mapping[int, str]


def scripts(text: str) -> dict[str, Script]:
    """Of a file: ``== NAME`` begins one, ``# REASON`` says why the next line differs."""
    found: dict[str, Script] = {}
    for part in text.split("== ")[1:]:
        name, *lines = part.strip().splitlines()
        kept: list[str] = []
        but: dict[int, str] = {}
        for line in lines:
            if line.startswith("# "):
                but[len(kept)] = line[2:]
            elif line:
                kept.append(line)
        found[name] = Script(kept, but)
    return found


@dataclass(frozen=True)
class Outcome:
    """What a line came to: stdout and its exit code, and whether it said something on stderr."""

    code: int
    out: str
    errors: bool
    text: str = field(default="", compare=False)
    """What that is: nobody's words are compared."""


@dataclass
class Both:
    """A daemon of each kind; scripts run in directories of their own below ``place``."""

    cored: Daemon
    docker: Docker
    place: Path

    def programs(self) -> dict[str, list[str]]:
        return {
            "corectl": [*INSTALLED, "--address", str(self.cored.address)],
            "docker": [_DOCKER, "-H", self.docker.host],
        }

    def run(self, script: Script) -> dict[str, list[Outcome]]:
        """By program, line by line."""
        programs = self.programs()
        with ThreadPoolExecutor(2) as pool:
            runs = {name: pool.submit(self._run, name, script) for name in programs}
            return {name: run.result() for name, run in runs.items()}

    def _run(self, name: str, script: Script) -> list[Outcome]:
        program = self.programs()[name]
        place = self.place / f"{name}-{len(list(self.place.iterdir()))}"
        place.mkdir()
        try:
            return [_line(program, line, place) for line in script.lines]
        finally:
            listed = subprocess.run(
                [*program, "ps", "-aq", "--no-trunc"], capture_output=True, text=True, check=True
            )
            if left := listed.stdout.split():
                subprocess.run([*program, "rm", "-fv", *left], capture_output=True, check=True)


def _line(program: Sequence[str], line: str, place: Path) -> Outcome:
    words = " ".join(f"'{word}'" for word in program)
    done = subprocess.run(
        ["sh", "-c", f'd() {{ {words} "$@"; }}\n{line}'],
        cwd=place, env={**os.environ, "CORECTL_WARM": "5"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
        timeout=120, check=False,
    )  # fmt: skip
    return Outcome(done.returncode, normal(done.stdout, place), bool(done.stderr), done.stderr)


def normal(text: str, place: Path) -> str:
    """Without what is another's every time; columns one space apart."""
    text = text.replace(str(place), "<here>")
    for pattern, word in _NORMAL:
        text = pattern.sub(word, text)
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


def compared(both: Both, script: Script) -> None:
    """Fail with all lines that differ and are not meant to, and with all that are and do not."""
    outcomes = both.run(script)
    wrong = []
    for number, line in enumerate(script.lines):
        ours, theirs = outcomes["corectl"][number], outcomes["docker"][number]
        if ours != theirs and number not in script.but:
            wrong.append(f"{line}\n  corectl: {ours}\n  docker:  {theirs}")
        if ours == theirs and number in script.but:
            wrong.append(f"{line}\n  the same now, though listed: {script.but[number]}")
    assert not wrong, "\n".join(wrong)


@contextmanager
def both_daemons(busybox: Path, place: Path) -> Iterator[Both]:
    """Our daemon, and Debian's dockerd on Debian's containerd; both know busybox:latest."""
    from tests import daemons
    from tests.docker import dockerd

    with daemons.cored(_ALONE) as ours, daemons.containerd() as containerd:
        with dockerd(containerd) as docker:
            ours.corectl("load", "-i", str(busybox), check=True)
            docker("load", "-i", str(busybox))
            yield Both(ours, docker, place)
