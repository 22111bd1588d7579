"""What a kubelet hears of pods and containers as it happens (GetContainerEvents)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from cored import log
from cored._pb.cri.v1 import api_pb2 as pb
from cored_service_cri import messages
from cored_service_cri.registry import Registry
from cored_service_cri.values import Container, Pod

__all__ = ["Events"]

# what a reader may be behind; one that is further behind misses the oldest, as a relist finds out
_BACKLOG = 1000


class Events:
    """Every stream gets every event from its beginning on."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._queues: set[asyncio.Queue[pb.ContainerEventResponse]] = set()

    def pod(self, kind: pb.ContainerEventType, pod: Pod) -> None:
        """Something happened to a pod's own pause."""
        self._send(kind, pod.id, pod)

    def container(self, kind: pb.ContainerEventType, container: Container) -> None:
        """Something happened to a container."""
        self._send(kind, container.id, container.pod)

    async def stream(self) -> AsyncIterator[pb.ContainerEventResponse]:
        """All from now on."""
        queue: asyncio.Queue[pb.ContainerEventResponse] = asyncio.Queue(_BACKLOG)
        self._queues.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._queues.discard(queue)

    def _send(self, kind: pb.ContainerEventType, id: str, pod: Pod) -> None:
        if not self._queues:
            return
        pod = self._registry.pods.get(pod.id, pod)
        event = pb.ContainerEventResponse(
            container_id=id,
            container_event_type=kind,
            created_at=time.time_ns(),
            pod_sandbox_status=messages.pod_status(pod),
            containers_statuses=map(messages.status, self._registry.members(pod.id)),
        )
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
                log.get("cri").warning("a reader of container events is too slow", missed=id)
            queue.put_nowait(event)
