"""A sandbox controller behind containerd.services.sandbox.v1.Controller."""

from __future__ import annotations

from collections.abc import Sequence

from cored._pb.containerd.services.sandbox.v1 import sandbox_pb2 as pb
from cored.abc.records import Sandbox
from cored.abc.sandbox import (
    SandboxController,
    SandboxExit,
    SandboxInstance,
    SandboxOptions,
    SandboxStatus,
)
from cored.abc.values import Platform, Typed
from cored.proxies.peer import Peer
from cored.services.sandbox_store import sandbox_message
from cored.services.wire import mount_message, typed_message, typed_value

__all__ = ["ProxySandboxes"]


class ProxySandboxes(SandboxController):
    """``name`` is what the peer calls it."""

    def __init__(self, peer: Peer, name: str) -> None:
        self._peer = peer
        self._name = name

    async def create(self, record: Sandbox, options: SandboxOptions) -> None:
        request = pb.ControllerCreateRequest(
            sandbox_id=record.id,
            rootfs=map(mount_message, options.rootfs),
            options=typed_message(options.options),
            netns_path=options.netns,
            annotations=options.annotations,
            sandbox=sandbox_message(record),
            sandboxer=self._name,
        )
        await self._peer.call("Create", request, pb.ControllerCreateResponse)

    async def start(self, id: str) -> SandboxInstance:
        request = pb.ControllerStartRequest(sandbox_id=id, sandboxer=self._name)
        found = await self._peer.call("Start", request, pb.ControllerStartResponse)
        return SandboxInstance(
            id,
            found.pid,
            found.created_at.ToNanoseconds(),
            dict(found.labels),
            found.address,
            found.version,
            typed_value(found, "spec"),
        )

    async def platform(self, id: str) -> Platform:
        request = pb.ControllerPlatformRequest(sandbox_id=id, sandboxer=self._name)
        found = await self._peer.call("Platform", request, pb.ControllerPlatformResponse)
        return Platform(found.platform.os, found.platform.architecture, found.platform.variant)

    async def stop(self, id: str, timeout: float) -> None:
        request = pb.ControllerStopRequest(
            sandbox_id=id, timeout_secs=int(timeout), sandboxer=self._name
        )
        await self._peer.call("Stop", request, pb.ControllerStopResponse)

    async def wait(self, id: str) -> SandboxExit:
        request = pb.ControllerWaitRequest(sandbox_id=id, sandboxer=self._name)
        found = await self._peer.call("Wait", request, pb.ControllerWaitResponse)
        return SandboxExit(found.exit_status, found.exited_at.ToNanoseconds())

    async def status(self, id: str, *, verbose: bool = False) -> SandboxStatus:
        request = pb.ControllerStatusRequest(sandbox_id=id, verbose=verbose, sandboxer=self._name)
        found = await self._peer.call("Status", request, pb.ControllerStatusResponse)
        return SandboxStatus(
            id,
            found.pid,
            found.state,
            dict(found.info),
            found.created_at.ToNanoseconds(),
            found.exited_at.ToNanoseconds(),
            typed_value(found, "extra"),
            found.address,
            found.version,
        )

    async def shutdown(self, id: str) -> None:
        request = pb.ControllerShutdownRequest(sandbox_id=id, sandboxer=self._name)
        await self._peer.call("Shutdown", request, pb.ControllerShutdownResponse)

    async def metrics(self, id: str) -> tuple[int, Typed | None]:
        request = pb.ControllerMetricsRequest(sandbox_id=id, sandboxer=self._name)
        found = await self._peer.call("Metrics", request, pb.ControllerMetricsResponse)
        return found.metrics.timestamp.ToNanoseconds(), typed_value(found.metrics, "data")

    async def update(self, record: Sandbox, fields: Sequence[str]) -> None:
        request = pb.ControllerUpdateRequest(
            sandbox_id=record.id,
            sandboxer=self._name,
            sandbox=sandbox_message(record),
            fields=fields,
        )
        await self._peer.call("Update", request, pb.ControllerUpdateResponse)
