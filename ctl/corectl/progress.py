"""Progress of pulls and imports on stderr: bars on a terminal, a line for each step elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from corectl.output import digest, size

if TYPE_CHECKING:
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

__all__ = ["show"]

_ENDED = frozenset({"done", "exists"})
# a step that says nothing yet: failing is more interesting than having begun
_SILENT = frozenset({"", "resolving", "waiting", "receiving"})


def show(
    steps: Iterable[pb.TransferProgress], *, quiet: bool = False
) -> Iterator[pb.TransferProgress]:
    """Follow a transfer to its end and yield the steps that carry images."""
    if quiet:
        yield from _images(steps)
    elif sys.stderr.isatty():
        yield from _bars(steps)
    else:
        yield from _lines(steps)


def _images(steps: Iterable[pb.TransferProgress]) -> Iterator[pb.TransferProgress]:
    for step in steps:
        if step.HasField("image"):
            yield step


def _lines(steps: Iterable[pb.TransferProgress]) -> Iterator[pb.TransferProgress]:
    seen: dict[str, str] = {}
    for step in steps:
        if step.HasField("image"):
            yield step
        elif step.status not in _SILENT and seen.get(step.id) != step.status:
            seen[step.id] = step.status
            amount = f" ({size(step.total)})" if step.total else ""
            print(f"{_label(step.id)}: {step.status}{amount}", file=sys.stderr, flush=True)


def _bars(steps: Iterable[pb.TransferProgress]) -> Iterator[pb.TransferProgress]:
    # heavy, and only for people who look
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

    columns = (
        TextColumn("{task.description:<14}"),
        TextColumn("{task.fields[status]:<12}"),
        BarColumn(),
        DownloadColumn(),
    )
    images: list[pb.TransferProgress] = []
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks: dict[str, TaskID] = {}
        for step in steps:
            if step.HasField("image"):
                images.append(step)
                continue
            if step.id not in tasks:
                tasks[step.id] = progress.add_task(_label(step.id), total=None, status="")
            total = step.total or None
            ended = step.status in _ENDED
            progress.update(
                tasks[step.id],
                status=step.status,
                total=total or (step.offset or 1 if ended else None),
                completed=(total or step.offset or 1) if ended else step.offset,
            )
    yield from images


def _label(name: str) -> str:
    return digest(name) if name.startswith("sha256:") else name
