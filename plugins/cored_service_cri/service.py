"""runtime.v1.RuntimeService: what a kubelet asks of the runtime itself, and all other calls."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence

from cored import __version__
from cored._pb.cri.v1 import api_pb2 as pb
from cored.abc.runtime import RuntimeInfo
from cored.abc.service import Service
from cored.errors import CoredError, Unimplemented
from cored_service_cri.container_calls import ContainerCalls
from cored_service_cri.pod_calls import PodCalls
from cored_service_cri.stats_calls import StatsCalls
from cored_service_cri.values import NAMESPACE

__all__ = ["RuntimeService"]


class RuntimeService(PodCalls, ContainerCalls, StatsCalls, Service):
    service = "runtime.v1.RuntimeService"
    scoped = False
    namespace = NAMESPACE
    lasting = frozenset({"GetContainerEvents"})

    async def Version(self, request: pb.VersionRequest) -> pb.VersionResponse:
        del request
        return pb.VersionResponse(
            version="0.1.0",
            runtime_name="cored",
            runtime_version=__version__,
            runtime_api_version="v1",
        )

    async def Status(self, request: pb.StatusRequest) -> pb.StatusResponse:
        network = pb.RuntimeCondition(type="NetworkReady", status=True)
        try:
            await self.parts.networks.status()
        except CoredError as error:
            network.status, network.reason = False, "NetworkPluginNotReady"
            network.message = str(error)
        conditions = [pb.RuntimeCondition(type="RuntimeReady", status=True), network]
        return pb.StatusResponse(
            status=pb.RuntimeStatus(conditions=conditions),
            info=self._configuration() if request.verbose else {},
            runtime_handlers=_handlers(await self.parts.tasks.runtimes()),
            features=pb.RuntimeFeatures(supplemental_groups_policy=True),
        )

    async def RuntimeConfig(self, request: pb.RuntimeConfigRequest) -> pb.RuntimeConfigResponse:
        del request
        driver = pb.SYSTEMD if self.parts.cgroup_driver == "systemd" else pb.CGROUPFS
        return pb.RuntimeConfigResponse(linux=pb.LinuxRuntimeConfiguration(cgroup_driver=driver))

    async def UpdateRuntimeConfig(
        self, request: pb.UpdateRuntimeConfigRequest
    ) -> pb.UpdateRuntimeConfigResponse:
        """The pod CIDR is a matter of the CNI configuration here, as it is everywhere today."""
        del request
        return pb.UpdateRuntimeConfigResponse()

    async def GetContainerEvents(
        self, request: pb.GetEventsRequest
    ) -> AsyncIterator[pb.ContainerEventResponse]:
        del request
        async for event in self.parts.events.stream():
            yield event

    async def CheckpointPod(self, request: pb.CheckpointPodRequest) -> pb.CheckpointPodResponse:
        raise Unimplemented(f"pod sandbox {request.pod_sandbox_id!r}: pods are not checkpointed")

    async def RestorePod(self, request: pb.RestorePodRequest) -> pb.RestorePodResponse:
        raise Unimplemented(f"checkpoint {request.checkpoint_path!r}: pods are not restored")

    def _configuration(self) -> dict[str, str]:
        """What crictl info shows."""
        table = {
            "cgroupDriver": self.parts.cgroup_driver,
            "pods": len(self.parts.registry.pods),
            "containers": len(self.parts.registry.containers),
            "streaming": self.parts.streaming.address,
        }
        return {"config": json.dumps(table)}


def _handlers(runtimes: Sequence[RuntimeInfo]) -> list[pb.RuntimeHandler]:
    """Those that a RuntimeClass may name; '' is the usual one."""
    found = []
    for one in runtimes:
        if one.problem:
            continue
        names = ["", one.name] if one.usual else [one.name]
        found += [pb.RuntimeHandler(name=name, features=_features(one)) for name in names]
    return found


def _features(one: RuntimeInfo) -> pb.RuntimeHandlerFeatures:
    """The shim maps owners itself, so that user namespaces do not depend on the OCI runtime.

    A crun that is too old to say what it can has had recursive read-only mounts since 1.4.
    """
    table = json.loads(one.features.value) if one.features else {}
    namespaces = (table.get("linux") or {}).get("namespaces") or ()
    silent = one.kind == "oci" and one.features is None and one.name == "crun"
    return pb.RuntimeHandlerFeatures(
        recursive_read_only_mounts=silent or "rro" in (table.get("mountOptions") or ()),
        user_namespaces=silent or "user" in namespaces,
    )
