"""exec, attach, top, stats, events and cp: what needs calls that the daemon is still to have."""

from __future__ import annotations

import click

from corectl.compose.application import Application
from corectl.compose.performing import missing_verb

__all__ = ["attach", "cp", "events", "exec_", "stats", "top"]


def _command(word: str, help: str) -> click.Command:
    @click.command(word, help=help, context_settings={"ignore_unknown_options": True})
    @click.argument("words", nargs=-1, type=click.UNPROCESSED)
    @click.pass_obj
    def command(application: Application, words: tuple[str, ...]) -> None:
        raise missing_verb(f"compose {word}")

    return command


exec_ = _command("exec", "Run a command in a service's container.")
attach = _command("attach", "Join a service's container.")
top = _command("top", "Show the processes of the containers.")
stats = _command("stats", "Show what the containers use.")
events = _command("events", "Show what happens to the containers.")
cp = _command("cp", "Copy files to and from a service's container.")
