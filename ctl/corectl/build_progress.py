"""How a build goes, on stderr: live on a terminal, else line by line, or as JSON."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cored._pb.cored.build.v1 import build_pb2 as pb

__all__ = ["MODES", "Steps", "show"]

MODES = ("auto", "plain", "tty", "rawjson", "quiet")
_TAIL = 6
_ENDED = ("cached", "done", "failed", "cancelled")


@dataclass(slots=True)
class Steps:
    """What is known of all steps, by number."""

    steps: dict[int, pb.Step] = field(default_factory=dict)
    tails: dict[int, list[str]] = field(default_factory=dict)
    partial: dict[int, str] = field(default_factory=dict)

    def explained(self) -> Iterator[str]:
        """For each step whether it was cached, and if not, what had changed."""
        for step in self.steps.values():
            if step.state == "cached":
                yield f"cached  {step.name}"
            elif step.changes:
                yield f"ran     {step.name}"
                yield from (f"          {change}" for change in step.changes)
            else:
                yield f"{step.state:<7} {step.name}"

    def lines(self, output: pb.Output) -> list[str]:
        """The whole lines that are new."""
        text = self.partial.get(output.step, "") + output.data.decode(errors="replace")
        *whole, self.partial[output.step] = text.split("\n")
        tail = self.tails.setdefault(output.step, [])
        tail += [line.rpartition("\r")[2] or line for line in whole]
        del tail[:-_TAIL]
        return whole


def show(events: Iterable[pb.BuildEvent], mode: str, steps: Steps) -> Iterator[pb.BuildEvent]:
    """Follow a build to its end; yields what is not progress: the result, and data."""
    if mode == "auto":
        mode = "tty" if sys.stderr.isatty() else "plain"
    ways = {"tty": _live, "plain": _plain, "rawjson": _json, "quiet": _quiet}
    return ways[mode](events, steps)


def _quiet(events: Iterable[pb.BuildEvent], steps: Steps) -> Iterator[pb.BuildEvent]:
    for event in events:
        if event.HasField("step"):
            steps.steps[event.step.id] = event.step
        elif event.HasField("result") or event.data:
            yield event


def _plain(events: Iterable[pb.BuildEvent], steps: Steps) -> Iterator[pb.BuildEvent]:
    try:
        for event in events:
            if event.HasField("step"):
                for line in _told(event.step, steps):
                    _say(line)
            elif event.HasField("output"):
                for line in steps.lines(event.output):
                    _say(f"#{event.output.step} {_since(event.output.step, steps)}{line}")
            elif event.HasField("warning"):
                warning = event.warning
                _say(f"warning: {warning.rule}: line {warning.line}: {warning.text}")
            elif event.HasField("transfer"):
                if event.transfer.status in ("done", "exists"):
                    _say(f"{event.transfer.id}: {event.transfer.status}")
            else:
                yield event
    finally:
        for number, rest in steps.partial.items():
            if rest:
                _say(f"#{number} {rest}")


def _told(step: pb.Step, steps: Steps) -> Iterator[str]:
    known = step.id in steps.steps
    steps.steps[step.id] = step
    if not known:
        yield f"#{step.id} {step.name}"
    rest = steps.partial.pop(step.id, "") if step.state in _ENDED else ""
    if rest:
        yield f"#{step.id} {rest}"
    took = (step.ended_at - step.started_at) / 1e9
    match step.state:
        case "cached":
            yield f"#{step.id} CACHED"
        case "done":
            yield f"#{step.id} DONE {took:.1f}s"
        case "failed":
            yield f"#{step.id} FAILED {took:.1f}s: {step.error}"
        case "cancelled":
            yield f"#{step.id} CANCELLED"


def _since(number: int, steps: Steps) -> str:
    step = steps.steps.get(number)
    return f"{(time.time_ns() - step.started_at) / 1e9:.3f} " if step else ""


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _json(events: Iterable[pb.BuildEvent], steps: Steps) -> Iterator[pb.BuildEvent]:
    import json

    from google.protobuf.json_format import MessageToDict

    for event in events:
        if event.HasField("step"):
            steps.steps[event.step.id] = event.step
        if not event.data:
            _say(json.dumps(MessageToDict(event, preserving_proto_field_name=True)))
        if event.HasField("result") or event.data:
            yield event


def _live(events: Iterable[pb.BuildEvent], steps: Steps) -> Iterator[pb.BuildEvent]:
    # heavy, and only for people who look
    from rich.console import Console
    from rich.live import Live

    kept: list[pb.BuildEvent] = []
    console = Console(stderr=True)
    with Live(
        console=console,
        refresh_per_second=8,
        get_renderable=lambda: _picture(steps),
        transient=False,
    ):
        for event in events:
            if event.HasField("step"):
                steps.steps[event.step.id] = event.step
            elif event.HasField("output"):
                steps.lines(event.output)
            elif event.HasField("warning"):
                console.print(f"[yellow]{event.warning.rule}[/]: {event.warning.text}")
            elif event.HasField("result") or event.data:
                kept.append(event)
    yield from kept


def _picture(steps: Steps) -> RenderableType:
    from rich.text import Text

    lines = []
    for step in list(steps.steps.values()):
        ended = step.ended_at or time.time_ns()
        took = f"{(ended - step.started_at) / 1e9:.1f}s"
        style = {"cached": "dim", "done": "green", "failed": "red"}.get(step.state, "cyan")
        shown = "CACHED" if step.state == "cached" else took
        lines.append(Text(f"{step.name}  {shown}", style, overflow="ellipsis", no_wrap=True))
        if step.state in ("started", "failed"):
            tail = steps.tails.get(step.id, ())
            lines += [Text(f"   {line}", "dim", no_wrap=True) for line in tail]
    return Text("\n").join(lines)
