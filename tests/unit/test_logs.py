"""Logs: what the shim writes is what the daemon reads."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from coreshim.logged import open_log

from cored.engine.logs import LogRecord, read


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


async def test_a_damaged_line_is_shown_as_it_is_and_the_rest_too(tmp_path: Path) -> None:
    path = tmp_path / "log"
    whole = line("whole\n")
    path.write_text(f'{whole}{{"log": "ha{whole}[]\n{{}}\n\n{whole}')
    found = await records(path)
    assert [found[0].data, found[-1].data] == [b"whole\n"] * 2
    assert found[1].data.startswith(b'{"log": "ha{') and found[1].time == found[0].time
    assert [record.data for record in found[2:-1]] == [b"[]\n", b"{}\n", b"\n"]


async def test_the_cri_s_lines_are_read_too(tmp_path: Path) -> None:
    path = tmp_path / "log"
    stamp = "1970-01-01T00:00:02.000000007Z"
    path.write_text(f"{stamp} stdout P be\n{stamp} stdout F gin\n{stamp} stderr F \n")
    assert await records(path) == [
        LogRecord("stdout", 2_000_000_007, b"be"),
        LogRecord("stdout", 2_000_000_007, b"gin\n"),
        LogRecord("stderr", 2_000_000_007, b"\n"),
    ]


async def test_older_files_are_read_first(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for number, name in enumerate(["log.10", "log.2", "log.1", "log"]):
        (tmp_path / name).write_text("".join(line(f"{number}{n}\n") for n in range(3)))
    (tmp_path / "log.old").write_text("something else")
    everything = [f"{number}{n}\n".encode() for number in range(4) for n in range(3)]
    assert [r.data for r in await records(path)] == everything
    for tail in range(14):
        assert [r.data for r in await records(path, tail=tail)] == everything[max(0, 12 - tail) :]


async def test_a_torn_last_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    (tmp_path / "log.1").write_text(line("one\n") + line("torn by a crash")[:20])
    path.write_text(line("two\n") + '{"log":"not yet')
    assert [r.data for r in await records(path)] == [b"one\n", b"two\n"]
    assert [r.data for r in await records(path, tail=1)] == [b"two\n"]


@pytest.mark.parametrize(("kind", "size"), [("json-file", 8000), ("cri", 3000)])
async def test_a_follower_loses_nothing_to_rotation(tmp_path: Path, kind: str, size: int) -> None:
    path = tmp_path / "log"
    running = True

    def write() -> None:
        nonlocal running
        for start in range(0, 4000, 100):
            log = open_log(f"{kind}://{path}?max-size={size}&max-file=500", "stdout")
            assert log is not None
            for number in range(start, start + 100):
                log.write(b"line %d\n" % number)
            log.close()
        running = False

    task = asyncio.create_task(asyncio.to_thread(write))
    found = [record.data async for record in read(path, follow=lambda: running)]
    await task
    assert found == [b"line %d\n" % number for number in range(4000)]
    assert found == [record.data for record in await records(path)]
    assert len(list(tmp_path.iterdir())) > 10


async def test_a_follower_left_behind_goes_on_with_the_oldest_that_there_is(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = open_log(f"cri://{path}?max-size=100&max-file=3", "stdout")
    assert log is not None
    log.write(b"first\n")
    follower = read(path, follow=lambda: False)
    found = [(await anext(follower)).data]
    for number in range(100):
        log.write(b"%d\n" % number)
    log.close()
    found += [record.data async for record in follower]
    assert found[:2] == [b"first\n", b"0\n"]  # what was open stays to be read
    assert found[2:] == [b"%d\n" % number for number in range(102 - len(found), 100)]
    assert 4 < len(found) < 20


async def test_a_file_emptied_in_place_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(line("before, and longer\n"))
    follower = read(path, follow=lambda: False)
    assert (await anext(follower)).data == b"before, and longer\n"
    path.write_text(line("after\n"))
    assert [record.data async for record in follower] == [b"after\n"]


async def test_a_file_that_is_compressed_while_it_is_read_is_read_once(tmp_path: Path) -> None:
    uri = f"local://{tmp_path}/log?max-size=1k&max-file=300&compress=true"
    writer = open_log(uri, "stdout")
    assert writer is not None
    running, found = True, []

    async def follow() -> None:
        async for record in read(tmp_path / "log", follow=lambda: running):
            found.append(int(record.data))

    following = asyncio.create_task(follow())
    for number in range(3000):
        writer.write(b"%d\n" % number)
        if not number % 100:
            await asyncio.sleep(0.02)
    await asyncio.to_thread(writer.close)
    running = False
    await asyncio.wait_for(following, 60)
    assert found == list(range(3000))
    last = [int(record.data) for record in await records(tmp_path / "log", tail=1000)]
    assert last == list(range(2000, 3000))
