"""Completion for shells: what can stand where, and the names that the daemon knows.

The scripts ask ``corectl`` itself, with the line so far in the environment; click finds the place
in the line. Nothing of this is imported otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

from corectl.session import Session

__all__ = ["VARIABLE", "attach", "register", "script"]

VARIABLE = "_CORECTL_COMPLETE"
_PATIENCE = 2.0
# for these only containers in a state where they have an effect
_STATES = {
    **dict.fromkeys(
        ("stop", "kill", "exec", "attach", "top", "pause", "unpause", "port"), "running"
    ),
    "start": "stopped",
}
# by the names of parameters; a command's own go first
_KINDS = {
    "container": "container", "containers": "container", "image": "image", "images": "image",
    "volumes_from": "container", "network": "network", "networks": "network",
    "namespace": "namespace", "env_file": "file", "label_file": "file", "cidfile": "file",
    "pidfile": "file", "tlscacert": "file", "tlscert": "file", "tlskey": "file",
}  # fmt: skip
# the same by group, or command, and parameter
_OWN = {
    ("volume", "names"): "volume", ("network", "names"): "network",
    ("namespace", "names"): "namespace", ("label", "name"): "namespace",
    ("corectl", "names"): "container", ("container", "names"): "container",
    ("tag", "source"): "image", ("corectl", "references"): "image",
    ("image", "references"): "image", ("history", "reference"): "image",
    ("push", "reference"): "image", ("mount", "reference"): "image",
    ("build", "context"): "file", ("image", "file"): "file", ("load", "input"): "file",
}  # fmt: skip
_LITTLE = """
%(complete_func)s() {
    local line type value IFS=$'\\n'
    COMPREPLY=()
    local answer=$(COMP_LINE="${COMP_LINE:0:COMP_POINT}" %(complete_var)s=bash_complete "$1")
    for line in $answer; do
        type=${line%%%%,*} value=${line#*,}
        case $type in
            file | dir) compopt -o default -o filenames ;;
            *) COMPREPLY+=("$value") ;;
        esac
    done
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class _Bash(BashComplete):
    """Bash takes ``:`` and ``=`` for the ends of words; images and options do not."""

    source_template = _LITTLE

    def source(self) -> str:
        return self.source_template % self.source_vars()

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ["COMP_LINE"]
        words = split_arg_string(line)
        incomplete = words.pop() if words and not line[-1:].isspace() else ""
        return words[1:], incomplete

    def complete(self) -> str:
        args, incomplete = self.get_completion_args()
        items = self.get_completions(args, incomplete)
        end = max(incomplete.rfind(":"), incomplete.rfind("="))
        return "\n".join(f"{item.type},{_tail(item, incomplete, end)}" for item in items)


def _tail(item: CompletionItem, incomplete: str, end: int) -> str:
    """What of a word comes after the last character that bash takes for its end."""
    value = str(item.value)
    return value[end + 1 :] if end >= 0 and value.startswith(incomplete[: end + 1]) else value


_SHELLS: Mapping[str, type[ShellComplete]] = {
    "bash": _Bash, "zsh": ZshComplete, "fish": FishComplete,
}  # fmt: skip


def script(shell: str) -> str:
    """What a shell is to read to know corectl."""
    group = click.Group("corectl")
    complete = _SHELLS[shell](group, {}, "corectl", VARIABLE)
    return complete.source_template.lstrip("\n") % complete.source_vars()


def register() -> None:
    """Have click ask us for bash."""
    add_completion_class(_Bash, "bash")


def attach(group: str, command: click.Command) -> None:
    """Let a command's parameters know what can stand for them."""
    for parameter in command.params:
        name = parameter.name or ""
        own = command.name or ""
        kind = _OWN.get((own, name)) or _OWN.get((group, name)) or _KINDS.get(name)
        if kind == "container" and isinstance(parameter, click.Argument):
            kind = _STATES.get(own, kind)
        if kind:
            parameter._custom_shell_complete = _completer(kind)


def _completer(
    kind: str,
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem] | list[str]]:
    def complete(
        context: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem] | list[str]:
        if kind == "file":
            return [CompletionItem(incomplete, type="file")]
        taken = context.params.get(parameter.name or "") or ()
        return [
            CompletionItem(name)
            for name in _names(context, kind, incomplete)
            if not isinstance(taken, tuple) or name not in taken
        ]

    return complete


def _names(context: click.Context, kind: str, incomplete: str) -> list[str]:
    from corectl.output import familiar
    from cored.client.system import System
    from cored.errors import CoredError

    root = context.find_root()
    session = root.obj
    assert isinstance(session, Session)
    try:
        assert root.command.callback is not None
        with root.scope(cleanup=False):
            root.command.callback(**root.params)
        system = System(session.channel)
        if kind != "image":
            return system.names(kind, incomplete, timeout=_PATIENCE)
        found = [familiar(name) for name in system.names(kind, timeout=_PATIENCE)]
    except CoredError:
        return []  # no daemon: no names
    return sorted(name for name in found if name.startswith(incomplete))
