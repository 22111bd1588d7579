"""--help fits a screen, the manual has everything, colours are for terminals."""

from __future__ import annotations

import os
import subprocess
import sys

import click
import pytest
from corectl import colour
from corectl.manual import page, walk
from corectl.tree import build

from tests.terminals import terminal

SCREEN = 50


def helped(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "corectl", *words],
        capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "80"},
    )  # fmt: skip
    return done.stdout


def test_help_of_every_command_fits_a_screen() -> None:
    root = build()
    context = click.Context(root, info_name="corectl", terminal_width=80)
    long = {}
    for path, command in walk(root, context):
        inner = click.Context(command, info_name=path[-1], parent=context, terminal_width=80)
        lines = command.get_help(inner).count("\n") + 1
        if lines > SCREEN:
            long[path] = lines
    assert not long


def test_options_of_run_stand_in_groups_and_are_explained_on_demand() -> None:
    text = helped("run", "--help")
    assert "\nLimits:\n  -m --memory, --memory-swap," in text
    assert "\nNetworks:\n" in text
    explained = helped("run", "--help=memory")
    assert "-m, --memory" in explained
    assert "Limits:" in explained
    assert "--hostname" not in explained
    assert "no option has 'nonsense'" in helped("create", "--help=nonsense")


def test_the_manual_names_every_command_and_escapes_what_roff_would_take() -> None:
    root = build()
    text = page(root)
    for path, _ in walk(root, click.Context(root, info_name="corectl")):
        assert f".SS corectl {' '.join(path)}".replace("-", r"\-") in text
    macros = (".TH", ".SH", ".SS", ".B ", ".BR", ".TP", ".PP")
    assert not [line for line in text.splitlines() if line[:1] in ".'" and line[:3] not in macros]


@pytest.mark.parametrize(
    ("more", "expected"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colours_are_for_terminals_that_want_them(more: dict[str, str], expected: bool) -> None:
    code = "from corectl.colour import styled; print('[' + styled('x', fg='red') + ']')"
    given = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    with terminal([sys.executable, "-c", code], {**given, "TERM": "xterm", **more}) as running:
        running.see("]")
        assert (b"\x1b[31m" in running.seen) is expected
    assert colour.styled("x", fg="red") == "x"
