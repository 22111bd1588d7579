"""The shim manager: makes tasks, and finds those of earlier daemons again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty

from cored import log, scope
from cored._pb.containerd.task.v2 import shim_pb2 as pb
from cored._pb.containerd.types import mount_pb2
from cored.abc.runtime import CreateOptions, Exit, Runtime, RuntimeInfo, Task
from cored.abc.values import Typed
from cored.errors import CoredError, NotFound, Unavailable
from cored.rpc.ttrpc_client import Client
from cored_runtime_shim import foreign
from cored_runtime_shim.about import About
from cored_runtime_shim.bundle import Bundle, bundles
from cored_runtime_shim.choice import Runtimes
from cored_runtime_shim.foreign import OWN
from cored_runtime_shim.launch import Launcher
from cored_runtime_shim.sandbox import ShimSandboxes
from cored_runtime_shim.task import ShimTask, killed

__all__ = ["ShimRuntime"]


class ShimRuntime(Runtime):
    """Tasks below ``state``, and sandboxes."""

    def __init__(self, state: Path, launcher: Launcher, runtimes: Runtimes) -> None:
        self._state = state
        self._launcher = launcher
        self._runtimes = runtimes
        self._about = About(runtimes)
        self.sandboxes = ShimSandboxes(state / ".sandboxes", launcher, runtimes)

    def close(self) -> None:
        """Let go of what is open; every task lives on."""
        self.sandboxes.close()
        self._launcher.close()

    async def create(self, id: str, options: CreateOptions) -> Task:
        choice = await self._runtimes.choose(options.runtime, options.options, options.spec.value)
        options = replace(options, runtime=choice.shim)
        bundle = Bundle.make(self._state, scope.namespace(), options, id, choice.oci)
        client: Client | None = None
        try:
            started = await self._start(bundle, options)
            client = await Client.connect(started.address)
            task = self._task(bundle, client, started.version)
            request = pb.CreateTaskRequest(
                id=id,
                bundle=str(bundle.path),
                rootfs=[
                    mount_pb2.Mount(
                        type=m.type, source=m.source, target=m.target, options=m.options
                    )
                    for m in options.rootfs
                ],
                terminal=options.stdio.terminal,
                stdin=options.stdio.stdin,
                stdout=options.stdio.stdout,
                stderr=options.stdio.stderr,
                checkpoint=options.checkpoint,
            )
            if options.options is not None:
                request.options.CopyFrom(
                    AnyMessage(type_url=options.options.type_url, value=options.options.value)
                )
            answer = await client.call(
                f"containerd.task.v{started.version}.Task",
                "Create",
                request,
                pb.CreateTaskResponse(),
                metadata={"containerd-namespace-ttrpc": bundle.namespace},
            )
        except BaseException:
            await asyncio.shield(self._undo(bundle, client))
            raise
        task.created(answer.pid)
        return task

    async def recover(self) -> Mapping[tuple[str, str], Task]:
        found = await asyncio.gather(*(self._recovered(bundle) for bundle in bundles(self._state)))
        return {(task.namespace, task.id): task for task in found if task is not None}

    async def info(self, runtime: str, options: Typed | None) -> RuntimeInfo:
        return await self._about.info(runtime, options)

    async def runtimes(self) -> Sequence[RuntimeInfo]:
        return await self._about.all()

    def _task(self, bundle: Bundle, client: Client | None, version: int) -> ShimTask:
        return ShimTask(bundle, client, version, self._destroy, self._forget)

    async def _start(self, bundle: Bundle, options: CreateOptions) -> foreign.Started:
        """A shim of its own; in somebody else's kind of sandbox, the sandbox's."""
        if options.sandbox and options.runtime not in OWN:
            with suppress(NotFound):  # kept by another controller: its containers have own shims
                started = foreign.Started(*self.sandboxes.endpoint(options.sandbox))
                foreign.record(bundle, started)
                (bundle.path / "sandbox").write_text(options.sandbox)
                return started
        return await self._launcher.start(bundle, options)

    async def _undo(self, bundle: Bundle, client: Client | None) -> None:
        """After a create that failed: end the shim, which has cleaned up its part."""
        if client is not None and not bundle.shared:
            with suppress(CoredError):
                await client.call(
                    f"containerd.task.v{_version(bundle)}.Task",
                    "Shutdown",
                    pb.ShutdownRequest(id=bundle.id, now=True),
                    Empty(),
                    timeout=5,
                )
        if client is not None:
            client.close()
        if client is not None and bundle.runtime not in OWN:
            try:  # not every shim has
                await foreign.delete(bundle.runtime, bundle, self._launcher.address)
            except CoredError as error:
                log.get("runtime").warning("cleaning up a create", id=bundle.id, error=str(error))
        await self._forget(bundle)

    async def _recovered(self, bundle: Bundle) -> Task | None:
        """The task of a bundle; None when there is none (any more), and it has been removed."""
        logger = log.get("runtime").bind(namespace=bundle.namespace, container=bundle.id)
        address = bundle.address
        if not address:
            logger.info("removing a bundle whose shim never started")
            await self._forget(bundle)
            return None
        version = _version(bundle)
        self._launcher.found(bundle)
        try:
            client = await Client.connect(address)
        except Unavailable:
            task = self._task(bundle, None, version)
            exit = await task.wait()
            logger.warning("its shim is gone, the container was ended", exit_status=exit.status)
            return task
        task = self._task(bundle, client, version)
        try:
            state = await task.state()
        except NotFound:
            logger.info("removing a bundle whose task was never created, or is deleted")
            await self._undo(bundle, client)
            return None
        task.created(state.pid)
        logger.info("found again", pid=state.pid, status=str(state.status))
        return task

    async def _destroy(self, bundle: Bundle) -> Exit:
        """End a container whose shim has died, through the runtime; its exit if recorded."""
        pid = bundle.pid
        if bundle.runtime not in OWN:
            binary = foreign.find(bundle.runtime)
            return await foreign.delete(binary, bundle, self._launcher.address)
        done = await asyncio.to_thread(
            subprocess.run, _delete_command(bundle), capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            text = done.stderr.strip()
            log.get("runtime").warning("cleaning up after a shim", id=bundle.id, error=text)
            _kill(pid)
        return bundle.exit or killed(pid)

    async def _forget(self, bundle: Bundle) -> None:
        self._launcher.forget(bundle)
        await asyncio.to_thread(bundle.remove)


def _version(bundle: Bundle) -> int:
    """Of its shim's Task service."""
    return 3 if bundle.runtime in OWN else foreign.version_of(bundle)


def _delete_command(bundle: Bundle) -> list[str]:
    chosen = json.loads((bundle.path / "runtime").read_text())
    options = [
        *chosen.get("options", ()),
        *["--systemd-cgroup"] * chosen.get("systemd_cgroup", False),
    ]
    command = [chosen["binary"], "--root", chosen["root"], *options]
    return [*command, "delete", "--force", bundle.id]


def _kill(pid: int) -> None:
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
