"""Real gRPC servers in a thread, for tests of clients."""

from __future__ import annotations

import asyncio
import os
import select
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty

from cored import errors
from cored._pb.cored.workloads.v1 import workloads_pb2 as pb
from cored.abc.service import Service
from cored.rpc.bind import bind
from cored.rpc.lasting import Lasting
from cored.rpc.methods import Methods


class Feeder(threading.Thread):
    """From a FIFO that its writer may open later to a pipe, as shims do it."""

    def __init__(self, path: str, target: int, ended: asyncio.Event) -> None:
        super().__init__(daemon=True)
        self._source = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._target, self._ended = target, ended

    def run(self) -> None:
        poll = select.poll()
        poll.register(self._source, select.POLLIN)
        try:
            while not self._ended.is_set():
                # before the first writer there is no event, not even HUP
                if not poll.poll(100):
                    continue
                if not (data := os.read(self._source, 1 << 20)):
                    return
                while data:
                    data = data[os.write(self._target, data) :]
        except BrokenPipeError:
            return
        finally:
            os.close(self._source)
            os.close(self._target)


class Server:
    """Services on a socket, served by a thread with a loop of its own; may stop and start again."""

    def __init__(self, address: Path, services: Sequence[Service]) -> None:
        self.address = address
        self.services = services
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def run(self, make: Callable[[], Awaitable[Any]]) -> Any:
        async def call() -> Any:
            return await make()

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(60)

    async def start(self) -> None:
        self.server = grpc.aio.server()
        methods = Methods()
        for service in self.services:
            methods.add(bind(service, 16 << 20, Lasting()))
        methods.complete()
        self.server.add_generic_rpc_handlers((methods,))
        self.server.add_insecure_port(f"unix:{self.address}")
        await self.server.start()

    async def stop(self, grace: float | None = None) -> None:
        await self.server.stop(grace)


@contextmanager
def serving(address: Path, *services: Service) -> Iterator[Server]:
    server = Server(address, services)
    server.thread.start()
    server.run(server.start)
    try:
        yield server
    finally:
        server.run(server.stop)
        server.loop.call_soon_threadsafe(server.loop.stop)
        server.thread.join()
        server.loop.close()


@dataclass
class Process:
    """What stands for a container: a process of the host, joined to the client's pipes."""

    config: pb.ContainerConfig
    stdio: pb.Stdio
    outputs: list[int]
    popen: subprocess.Popen[bytes] | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    signals: list[int] = field(default_factory=list)
    status: int = 0
    settling: asyncio.Task[None] | None = None


class Processes(Service):
    """Workloads without containers: the client's side of attached runs, with nothing else real.

    Knows the image ``busybox``, and others once they were pulled. Behaves towards the pipes as a
    shim does: opens them at Create, closes them when the process has ended.
    """

    service = "cored.workloads.v1.Workloads"

    def __init__(self) -> None:
        self.images = {"busybox"}
        self.made: dict[str, Process] = {}
        self.removed: list[str] = []
        self.sizes: list[tuple[int, int]] = []
        # seconds that Start takes after the process has begun
        self.lateness = 0.0

    async def Pull(self, request: pb.PullRequest) -> AsyncIterator[pb.TransferProgress]:
        yield pb.TransferProgress(id=request.reference, status="resolving")
        if request.reference == "absent":
            raise errors.NotFound("image 'absent': no such thing in the registry")
        yield pb.TransferProgress(id="sha256:" + "ab" * 32, status="downloading", total=1000)
        yield pb.TransferProgress(id="sha256:" + "ab" * 32, status="done", offset=1000, total=1000)
        self.images.add(request.reference)
        yield pb.TransferProgress(status="done", image=pb.Image(name=request.reference))

    async def ListImages(self, request: pb.ListImagesRequest) -> pb.ListImagesResponse:
        return pb.ListImagesResponse(images=[pb.Image(name=name) for name in self.images])

    async def RemoveImage(self, request: pb.RemoveImageRequest) -> pb.RemoveImageResponse:
        if request.reference not in self.images:
            raise errors.NotFound(f"image '{request.reference}': not found")
        self.images.remove(request.reference)
        return pb.RemoveImageResponse(untagged=[request.reference])

    async def Create(self, request: pb.CreateRequest) -> pb.CreateResponse:
        config = request.config
        if config.image not in self.images:
            raise errors.NotFound(f"image '{config.image}': not found")
        name = config.name or f"made-{len(self.made)}"
        paths = [path for path in (request.stdio.stdout, request.stdio.stderr) if path]
        outputs = [os.open(path, os.O_RDWR | os.O_CLOEXEC) for path in paths]
        self.made[name] = Process(config, request.stdio, outputs)
        return pb.CreateResponse(id=name, name=name)

    async def Start(self, request: pb.StartRequest) -> pb.StartResponse:
        process = self._find(request.container)
        loop = asyncio.get_running_loop()
        stdin = subprocess.DEVNULL
        if process.stdio.stdin:
            stdin, feed = os.pipe2(os.O_CLOEXEC)
            Feeder(process.stdio.stdin, feed, process.ended).start()
        out = process.outputs or [subprocess.DEVNULL]
        try:
            process.popen = subprocess.Popen(
                list(process.config.args),
                stdin=stdin,
                stdout=out[0],
                stderr=out[-1],
                start_new_session=True,
            )
        except OSError as error:
            self._close(process)
            raise errors.FailedPrecondition(
                f'exec: "{process.config.args[0]}": {error.strerror}'
            ) from error
        finally:
            if stdin >= 0:
                os.close(stdin)
        process.settling = loop.create_task(self._settle(request.container, process))
        await asyncio.sleep(self.lateness)
        return pb.StartResponse(pid=process.popen.pid)

    async def Inspect(self, request: pb.InspectRequest) -> pb.InspectResponse:
        process = self._find(request.container)
        status = "created"
        if process.popen is not None:
            status = "stopped" if process.ended.is_set() else "running"
        container = pb.Container(id=request.container, name=request.container, status=status)
        return pb.InspectResponse(container=container, config=process.config)

    async def close(self) -> None:
        """End what still runs."""
        for process in self.made.values():
            if process.popen is not None and process.settling is not None:
                process.popen.kill()
                await process.settling
            self._close(process)

    async def _settle(self, name: str, process: Process) -> None:
        assert process.popen is not None
        status = await asyncio.get_running_loop().run_in_executor(None, process.popen.wait)
        process.status = status if status >= 0 else 128 - status
        self._close(process)
        process.ended.set()
        if process.config.auto_remove:
            self.removed.append(name)

    @staticmethod
    def _close(process: Process) -> None:
        for fd in process.outputs:
            os.close(fd)
        process.outputs.clear()

    async def Wait(self, request: pb.WaitRequest) -> pb.WaitResponse:
        process = self._find(request.container)
        await process.ended.wait()
        return pb.WaitResponse(exit_status=process.status)

    async def Kill(self, request: pb.KillRequest) -> Empty:
        process = self._find(request.container)
        process.signals.append(request.signal)
        if process.popen is not None and not process.ended.is_set():
            process.popen.send_signal(request.signal)
        return Empty()

    async def Remove(self, request: pb.RemoveRequest) -> Empty:
        self._find(request.container)
        self.removed.append(request.container)
        return Empty()

    async def Resize(self, request: pb.ResizeRequest) -> Empty:
        self.sizes.append((request.width, request.height))
        return Empty()

    async def List(self, request: pb.ListRequest) -> pb.ListResponse:
        found = [
            pb.Container(id=name * 8, name=name, image=p.config.image, status="created")
            for name, p in self.made.items()
        ]
        return pb.ListResponse(containers=found)

    def _find(self, name: str) -> Process:
        try:
            return self.made[name]
        except KeyError:
            raise errors.NotFound(f"container '{name}': not found") from None
