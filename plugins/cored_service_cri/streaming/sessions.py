"""What is done with a client's connection: a command, a container's own streams, ports of a pod."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from cored import log, scope
from cored._pb.cri.v1 import api_pb2 as pb
from cored.cni import namespaces
from cored.engine.tasks import Tasks
from cored.errors import CoredError, from_os_error
from cored.scope import Scope
from cored_service_cri.execs import Exec, Execs
from cored_service_cri.fifos import Reader, writing
from cored_service_cri.output import Output
from cored_service_cri.streaming import status
from cored_service_cri.streaming.channels import CHUNK, Channel, Connection, Pair
from cored_service_cri.streaming.taps import Taps
from cored_service_cri.values import NAMESPACE, Container, Pod

__all__ = ["Sessions"]

# seconds for output that a command's children still hold open
_DRAIN = 2.0


class Sessions:
    def __init__(self, tasks: Tasks, execs: Execs, output: Output, taps: Taps) -> None:
        self._tasks = tasks
        self._execs = execs
        self._output = output
        self._taps = taps

    async def exec(self, one: Container, request: pb.ExecRequest, connection: Connection) -> None:
        """Run a command with the client's streams; its exit code goes to the error channel."""
        scope.enter(Scope(NAMESPACE))
        names = _streams(request)
        wanted = {*names, "error", *(["resize"] if request.tty else [])}
        channels = await connection.channels(wanted)
        _only_written(channels)
        try:
            async with self._execs.added(one, request.cmd, names, tty=request.tty) as process:
                code = await self._run(process, channels, connection)
        except CoredError as error:
            await _tell(channels["error"], status.failure(error), connection)
        else:
            await _tell(channels["error"], status.of(code), connection)

    async def attach(
        self, one: Container, request: pb.AttachRequest, connection: Connection
    ) -> None:
        """A container's own streams, until it ends or the client goes."""
        scope.enter(Scope(NAMESPACE))
        names = _streams(request)
        wanted = {*names, "error", *(["resize"] if request.tty else [])}
        channels = await connection.channels(wanted)
        _only_written(channels)
        stdin = channels.pop("stdin", None)
        outputs = [
            asyncio.create_task(self._taps.pump(one.id, name, channels[name]))
            for name in names
            if name != "stdin"
        ]
        others = [asyncio.create_task(connection.gone())]
        if stdin is not None and one.config.stdin:
            others.append(asyncio.create_task(self._type(one, stdin)))
        elif stdin is not None:
            stdin.discard()
        if "resize" in channels:
            resize = _resizer(lambda w, h: self._tasks.resize(one.id, w, h))
            others.append(asyncio.create_task(resize(channels["resize"])))
        try:
            ending = asyncio.create_task(self._ended(one, outputs))
            others.append(ending)
            await asyncio.wait({ending, others[0]}, return_when=asyncio.FIRST_COMPLETED)
            if ending.done():
                ending.result()
        except CoredError as error:
            await _tell(channels["error"], status.failure(error), connection)
        finally:
            await _cancelled(*outputs, *others)
        await _tell(channels["error"], status.of(0), connection)

    async def _ended(self, one: Container, outputs: Sequence[asyncio.Task[None]]) -> None:
        """Return when a container has written its last, or, with no output to see it by, ended."""
        if outputs:
            await asyncio.wait(outputs)
        else:
            await self._tasks.wait(one.id)

    async def forward(self, pod: Pod, request: pb.PortForwardRequest, client: Connection) -> None:
        """Connections to ports in a pod's network, as many as the client makes."""
        tasks: set[asyncio.Task[None]] = set()
        try:
            async for pair in client.pairs(request.port):
                task = asyncio.create_task(_forward(pod, pair))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        finally:
            # nobody is there any more, and a server may never close its side
            if tasks:
                await asyncio.wait(tasks, timeout=_DRAIN)
            await _cancelled(*tasks)

    async def _run(
        self, process: Exec, channels: dict[str, Channel], connection: Connection
    ) -> int:
        with ExitStack() as stack:
            outputs = [
                asyncio.create_task(
                    _pump(stack.enter_context(Reader(process.path(name))), channels[name])
                )
                for name in ("stdout", "stderr")
                if name in channels
            ]
            inputs = [asyncio.create_task(connection.gone())]
            ending: asyncio.Task[int] | None = None
            try:
                await self._execs.start(process)
                # not before: its input is opened with its start
                if "stdin" in channels:
                    inputs.append(asyncio.create_task(self._feed(process, channels["stdin"])))
                if "resize" in channels:
                    resize = _resizer(lambda w, h: self._execs.resize(process, w, h))
                    inputs.append(asyncio.create_task(resize(channels["resize"])))
                ending = asyncio.create_task(self._execs.wait(process))
                await asyncio.wait({ending, inputs[0]}, return_when=asyncio.FIRST_COMPLETED)
                if not ending.done():
                    return 137  # nobody is there to hear it; it is killed
                if outputs:
                    await asyncio.wait(outputs, timeout=_DRAIN)
                return ending.result()
            finally:
                await _cancelled(*outputs, *inputs, *([ending] if ending else []))

    async def _feed(self, process: Exec, channel: Channel) -> None:
        """What the client types into a command, and the end of it."""
        try:
            with writing(process.path("stdin")) as writer:
                async for chunk in channel.chunks():
                    await writer.write(chunk)
                await self._execs.close_stdin(process)
        except OSError:
            return  # it reads no more
        finally:
            channel.discard()

    async def _type(self, one: Container, channel: Channel) -> None:
        """What the client types into a container; ended with it where stdin is for once."""
        try:
            with writing(self._output.path(one.id, "stdin")) as writer:
                async for chunk in channel.chunks():
                    await writer.write(chunk)
                if one.config.stdin_once:
                    with suppress(CoredError):
                        await self._tasks.close_stdin(one.id)
        except OSError:
            return
        finally:
            channel.discard()


def _streams(request: pb.ExecRequest | pb.AttachRequest) -> list[str]:
    """The streams that a client asks for; a terminal has no stderr."""
    wanted = {"stdin": request.stdin, "stdout": request.stdout, "stderr": request.stderr}
    return [name for name, on in wanted.items() if on and not (name == "stderr" and request.tty)]


def _only_written(channels: Mapping[str, Channel]) -> None:
    """Let nothing wait on those that the client is to read, whatever it sends there."""
    for name in channels.keys() & {"error", "stdout", "stderr"}:
        channels[name].discard()


async def _pump(reader: Reader, channel: Channel) -> None:
    with suppress(OSError):  # the client has gone
        async for chunk in reader.chunks():
            await channel.write(chunk)


def _resizer(
    resize: Callable[[int, int], Awaitable[None]],
) -> Callable[[Channel], Coroutine[Any, Any, None]]:
    """Sets the size of a terminal whenever the client says so: {"Width": 80, "Height": 24}."""

    async def follow(channel: Channel) -> None:
        decoder, text = json.JSONDecoder(), ""
        async for chunk in channel.chunks():
            text += chunk.decode(errors="replace")
            while text := text.lstrip():
                try:
                    size, end = decoder.raw_decode(text)
                except ValueError:
                    break  # the rest of it is to come
                text = text[end:]
                if isinstance(size, dict):
                    with suppress(CoredError, TypeError, ValueError):
                        await resize(int(size.get("Width", 0)), int(size.get("Height", 0)))

    return follow


async def _tell(channel: Channel, text: bytes, connection: Connection) -> None:
    """The last word on the error channel; fine when nobody hears it."""
    with suppress(OSError):
        if connection.understands_status or status.is_failure(text):
            await channel.write(text)
        await channel.close()


async def _cancelled(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _forward(pod: Pod, pair: Pair) -> None:
    """One connection, both ways, until either side has no more to say and the other is done."""
    pair.error.discard()
    try:
        reader, writer = await _connected(pod, pair.port)
    except CoredError as error:
        with suppress(OSError):
            await pair.error.write(str(error).encode())
            await pair.error.close()
            await pair.data.close()
        pair.data.discard()
        return

    async def upwards() -> None:
        try:
            async for chunk in pair.data.chunks():
                writer.write(chunk)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
        finally:
            pair.data.discard()

    up = asyncio.create_task(upwards())
    try:
        while chunk := await reader.read(CHUNK):
            await pair.data.write(chunk)
        await pair.data.close()
        await pair.error.close()
    except OSError as error:
        log.get("cri").debug("a forwarded connection broke", pod=pod.id, error=str(error))
    finally:
        await _cancelled(up)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _connected(pod: Pod, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to a port on the pod's loopback. NotFound, Internal."""
    last: OSError | None = None
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            made = await asyncio.to_thread(_socket, pod.state.netns, family)
            made.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(made, (address, port))
                return await asyncio.open_connection(sock=made)
            except BaseException:
                made.close()
                raise
        except OSError as error:
            last = last or error
    assert last is not None
    raise from_os_error(f"port {port} of pod {pod.id!r}", last) from last


def _socket(netns: str, family: socket.AddressFamily) -> socket.socket:
    """A socket belongs to the network that it is made in."""
    with namespaces.entered(netns):
        return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
