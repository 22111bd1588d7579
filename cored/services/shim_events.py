"""containerd.services.events.ttrpc.v1.Events: where shims hand in what they saw."""

from __future__ import annotations

from cored._pb.containerd.services.events.ttrpc.v1 import events_pb2 as pb
from cored.abc.events import EventBus
from cored.rpc.ttrpc_server import Handler
from cored.services.events import envelope_value

__all__ = ["shim_events"]

# the daemon knows these first hand, from its own calls, and publishes each once
_OWN = (
    "/tasks/create",
    "/tasks/start",
    "/tasks/exit",
    "/tasks/delete",
    "/tasks/exec-added",
    "/tasks/exec-started",
    "/tasks/paused",
    "/tasks/resumed",
    "/tasks/checkpointed",
)


def shim_events(bus: EventBus) -> dict[tuple[str, str], Handler]:
    """The service's methods for :func:`cored.rpc.ttrpc_server.serve`."""

    async def forward(data: bytes) -> bytes:
        envelope = envelope_value(pb.ForwardRequest.FromString(data).envelope)
        if envelope.topic not in _OWN:
            await bus.forward(envelope)
        return b""

    return {("containerd.services.events.ttrpc.v1.Events", "Forward"): forward}
