"""The processes of a container as ps(1) shows them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from cored.errors import FailedPrecondition, InvalidArgument

__all__ = ["listed"]


async def listed(
    pids: Collection[int], arguments: Sequence[str] = ()
) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of ``ps`` for some pids of the host. InvalidArgument for what ps refuses."""
    words = list(arguments) or ["-ef"]
    try:
        process = await asyncio.create_subprocess_exec(
            "ps", *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except FileNotFoundError as error:
        raise FailedPrecondition("ps: is not on this host", hint="install procps") from error
    out, err = await process.communicate()
    if process.returncode:
        first = err.decode(errors="replace").strip().splitlines()
        raise InvalidArgument(f"ps {' '.join(words)}: {first[0] if first else 'failed'}")
    return table(out.decode(errors="replace"), pids)


def table(text: str, pids: Collection[int]) -> tuple[list[str], list[list[str]]]:
    """What ps has written, without the processes of others. InvalidArgument without a PID."""
    head, *lines = text.splitlines()
    titles = head.split()
    if "PID" not in titles:
        raise InvalidArgument("ps: its output has no column PID", hint="add one: -o pid,…")
    place = titles.index("PID")
    rows = []
    for line in lines:
        cells = line.split(None, len(titles) - 1)
        if len(cells) > place and cells[place].isdecimal() and int(cells[place]) in pids:
            rows.append(cells)
    return titles, rows
