"""Errors as one line on stderr."""

from __future__ import annotations

import sys

import click

from cored.errors import CoredError

__all__ = ["failed", "say"]


def say(text: str) -> None:
    """One line on stderr, whatever ``text`` holds."""
    print(f"corectl: {' '.join(text.split())}", file=sys.stderr)


def failed(error: Exception, *, debug: bool) -> None:
    """Say what went wrong; with ``debug``, where."""
    if debug:
        import traceback

        traceback.print_exception(error)
    match error:
        case click.ClickException():
            say(error.format_message())
        case CoredError():
            say(str(error))
        case OSError(filename=str(name)):
            say(f"{name}: {error.strerror}")
        case OSError():
            say(f"system call: {error.strerror or error}")
        case _:
            say(f"internal error: {type(error).__name__}: {error} (--debug shows where)")
