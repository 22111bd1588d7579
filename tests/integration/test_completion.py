"""Completion in real shells, with names from a real daemon; the manual page and its readers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemons import Daemon
from tests.terminals import Terminal, terminal

pytestmark = pytest.mark.root
SHELLS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}


@pytest.fixture(scope="module")
def environment(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a shell whose corectl asks the daemon, which has some names to tell."""
    place = tmp_path_factory.mktemp("bin")
    program = place / "corectl"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m corectl "$@"\n')
    program.chmod(0o755)
    for name in ("alpha-one", "alpha-two"):
        daemon.corectl("create", "--name", name, "busybox", check=True)
    daemon.corectl("tag", "busybox", "tagged:colon", check=True)
    daemon.corectl("volume", "create", "vol-here", check=True)
    daemon.corectl("network", "create", "net-here", check=True)
    return {
        "PATH": f"{place}:{os.environ['PATH']}",
        "CORED_ADDRESS": str(daemon.address),
        "HOME": str(tmp_path_factory.mktemp("home")),
        "TERM": "xterm",
        "PS1": "ready> ",
        "LANG": "C.UTF-8",
    }


@pytest.fixture(scope="module", params=["bash", "zsh"])
def shell(request: pytest.FixtureRequest, environment: dict[str, str]) -> Iterator[Terminal]:
    name = request.param
    if shutil.which(name) is None:
        pytest.fail(f"{name} is not installed: tests/run does that")
    with terminal(SHELLS[name], environment) as running:
        if name == "zsh":
            running.type("PS1='ready> '; autoload -Uz compinit && compinit -u -D\n")
        running.type(f"source <(corectl completion {name}); echo loa''ded\n")
        running.see("loaded")
        yield running


def completed(shell: Terminal, words: str, expected: str) -> None:
    """Type words and TAB; see what the line becomes, then leave it."""
    shell.type(f"\x15echo {words.count(' ')} >/dev/null\n")
    shell.type(f"{words}\t")
    shell.see(expected)
    shell.type("\x15")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("corectl unpa", "corectl unpause"),
        ("corectl system pru", "corectl system prune"),
        ("corectl run --network-al", "--network-alias"),
        ("corectl inspect alpha-o", "alpha-one"),
        ("corectl rm alpha-one alpha-t", "alpha-two"),
        ("corectl volume inspect vol-h", "vol-here"),
        ("corectl rmi tagged:co", "tagged:colon"),
        ("corectl history tagg", "tagged:colon"),
        ("corectl completion fi", "completion fish"),
    ],
)
def test_a_shell_completes_commands_options_and_names(
    shell: Terminal, words: str, expected: str
) -> None:
    completed(shell, words, expected)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("corectl unpa", ["unpause"]),
        ("corectl start alpha-", ["alpha-one", "alpha-two"]),
        ("corectl stop alpha-", []),
        ("corectl rmi tagg", ["tagged:colon"]),
        ("corectl namespace rm def", ["default"]),
        ("corectl network inspect net-", ["net-here"]),
    ],
)
def test_fish_completes_too(environment: dict[str, str], words: str, expected: list[str]) -> None:
    script = f"corectl completion fish | source; complete -C '{words}'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        env=environment, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert sorted(line.split("\t")[0] for line in done.stdout.splitlines()) == expected


def test_without_a_daemon_there_are_commands_and_no_noise(environment: dict[str, str]) -> None:
    line = {"COMP_LINE": "corectl inspect alp", "_CORECTL_COMPLETE": "bash_complete"}
    away = {**environment, "CORED_ADDRESS": "/nowhere/sock"}
    done = subprocess.run(["corectl"], env={**away, **line}, capture_output=True, check=True)
    assert (done.stdout.strip(), done.stderr) == (b"", b"")
    line["COMP_LINE"] = "corectl ins"
    done = subprocess.run(["corectl"], env={**away, **line}, capture_output=True, check=True)
    assert done.stdout == b"plain,inspect\n"


def test_the_manual_page_is_good_and_whole(environment: dict[str, str], tmp_path: Path) -> None:
    page = tmp_path / "corectl.1"
    with page.open("wb") as file:
        subprocess.run(["corectl", "man"], env=environment, stdout=file, check=True)
    lint = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "error", page], capture_output=True, text=True, check=False
    )
    assert (lint.returncode, lint.stdout) == (0, "")
    shown = subprocess.run(
        ["mandoc", "-T", "ascii", "-O", "width=200", page], capture_output=True, check=True
    )
    text = subprocess.run(["col", "-b"], input=shown.stdout, capture_output=True, check=False)
    words = text.stdout.decode() or shown.stdout.decode()
    for wanted in ("corectl container run", "corectl compose up", "--memory", "NO_COLOR", "125"):
        assert wanted in words
