"""Colours: on a terminal, unless NO_COLOR (https://no-color.org) or the terminal says otherwise."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

__all__ = ["coloured", "styled"]


def coloured() -> bool:
    """Whether standard output takes colours."""
    unwanted = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return not unwanted and sys.stdout.isatty()


def styled(text: str, **style: Any) -> str:
    """A text in click's styles, or as it is."""
    return click.style(text, **style) if coloured() else text
