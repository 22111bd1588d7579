"""cored.workloads.v1.Networks, typed: networks that containers join."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty

from cored._pb.cored.workloads.v1 import networks_pb2 as pb
from cored._pb.cored.workloads.v1 import workloads_pb2
from cored.client.channel import Channel

__all__ = ["Networks"]

_SERVICE = "/cored.workloads.v1.Networks/"


class Networks:
    """On a channel that has a namespace. Errors are those of :mod:`cored.errors`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def create(self, request: pb.CreateNetworkRequest) -> pb.Network:
        """Make one."""
        return self._channel.unary(f"{_SERVICE}Create", request, pb.Network)

    def all(self) -> list[pb.Network]:
        """All."""
        request = pb.ListNetworksRequest()
        answer = self._channel.unary(f"{_SERVICE}List", request, pb.ListNetworksResponse)
        return list(answer.networks)

    def inspect(self, network: str) -> pb.Network:
        """One, with the containers that are in it."""
        request = pb.InspectNetworkRequest(network=network)
        return self._channel.unary(f"{_SERVICE}Inspect", request, pb.Network)

    def remove(self, network: str) -> None:
        """Remove one that nobody is in."""
        request = pb.RemoveNetworkRequest(network=network)
        self._channel.unary(f"{_SERVICE}Remove", request, Empty)

    def prune(self) -> list[str]:
        """Remove those that nobody wants; their names."""
        request = pb.PruneNetworksRequest()
        answer = self._channel.unary(f"{_SERVICE}Prune", request, pb.PruneNetworksResponse)
        return [str(name) for name in answer.removed]

    def connect(self, container: str, endpoint: workloads_pb2.Endpoint) -> None:
        """Put a container into one more network."""
        request = pb.ConnectRequest(container=container, endpoint=endpoint)
        self._channel.unary(f"{_SERVICE}Connect", request, Empty)

    def disconnect(self, container: str, network: str) -> None:
        """Take a container out of a network."""
        request = pb.DisconnectRequest(container=container, network=network)
        self._channel.unary(f"{_SERVICE}Disconnect", request, Empty)
