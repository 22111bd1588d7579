"""What one run of corectl knows: the daemon's address, the namespace, how to fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cored.client.builds import Builds
    from cored.client.channel import Channel
    from cored.client.client import Client
    from cored.client.networks import Networks
    from cored.client.tls import TLS
    from cored.client.volumes import Volumes
    from cored.client.workloads import Workloads

__all__ = ["Session"]


def _one(error: Exception) -> int:
    return 1


class Session:
    """Travels as click's context object; the client is made when a command first needs it.

    ``failure`` is the exit code for an error; commands with codes of their own replace it.
    """

    def __init__(self) -> None:
        self.address = ""
        self.tls: TLS | None = None
        self.namespace = "default"
        self.debug = False
        self.failure: Callable[[Exception], int] = _one
        self._client: Client | None = None

    @property
    def remote(self) -> bool:
        """Whether the daemon is on another host: its files are not ours."""
        return self.address.startswith("tcp://")

    def only_here(self, what: str, hint: str) -> None:
        """FailedPrecondition when the daemon is on another host, which ``what`` cannot be with."""
        if self.remote:
            from cored.errors import FailedPrecondition

            raise FailedPrecondition(f"{what}: the daemon is at {self.address}", hint=hint)

    @property
    def client(self) -> Client:
        """The library's, in the namespace: what commands do, they do by it."""
        if self._client is None:
            from cored.client.client import Client

            self._client = Client(self.address, namespace=self.namespace, tls=self.tls)
        return self._client

    @property
    def channel(self) -> Channel:
        """Calls in the namespace."""
        return self.client.channel

    @property
    def workloads(self) -> Workloads:
        """The docker-like verbs, message for message."""
        return self.client.workloads

    @property
    def networks(self) -> Networks:
        """The networks."""
        from cored.client.networks import Networks

        return Networks(self.channel)

    @property
    def builds(self) -> Builds:
        """The builder."""
        from cored.client.builds import Builds

        return Builds(self.channel)

    @property
    def volumes(self) -> Volumes:
        """The volumes."""
        from cored.client.volumes import Volumes

        return Volumes(self.channel)

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()
