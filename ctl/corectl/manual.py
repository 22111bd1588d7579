"""corectl(1), made from the parser, in the macros of man(7)."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

import cored

__all__ = ["page", "walk"]

_ENVIRONMENT = {
    "CORED_HOST, CORED_ADDRESS": "The daemon's socket, or tcp://HOST:PORT.",
    "CORED_CERT_PATH": "Directory of ca.pem, cert.pem and key.pem.",
    "CORED_NAMESPACE": "Namespace to work in.",
    "DOCKER_CONFIG": "Directory of config.json, where logins are kept.",
    "CORECTL_WARM": "Seconds that a process stays for the next calls (60; 0: none does).",
    "NO_COLOR": "No colours, whatever the terminal.",
}
_EXITS = {
    "0": "All is well; run, exec, start -a: the container's own exit code.",
    "1": "An error, told in one line on standard error.",
    "2": "Wrong usage.",
    "125": "run, create, exec: an error of corectl or the daemon.",
    "126": "run, exec: the command cannot be run.",
    "127": "run, exec: the command is not there.",
    "130": "Interrupted.",
}


def page(root: click.Group) -> str:
    """The whole page, as roff."""
    context = click.Context(root, info_name="corectl")
    lines = [
        f'.TH CORECTL 1 "" "cored {cored.__version__}" "User Commands"',
        ".SH NAME",
        r"corectl \- run containers with cored",
        ".SH SYNOPSIS",
        ".B corectl",
        r"[\fIOPTION\fR]... \fICOMMAND\fR [\fIARG\fR]...",
        ".SH DESCRIPTION",
        _text("The commands are those of docker, and a few more."),
        ".SH OPTIONS",
        *_options(root, context),
        ".SH COMMANDS",
    ]
    for path, command in walk(root, context):
        lines += _command(path, command, context)
    lines += [".SH ENVIRONMENT", *_terms(_ENVIRONMENT), ".SH EXIT STATUS", *_terms(_EXITS)]
    return "\n".join([*lines, ".SH SEE ALSO", ".BR docker (1)", ""])


def walk(
    group: click.Group, context: click.Context, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands below a group with the words that call them."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from walk(command, context, (*path, name))
        else:
            yield (*path, name), command


def _command(path: tuple[str, ...], command: click.Command, parent: click.Context) -> list[str]:
    name = " ".join(path)
    context = click.Context(command, info_name=name, parent=parent)
    usage = " ".join(command.collect_usage_pieces(context))
    help = inspect.cleandoc(command.help or "").replace("\b\n", "")
    paragraphs = [_text(part) for part in re.split(r"\n\s*\n", help) if part.strip()]
    return [
        f".SS corectl {_escaped(name)}",
        f".B corectl {_escaped(name)}",
        _text(usage),
        ".PP",
        "\n.PP\n".join(paragraphs),
        *_options(command, context),
    ]


def _options(command: click.Command, context: click.Context) -> list[str]:
    lines = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None or "--help" in parameter.opts:
            continue
        lines += [".TP", rf"\fB{_escaped(record[0])}\fR", _text(record[1]) or r"\&"]
    return lines


def _terms(given: dict[str, str]) -> list[str]:
    return [
        line
        for name, text in given.items()
        for line in (".TP", f".B {_escaped(name)}", _text(text))
    ]


def _text(text: str) -> str:
    """A paragraph; no line of it is taken for a macro."""
    return "\n".join(
        rf"\&{line}" if line[:1] in (".", "'") else line
        for line in (_escaped(each.strip()) for each in text.splitlines())
        if line
    )


def _escaped(text: str) -> str:
    return text.replace("\\", r"\e").replace("-", r"\-").replace("…", "...")
