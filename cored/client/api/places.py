"""Volumes, networks and namespaces: where containers keep things, meet, and are kept apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cored._pb.cored.workloads.v1 import networks_pb2, volumes_pb2, workloads_pb2
from cored.client import networks, system, volumes
from cored.client.api import conversion
from cored.client.api.values import Namespace, Network, Pruned, Volume

if TYPE_CHECKING:
    from cored.client.client import Client

__all__ = ["Namespaces", "Networks", "Volumes"]


class Volumes:
    """Directories that outlive containers."""

    def __init__(self, client: Client) -> None:
        self._calls = volumes.Volumes(client.channel)

    def create(
        self,
        name: str = "",
        *,
        driver: str = "",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Volume:
        """Make one, or answer the one that is there and the same.

        >>> client.volumes.create("data", labels={"app": "shop"}).name
        'data'
        >>> client.volumes.list(["label=app=shop"])[0].driver
        'local'
        >>> client.volumes.remove("data")
        """
        request = volumes_pb2.CreateVolumeRequest(
            name=name, driver=driver, options=options, labels=labels
        )
        return conversion.value(Volume, self._calls.create(request))

    def list(self, filters: Sequence[str] = ()) -> list[Volume]:
        """Those that pass docker's filters."""
        return [conversion.value(Volume, one) for one in self._calls.list(filters)]

    def get(self, name: str) -> Volume:
        """One. NotFound."""
        return conversion.value(Volume, self._calls.inspect(name))

    def remove(self, name: str, *, force: bool = False) -> None:
        """Remove one that no container has; with ``force`` also one that is not there."""
        self._calls.remove(name, force=force)

    def prune(self, filters: Sequence[str] = ()) -> Pruned:
        """Remove anonymous ones that no container has; with ``all=true`` the others, too."""
        return conversion.value(Pruned, self._calls.prune(filters))


class Networks:
    """A network is named by its name, its id, or a unique beginning of that."""

    def __init__(self, client: Client) -> None:
        self._calls = networks.Networks(client.channel)

    def create(
        self,
        name: str,
        *,
        driver: str = "",
        subnets: Sequence[str] = (),
        gateways: Sequence[str] = (),
        ranges: Sequence[str] = (),
        internal: bool = False,
        ipv6: bool = False,
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> Network:
        """Make one; subnets and ranges in CIDR notation. AlreadyExists.

        >>> client.networks.create("shop", subnets=["10.77.0.0/24"]).gateways
        ('10.77.0.1',)
        >>> client.networks.remove("shop")
        """
        request = networks_pb2.CreateNetworkRequest(
            name=name,
            driver=driver,
            subnets=subnets,
            gateways=gateways,
            ranges=ranges,
            internal=internal,
            ipv6=ipv6,
            labels=labels,
            options=options,
        )
        return conversion.value(Network, self._calls.create(request))

    def list(self) -> list[Network]:
        """All."""
        return [conversion.value(Network, one) for one in self._calls.all()]

    def get(self, network: str) -> Network:
        """One. NotFound."""
        return conversion.value(Network, self._calls.inspect(network))

    def members(self, network: str) -> dict[str, str]:
        """The containers that are in it: id to name."""
        return {one.container: one.name for one in self._calls.inspect(network).members}

    def remove(self, network: str) -> None:
        """Remove one that nobody is in."""
        self._calls.remove(network)

    def prune(self) -> tuple[str, ...]:
        """Remove those that no container is in or wants to be in; their names."""
        return tuple(self._calls.prune())

    def connect(
        self, network: str, container: str, *, aliases: Sequence[str] = (), ip: str = ""
    ) -> None:
        """Put a container into one more network; one that runs at once."""
        endpoint = workloads_pb2.Endpoint(network=network, aliases=aliases, ip=ip)
        self._calls.connect(container, endpoint)

    def disconnect(self, network: str, container: str) -> None:
        """Take a container out of a network."""
        self._calls.disconnect(container, network)


class Namespaces:
    """Everything but networks is in a namespace: ``client.within(name)`` works in another."""

    def __init__(self, client: Client) -> None:
        self._calls = system.Namespaces(client.channel)

    def list(self) -> list[Namespace]:
        """All."""
        return [Namespace(name, labels) for name, labels in self._calls.all().items()]

    def create(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """Make one. AlreadyExists.

        >>> client.namespaces.create("tests", {"owner": "me"})
        >>> [one.labels for one in client.namespaces.list() if one.name == "tests"]
        [{'owner': 'me'}]
        >>> with client.within("tests") as inside:
        ...     inside.containers.list(all=True)
        []
        >>> client.namespaces.remove("tests")
        """
        self._calls.create(name, labels or {})

    def label(self, name: str, labels: Mapping[str, str]) -> None:
        """Set labels; an empty value takes one away. NotFound."""
        self._calls.label(name, labels)

    def remove(self, name: str) -> None:
        """Remove one in which nothing is. FailedPrecondition, NotFound."""
        self._calls.remove(name)
