"""Steps of a plan as a person sees them on a terminal: a line each, with its time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from corectl.compose.steps import Action

__all__ = ["LiveReport", "live"]


@dataclass(slots=True)
class _Line:
    """The latest that is known of one thing; ``ended`` stays 0 while a step is under way."""

    words: str
    began: float
    ended: float = 0


@dataclass
class LiveReport:
    """Keeps a line for each thing; :func:`live` shows them."""

    lines: dict[tuple[str, str], _Line] = field(default_factory=dict)
    above: Callable[[str], None] = print
    """Prints a line that stays, above all of them."""

    def say(self, action: Action, what: str) -> None:
        key, now = (action.kind, action.name), time.monotonic()
        line = self.lines.get(key)
        if line is None:
            self.lines[key] = line = _Line(what, now)
        line.words = what
        line.ended = 0 if what == action.doing else now

    def hear(self, action: Action, line: str) -> None:
        self.above(f"{action.name}  | {line}")

    def picture(self) -> RenderableType:
        """All lines, for rich."""
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        now = time.monotonic()
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=1)
        grid.add_column(overflow="ellipsis", no_wrap=True)
        grid.add_column(no_wrap=True)
        grid.add_column(justify="right")
        for (kind, name), line in list(self.lines.items()):
            style = "green" if line.ended else "cyan"
            mark = Text("✔", style) if line.ended else Spinner("dots", style=style)
            took = f"{(line.ended or now) - line.began:.1f}s"
            grid.add_row(mark, f"{kind} {name}", Text(line.words, style), Text(took, "blue"))
        return grid


@contextmanager
def live() -> Iterator[LiveReport]:
    """A report whose lines are on the terminal while the body runs, and stay there."""
    # heavy, and only for people who look
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    report = LiveReport(above=lambda line: console.print(line, markup=False, highlight=False))
    with Live(console=console, refresh_per_second=10, get_renderable=report.picture):
        yield report
