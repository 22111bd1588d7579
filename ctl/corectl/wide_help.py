"""--help of commands with more options than a screen has lines: their names, by what they are for.

``--help=WORD`` explains those whose group, name or explanation has the word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import click

__all__ = ["WideCommand", "names_of"]

_GENERAL = "General"
# a space that no line is broken at
_GLUE = "\xa0"


def names_of(options: Sequence[Callable[..., Any]]) -> frozenset[str]:
    """The names of the parameters that decorators make."""

    def probe() -> None:
        """Takes the options."""

    for option in options:
        option(probe)
    return frozenset(one.name for one in getattr(probe, "__click_params__", ()) if one.name)


class WideCommand(click.Command):
    """``groups`` are titles and what is in them; what is in none is general."""

    groups: ClassVar[Mapping[str, Callable[[], frozenset[str]]]] = {}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for word in args:
            if not word.startswith("-"):
                break
            if word.startswith("--help="):
                click.echo(self._explained(ctx, word.partition("=")[2]))
                ctx.exit()
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        import textwrap

        for title, options in self._sorted(ctx).items():
            text = ", ".join(_shown(option) for option in options)
            with formatter.section(title):
                indent = " " * formatter.current_indent
                lines = textwrap.wrap(
                    text, formatter.width, initial_indent=indent, subsequent_indent=indent,
                    break_on_hyphens=False,
                )  # fmt: skip
                formatter.write("\n".join(lines).replace(_GLUE, " ") + "\n")
        formatter.write_paragraph()
        formatter.write_text("--help=WORD explains options; so does corectl man.")

    def _sorted(self, ctx: click.Context) -> dict[str, list[click.Option]]:
        known = {title: names() for title, names in self.groups.items()}
        found: dict[str, list[click.Option]] = {_GENERAL: []}
        for option in self.get_params(ctx):
            if isinstance(option, click.Option) and not option.hidden:
                title = next((t for t, names in known.items() if option.name in names), _GENERAL)
                found.setdefault(title, []).append(option)
        return found

    def _explained(self, ctx: click.Context, word: str) -> str:
        formatter = ctx.make_formatter()
        word = word.lower()
        for title, options in self._sorted(ctx).items():
            records = [option.get_help_record(ctx) for option in options]
            shown = [
                record
                for record in records
                if record and (word in title.lower() or word in " ".join(record).lower())
            ]
            if shown:
                with formatter.section(title):
                    formatter.write_dl(shown)
        return formatter.getvalue().rstrip("\n") or f"no option has {word!r}"


def _shown(option: click.Option) -> str:
    """``-m --memory``"""
    return _GLUE.join([*option.opts, *option.secondary_opts])
