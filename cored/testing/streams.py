"""The part of the runtimes' contract that is about streams: FIFOs, files, terminals."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from cored.abc.runtime import Stdio
from cored.testing.stage import PATIENCE, Stage, needs, wait

__all__ = ["StreamContract"]

_LARGE = 4 << 20


class StreamContract:
    """See :class:`cored.testing.runtimes.RuntimeContract`."""

    async def test_output_and_errors_go_to_fifos_of_their_own(self, stage: Stage) -> None:
        stdio = Stdio("", stage.fifo("out"), stage.fifo("err"))
        reading = [_read(stdio.stdout), _read(stdio.stderr)]
        task = await stage.running("sh", "-c", "echo out; echo err >&2", stdio=stdio)
        assert (await task.state()).stdio == stdio
        await wait(task)
        await task.delete()
        assert await _all(reading) == [b"out\n", b"err\n"]

    async def test_much_output_arrives_whole(self, stage: Stage) -> None:
        stdio = Stdio("", stage.fifo("out"), stage.fifo("err"))
        reading = [_read(stdio.stdout), _read(stdio.stderr)]
        # a block of bytes that are not all alike
        program = f"yes 0123456789abcde | head -c {_LARGE}"
        task = await stage.running("sh", "-c", program, stdio=stdio)
        await wait(task)
        await task.delete()
        assert await _all(reading) == [b"0123456789abcde\n" * (_LARGE // 16), b""]

    async def test_input_comes_from_a_fifo_and_ends_when_it_is_closed(self, stage: Stage) -> None:
        stdio = Stdio(stage.fifo("in"), stage.fifo("out"), stage.fifo("err"))
        reading = [_read(stdio.stdout), _read(stdio.stderr)]
        writing = _writer(stdio.stdin)
        task = await stage.running("sh", "-c", "cat; echo end", stdio=stdio)
        fd = await writing
        os.write(fd, b"line\n")
        os.close(fd)
        await task.close_stdin()
        assert (await wait(task)).status == 0
        await task.delete()
        assert await _all(reading) == [b"line\nend\n", b""]

    @needs("close-stdin")
    async def test_input_can_be_closed_while_its_writer_stays(self, stage: Stage) -> None:
        stdio = Stdio(stage.fifo("in"), stage.fifo("out"), stage.fifo("err"))
        reading = [_read(stdio.stdout), _read(stdio.stderr)]
        writing = _writer(stdio.stdin)
        task = await stage.running("cat", stdio=stdio)
        fd = await writing
        try:
            os.write(fd, b"line\n")
            await task.close_stdin()
            async with asyncio.timeout(3):
                assert (await task.wait()).status == 0
        finally:
            os.close(fd)
        await task.delete()
        assert await _all(reading) == [b"line\n", b""]

    @needs("mixed-streams")
    async def test_streams_can_be_of_different_kinds(self, stage: Stage) -> None:
        stdio = Stdio("", stage.fifo("out"), f"file://{stage.place}/t.out")
        reading = _read(stdio.stdout)
        task = await stage.running("sh", "-c", "echo out; echo err >&2", stdio=stdio)
        await wait(task)
        await task.delete()
        assert await _all([reading]) == [b"out\n"]
        assert stage.output("t") == "err\n"

    async def test_an_exec_has_streams_of_its_own(self, stage: Stage) -> None:
        task = await stage.running("sleep", "1000")
        stdio = Stdio(stage.fifo("in"), stage.fifo("out"), stage.fifo("err"))
        reading = [_read(stdio.stdout), _read(stdio.stderr)]
        writing = _writer(stdio.stdin)
        await stage.exec(task, "e", "sh", "-c", "cat; echo err >&2", stdio=stdio)
        await task.start("e")
        fd = await writing
        os.write(fd, b"through")
        os.close(fd)
        await task.close_stdin("e")
        assert (await wait(task, "e")).status == 0
        await task.delete("e")
        assert await _all(reading) == [b"through", b"err\n"]

    async def test_streams_that_nobody_names_are_dev_null(self, stage: Stage) -> None:
        task = await stage.running("sh", "-c", "cat; echo lost; echo lost >&2", stdio=Stdio())
        assert (await wait(task)).status == 0

    @needs("one-stream")
    async def test_one_stream_can_be_named_without_the_other(self, stage: Stage) -> None:
        stdio = Stdio("", f"file://{stage.place}/t.out")
        task = await stage.running("sh", "-c", "echo kept; echo lost >&2", stdio=stdio)
        await wait(task)
        await task.delete()
        assert stage.output("t") == "kept\n"

    @pytest.mark.parametrize("kind", ["init", "exec"])
    async def test_a_terminal_has_a_size_that_can_be_changed(self, stage: Stage, kind: str) -> None:
        stdio = Stdio(stage.fifo("in"), stage.fifo("out"), terminal=True)
        program = ("sh", "-c", "test -t 0 && echo terminal; read line; stty size; exit 3")
        exec_id = "" if kind == "init" else "e"
        reading, writing = _read(stdio.stdout), _writer(stdio.stdin)
        if exec_id:
            task = await stage.running("sleep", "1000")
            await stage.exec(task, exec_id, *program, stdio=stdio, terminal=True)
        else:
            task = await stage.create(*program, stdio=stdio, terminal=True)
        await task.start(exec_id)
        fd = await writing
        try:
            await task.resize(123, 45, exec_id)
            os.write(fd, b"go\n")
            assert (await wait(task, exec_id)).status == 3
        finally:
            os.close(fd)
        assert (await task.state(exec_id)).stdio.terminal
        await task.delete(exec_id)
        lines = (await _all([reading]))[0].decode().split("\r\n")
        assert "terminal" in lines
        assert "45 123" in lines


async def _all(reading: list[asyncio.Future[bytes]]) -> list[bytes]:
    async with asyncio.timeout(PATIENCE):
        return list(await asyncio.gather(*reading))


def _read(path: str) -> asyncio.Future[bytes]:
    """All that comes through a FIFO, until its end."""
    return asyncio.ensure_future(asyncio.to_thread(Path(path).read_bytes))


def _writer(path: str) -> asyncio.Future[int]:
    """A FIFO's writing end, once there is a reader."""
    return asyncio.ensure_future(asyncio.to_thread(os.open, path, os.O_WRONLY | os.O_CLOEXEC))
