"""Sandboxes kept by shims: the controller ``shim`` (containerd.runtime.sandbox.v1)."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage

from cored import log, scope
from cored._pb.containerd.runtime.sandbox.v1 import sandbox_pb2 as pb
from cored._pb.containerd.types import mount_pb2
from cored.abc.records import Sandbox
from cored.abc.runtime import CreateOptions
from cored.abc.sandbox import (
    SandboxController,
    SandboxExit,
    SandboxInstance,
    SandboxOptions,
    SandboxStatus,
)
from cored.abc.values import Platform, Typed
from cored.errors import AlreadyExists, CoredError, NotFound, Unavailable
from cored.rpc.ttrpc_client import Client
from cored_runtime_shim.bundle import Bundle
from cored_runtime_shim.choice import Runtimes
from cored_runtime_shim.launch import Launcher

__all__ = ["ShimSandboxes"]

_SERVICE = "containerd.runtime.sandbox.v1.Sandbox"
_SPEC = Typed("types.containerd.io/opencontainers/runtime-spec/1/Spec", b"{}")


class ShimSandboxes(SandboxController):
    """One shim for each sandbox, below ``state``; the bundle says where it listens."""

    def __init__(self, state: Path, launcher: Launcher, runtimes: Runtimes) -> None:
        self._state = state
        self._runtimes = runtimes
        self._launcher = launcher
        self._clients: dict[tuple[str, str], Client] = {}

    def close(self) -> None:
        """Let go of the connections; the sandboxes stay."""
        for client in self._clients.values():
            client.close()

    def endpoint(self, id: str) -> tuple[str, int]:
        """Address and Task service version of a sandbox's shim, for containers in it. NotFound."""
        bundle = self._bundle(id)
        return bundle.address, _version(bundle)

    async def create(self, record: Sandbox, options: SandboxOptions) -> None:
        namespace = scope.namespace()
        if (self._state / namespace / record.id).exists():
            raise AlreadyExists(f"sandbox {record.id!r}: already exists")
        shim = (await self._runtimes.resolve(record.runtime, None)).shim
        wanted = CreateOptions(record.spec or _SPEC, runtime=shim, options=record.runtime_options)
        bundle = Bundle.make(self._state, namespace, wanted, record.id, None)
        client: Client | None = None
        try:
            started = await self._launcher.start(bundle, wanted, own_id=f"sandbox.{record.id}")
            client = await Client.connect(started.address)
            request = pb.CreateSandboxRequest(
                sandbox_id=record.id,
                bundle_path=str(bundle.path),
                rootfs=[
                    mount_pb2.Mount(
                        type=m.type, source=m.source, target=m.target, options=m.options
                    )
                    for m in options.rootfs
                ],
                netns_path=options.netns,
                annotations=options.annotations,
            )
            if options.options is not None:
                request.options.CopyFrom(
                    AnyMessage(type_url=options.options.type_url, value=options.options.value)
                )
            await _call(client, "CreateSandbox", request, pb.CreateSandboxResponse())
        except BaseException:
            if client is not None:
                with suppress(CoredError):
                    asked = pb.ShutdownSandboxRequest(sandbox_id=record.id)
                    answer = pb.ShutdownSandboxResponse()
                    await _call(client, "ShutdownSandbox", asked, answer, timeout=5)
                client.close()
            bundle.remove()
            raise
        self._clients[namespace, record.id] = client

    async def start(self, id: str) -> SandboxInstance:
        request = pb.StartSandboxRequest(sandbox_id=id)
        found = await self._ask(id, "StartSandbox", request, pb.StartSandboxResponse())
        address, version = self.endpoint(id)
        spec = Typed(found.spec.type_url, found.spec.value) if found.HasField("spec") else None
        return SandboxInstance(
            id, found.pid, found.created_at.ToNanoseconds(),
            address=address, version=version, spec=spec,
        )  # fmt: skip

    async def platform(self, id: str) -> Platform:
        request = pb.PlatformRequest(sandbox_id=id)
        found = (await self._ask(id, "Platform", request, pb.PlatformResponse())).platform
        return Platform(found.os, found.architecture, found.variant)

    async def stop(self, id: str, timeout: float) -> None:
        request = pb.StopSandboxRequest(sandbox_id=id, timeout_secs=int(timeout))
        try:
            await self._ask(id, "StopSandbox", request, pb.StopSandboxResponse())
        except (NotFound, Unavailable) as error:
            log.get("sandbox").debug("nothing to stop", sandbox=id, why=str(error))

    async def wait(self, id: str) -> SandboxExit:
        request = pb.WaitSandboxRequest(sandbox_id=id)
        try:
            found = await self._ask(id, "WaitSandbox", request, pb.WaitSandboxResponse())
        except Unavailable:
            # its shim was killed, and took the sandbox along
            return SandboxExit(137, time.time_ns())
        return SandboxExit(found.exit_status, found.exited_at.ToNanoseconds())

    async def status(self, id: str, *, verbose: bool = False) -> SandboxStatus:
        request = pb.SandboxStatusRequest(sandbox_id=id, verbose=verbose)
        address, version = self.endpoint(id)
        try:
            found = await self._ask(id, "SandboxStatus", request, pb.SandboxStatusResponse())
        except Unavailable:
            return SandboxStatus(id, state="SANDBOX_NOTREADY", exited_at=time.time_ns())
        extra = Typed(found.extra.type_url, found.extra.value) if found.HasField("extra") else None
        return SandboxStatus(
            id, found.pid, found.state, dict(found.info), found.created_at.ToNanoseconds(),
            found.exited_at.ToNanoseconds(), extra, address, version,
        )  # fmt: skip

    async def shutdown(self, id: str) -> None:
        bundle = self._bundle(id)
        request = pb.ShutdownSandboxRequest(sandbox_id=id)
        try:
            await self._ask(id, "ShutdownSandbox", request, pb.ShutdownSandboxResponse())
        except Unavailable as error:
            log.get("sandbox").debug("its shim is gone", sandbox=id, why=str(error))
        client = self._clients.pop((scope.namespace(), id), None)
        if client is not None:
            client.close()
        self._launcher.forget(bundle)
        bundle.remove()

    async def metrics(self, id: str) -> tuple[int, Typed | None]:
        request = pb.SandboxMetricsRequest(sandbox_id=id)
        found = await self._ask(id, "SandboxMetrics", request, pb.SandboxMetricsResponse())
        metric = found.metrics
        data = Typed(metric.data.type_url, metric.data.value) if metric.HasField("data") else None
        return metric.timestamp.ToNanoseconds(), data

    async def update(self, record: Sandbox, fields: Sequence[str]) -> None:
        """A shim has no call for it: only that the sandbox is there is checked."""
        del fields
        self._bundle(record.id)

    def _bundle(self, id: str) -> Bundle:
        namespace = scope.namespace()
        path = self._state / namespace / id
        if not id or not path.is_dir():
            raise NotFound(f"sandbox {id!r}: not found")
        return Bundle(namespace, id, path)

    async def _ask(self, id: str, method: str, request: Any, answer: Any) -> Any:
        key = (scope.namespace(), id)
        client = self._clients.get(key)
        if client is None or client.lost.done():
            client = self._clients[key] = await Client.connect(self._bundle(id).address)
        return await _call(client, method, request, answer)


async def _call(
    client: Client, method: str, request: Any, answer: Any, timeout: float | None = None
) -> Any:
    metadata = {"containerd-namespace-ttrpc": scope.namespace()}
    return await client.call(_SERVICE, method, request, answer, metadata=metadata, timeout=timeout)


def _version(bundle: Bundle) -> int:
    try:
        return int(json.loads((bundle.path / "bootstrap.json").read_text())["version"])
    except FileNotFoundError:
        return 3
