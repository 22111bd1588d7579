"""The shim's log files: their formats, and what rotation, renaming and crashes leave."""

from __future__ import annotations

import asyncio
import fcntl
import gzip
import json
import os
import time
from pathlib import Path

import pytest
from coreshim.logfile import LogFile
from coreshim.logformat import LONGEST, CriLines, JsonLines, LocalLines
from coreshim.logged import Logged, open_log
from coreshim.server import Failure

from cored.engine import logs as reading


def lines_of(place: Path, name: str = "log") -> list[str]:
    """All lines of a log and its older files, the oldest first."""
    older = sorted(place.glob(f"{name}.*"), key=lambda path: -int(path.suffix[1:]))
    files = [*older, place / name]
    return [line for file in files if file.exists() for line in file.read_text().splitlines()]


def texts(records: bytes) -> list[str]:
    return [json.loads(line)["log"] for line in records.splitlines()]


def opened(uri: str, stream: str = "stdout") -> Logged:
    log = open_log(uri, stream)
    assert log is not None
    return log


def test_a_line_is_a_record_when_its_end_is_there() -> None:
    lines = JsonLines("stderr")
    assert lines.feed(b"no end") == b""
    assert lines.rest == b"no end"
    record, second = lines.feed(b" yet\nsecond\nthird").splitlines()
    assert json.loads(record)["log"] == "no end yet\n"
    assert json.loads(second)["stream"] == "stderr"
    assert texts(lines.finish()) == ["third"]
    assert lines.finish() == b""


def test_long_lines_are_cut_between_characters_and_only_there() -> None:
    lines = JsonLines("stdout")
    text = "x" + "ä" * LONGEST
    found = texts(lines.feed(text.encode() + b"\n"))
    assert "".join(found) == text + "\n"
    assert "\ufffd" not in "".join(found)
    exact = b"y" * LONGEST + b"\n"
    assert texts(lines.feed(exact)) == [exact.decode()]


def test_a_line_too_long_is_not_kept_until_its_end() -> None:
    lines = CriLines("stdout")
    first = lines.feed(b"z" * (LONGEST + 10))
    assert first.split(b" ", 3)[2:] == [b"P", b"z" * LONGEST + b"\n"]
    assert lines.feed(b"!\n").split(b" ", 3)[2:] == [b"F", b"z" * 10 + b"!\n"]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_cri_lines_are_as_kubelet_reads_them(stream: str) -> None:
    import re

    lines = CriLines(stream)
    first, empty = lines.feed(b"hello world\n\n").splitlines()
    stamp = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"
    assert re.fullmatch(stamp + rb" %s F hello world" % stream.encode(), first)
    assert re.fullmatch(stamp + rb" %s F " % stream.encode(), empty)
    lines.feed(b"open")
    assert lines.finish().split(b" ", 2)[2] == b"P open\n"


def test_bytes_that_are_no_text_can_be_had_back() -> None:
    data = bytes(range(256)) * 100 + b"\n"
    found = texts(JsonLines("stdout").feed(data))
    assert "".join(found).encode("utf-8", "surrogateescape") == data


def test_rotation_keeps_the_number_of_files_and_the_order(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "log"), 40, 3)
    for number in range(20):
        log.append(b"line %03d\n" % number)
    log.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    assert all(path.stat().st_size <= 40 for path in tmp_path.iterdir())
    found = lines_of(tmp_path)
    assert found == [f"line {number:03d}" for number in range(20 - len(found), 20)]


def test_one_write_may_fill_several_files(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "log"), 20, 100)
    log.append(b"".join(b"%d\n" % number for number in range(100)) + b"x" * 50 + b"\n")
    log.close()
    assert lines_of(tmp_path) == [*map(str, range(100)), "x" * 50]


def test_a_single_file_begins_anew(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "log"), 10, 1)
    with open(tmp_path / "log", "rb") as reader:
        log.append(b"12345678\n")
        log.append(b"next\n")
        assert reader.read() == b"12345678\n"  # who reads it goes on with what there was
    assert lines_of(tmp_path) == ["next"]
    log.close()


def test_two_writers_rotate_one_file_and_tear_no_line(tmp_path: Path) -> None:
    logs = [opened(f"json-file://{tmp_path}/log?max-size=1k&max-file=500", s) for s in "ab"]
    for number in range(500):
        logs[number % 2].write(b"%d\n" % number)
    for log in logs:
        log.close()
    entries = [json.loads(line) for line in lines_of(tmp_path)]
    assert [int(entry["log"]) for entry in entries] == list(range(500))
    assert {entry["stream"] for entry in entries} == {"a", "b"}


def test_two_processes_rotate_one_file(tmp_path: Path) -> None:
    pids = []
    for writer in range(2):
        pid = os.fork()
        if pid == 0:
            try:
                log = LogFile(str(tmp_path / "log"), 500, 10_000)
                for number in range(2000):
                    log.append(b"%d %d\n" % (writer, number))
            finally:
                os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    found = [tuple(map(int, line.split())) for line in lines_of(tmp_path)]
    assert sorted(found) == [(writer, number) for writer in range(2) for number in range(2000)]


def test_who_rotates_already_is_not_waited_for(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "log"), 10, 3)
    log.append(b"12345678\n")
    with open(tmp_path / "log") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        log.append(b"more\n")
    assert lines_of(tmp_path) == ["12345678", "more"]
    log.append(b"again\n")
    assert (tmp_path / "log").read_text() == "again\n"
    log.close()


@pytest.mark.parametrize("again", [True, False])
def test_a_renamed_file_is_left_alone_from_the_next_line_on(tmp_path: Path, again: bool) -> None:
    log = LogFile(str(tmp_path / "log"))
    log.append(b"before\n")
    (tmp_path / "log").rename(tmp_path / "log.1")
    if again:  # as a daemon that is asked to reopen it may do
        (tmp_path / "log").touch()
    log.append(b"after\n")
    assert (tmp_path / "log.1").read_text() == "before\n"
    assert (tmp_path / "log").read_text() == "after\n"
    log.close()


def test_a_gap_that_a_crash_left_costs_no_file(tmp_path: Path) -> None:
    for name in ("log", "log.1", "log.3"):
        (tmp_path / name).write_text(f"{name}\n")
    log = LogFile(str(tmp_path / "log"), 4, 5)
    log.append(b"new\n")
    log.close()
    assert lines_of(tmp_path) == ["log.3", "log.1", "log", "new"]


def test_the_line_that_a_crash_tore_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"whole\n" + b"torn" * 50_000)
    log = LogFile(str(path))
    log.append(b"next\n")
    log.close()
    assert path.read_bytes() == b"whole\nnext\n"


def test_a_full_disk_tears_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = LogFile(str(tmp_path / "log"))
    log.append(b"first\n")
    write, calls = os.write, []

    def full(fd: int, data: bytes) -> int:
        calls.append(data)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return write(fd, data[:3])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        log.append(b"second\n")
    monkeypatch.undo()
    log.append(b"third\n")
    log.close()
    assert lines_of(tmp_path) == ["first", "third"]


def test_a_path_may_have_any_name(tmp_path: Path) -> None:
    log = opened(f"cri://{tmp_path}/a%20b%3Fc")
    log.write(b"x\n")
    log.close()
    assert (tmp_path / "a b?c").read_text().endswith(" stdout F x\n")


def test_a_log_that_keeps_nothing_still_has_its_copy(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "copy")
    log = opened(f"none://?copy={tmp_path}/copy")
    assert log.write(b"lost") == 4
    with open(os.open(tmp_path / "copy", os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        log.write(b"seen")
        log.close()
        assert reader.read() == b"seen"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("max-size=ten", "max-size is not a size"),
        ("max-file=0", "max-file must be 1 to"),
        ("max-files=2", "no option max-files"),
    ],
)
def test_options_that_mean_nothing_are_said(tmp_path: Path, query: str, words: str) -> None:
    with pytest.raises(Failure, match=words):
        open_log(f"json-file://{tmp_path}/log?{query}", "stdout")


def test_local_lines_keep_bytes_and_say_where_they_came_from() -> None:
    lines = LocalLines("stderr")
    first, second = lines.feed(b"\x00\xff e\n" + b"z" * (LONGEST + 1)).splitlines()
    assert (first[:19].isdigit(), first[19:]) == (True, b"e\x00\xff e")
    assert second[19:] == b"E" + b"z" * LONGEST
    assert lines.finish()[19:] == b"Ez\n"


def test_attributes_are_in_each_line_where_docker_has_them() -> None:
    (line,) = JsonLines("stdout", '{"a":"b"}').feed(b"x\n").splitlines()
    assert list(json.loads(line)) == ["log", "stream", "attrs", "time"]
    assert json.loads(line)["attrs"] == {"a": "b"}


def test_old_files_are_compressed_and_none_is_lost(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "log"), 1000, 4, compress=True)
    for number in range(2000):
        log.append(b"line %d\n" % number)
        while log.busy:
            time.sleep(0.001)
    log.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["log", "log.1.gz", "log.2.gz", "log.3.gz"]
    found = b"".join(gzip.decompress((tmp_path / name).read_bytes()) for name in names[:0:-1])
    found += (tmp_path / "log").read_bytes()
    lines = found.decode().splitlines()
    assert lines == [f"line {number}" for number in range(2000 - len(lines), 2000)]


def test_what_an_earlier_writer_left_uncompressed_is_compressed(tmp_path: Path) -> None:
    (tmp_path / "log.1").write_text("old\n")
    (tmp_path / "log.2.gz").write_bytes(gzip.compress(b"older\n"))
    LogFile(str(tmp_path / "log"), 1000, 4, compress=True).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1.gz", "log.2.gz"]
    assert gzip.decompress((tmp_path / "log.1.gz").read_bytes()) == b"old\n"


def test_rotation_while_compressing_keeps_order(tmp_path: Path) -> None:
    logs = [opened(f"local://{tmp_path}/log?max-size=2k&max-file=400&compress=true", s)
            for s in ("stdout", "stderr")]  # fmt: skip
    for number in range(4000):
        logs[number % 2].write(b"%d\n" % number)
    for log in logs:
        log.close()

    async def read_all() -> list[int]:
        return [int(record.data) async for record in reading.read(tmp_path / "log")]

    assert asyncio.run(read_all()) == list(range(4000))
    assert any(path.suffix == ".gz" for path in tmp_path.iterdir())
    assert not [path for path in tmp_path.iterdir() if "squeezed" in path.name]
