"""Logs: what the shim writes is what the daemon reads."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from cored.engine.logs import LogRecord, read
from cored.errors import Internal


def line(text: str, stream: str = "stdout", second: int = 1) -> str:
    stamp = f"1970-01-01T00:00:{second:02d}.000000005Z"
    return json.dumps({"log": text, "stream": stream, "time": stamp}) + "\n"


async def records(path: Path, **more: object) -> list[LogRecord]:
    return [record async for record in read(path, **more)]  # type: ignore[arg-type]


async def test_records_have_stream_time_and_data(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(line("out\n") + line("ärger", "stderr", 2))
    assert await records(path) == [
        LogRecord("stdout", 1_000_000_005, b"out\n"),
        LogRecord("stderr", 2_000_000_005, "ärger".encode()),
    ]


async def test_a_tail_and_a_beginning(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(line(f"{n}\n", second=n) for n in range(10)))
    assert [r.data for r in await records(path, tail=2)] == [b"8\n", b"9\n"]
    assert [r.data for r in await records(path, since=9_000_000_000)] == [b"9\n"]
    assert await records(path, tail=0) == []


async def test_what_is_not_there_is_empty(tmp_path: Path) -> None:
    assert await records(tmp_path / "nothing") == []


async def test_following_ends_after_the_last_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(line("first\n"))
    running = True

    async def later() -> None:
        nonlocal running
        await asyncio.sleep(0.15)
        whole = line("second\n")
        with path.open("a") as file:
            file.write(whole[:10])
            file.flush()
            await asyncio.sleep(0.15)
            file.write(whole[10:])
        running = False

    task = asyncio.create_task(later())
    found = [record.data async for record in read(path, follow=lambda: running)]
    await task
    assert found == [b"first\n", b"second\n"]


async def test_a_damaged_line_is_said(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("no json\n")
    with pytest.raises(Internal, match="damaged"):
        await records(path)
