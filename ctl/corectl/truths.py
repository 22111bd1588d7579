"""``--flag=false``: Go's way to say a truth, as docker's people write it, in click's way."""

from __future__ import annotations

from collections.abc import Sequence

import click

__all__ = ["spelled"]

# what Go's strconv.ParseBool takes
_TRUTHS = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}


def spelled(command: click.Command, arguments: Sequence[str]) -> list[str]:
    """The arguments of ``command`` with such flags as plain ones: given, left out, or as --no-…"""
    options: dict[str, click.Option] = {}
    for param in command.params:
        if isinstance(param, click.Option):
            options |= dict.fromkeys((*param.opts, *param.secondary_opts), param)
    settings = command.context_settings
    stops = not settings.get("allow_interspersed_args", command.allow_interspersed_args)
    found: list[str] = []
    left = list(arguments)
    while left:
        word = left.pop(0)
        if word == "--" or (stops and not (word.startswith("-") and len(word) > 1)):
            return [*found, word, *left]
        name, equals, value = word.partition("=")
        if equals and value in _TRUTHS and _are_flags(name, options):
            # of a cluster it is the last one's
            found += [f"-{letter}" for letter in name[1:-1]]
            name = f"-{name[-1]}"
        option = options.get(name)
        if equals and option is not None and option.is_flag and value in _TRUTHS:
            found += _plain(option, name, _TRUTHS[value])
            continue
        found.append(word)
        if _wants_next(word, options) and left:
            found.append(left.pop(0))
    return found


def _plain(option: click.Option, name: str, truth: bool) -> list[str]:
    negative = name in option.secondary_opts
    if truth != negative:
        # of --x/--no-x, what says yes
        return [option.opts[-1]]
    return [option.secondary_opts[-1]] if option.secondary_opts else []


def _are_flags(cluster: str, options: dict[str, click.Option]) -> bool:
    found = [options.get(f"-{letter}") for letter in cluster[1:]]
    return cluster[:2] != "--" and all(one is not None and one.is_flag for one in found)


def _wants_next(word: str, options: dict[str, click.Option]) -> bool:
    """Whether the next argument is this one's value."""
    if word.startswith("--"):
        option = options.get(word)
        return option is not None and not option.is_flag and not option.count
    for place, letter in enumerate(word[1:] if word.startswith("-") else "", 2):
        option = options.get(f"-{letter}")
        if option is None:
            return False
        if not option.is_flag and not option.count:
            return place == len(word)
    return False
