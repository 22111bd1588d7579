"""How the ports of containers are shown."""

from __future__ import annotations

from corectl.published import in_short, published

from cored._pb.cored.workloads.v1 import workloads_pb2 as pb


def container(ports: list[pb.Port], *exposed: str, addresses: tuple[str, ...]) -> pb.Container:
    connection = pb.Connection(addresses=addresses, ports=ports)
    return pb.Container(connections=[connection], exposed=exposed)


PORTS = [
    pb.Port(container=82, host=82, protocol="tcp"),
    pb.Port(container=80, host=8080, protocol="tcp"),
    pb.Port(container=81, host=81, protocol="tcp"),
    pb.Port(container=83, host=83, protocol="udp", host_ip="127.0.0.1"),
]


def test_neighbours_are_a_range_and_what_is_only_exposed_is_seen() -> None:
    shown = in_short(container(PORTS, "80/tcp", "99", "97-98/tcp", addresses=("10.0.0.2/24",)))
    assert (
        shown == "97-99/tcp, 0.0.0.0:81-82->81-82/tcp, 127.0.0.1:83->83/udp, 0.0.0.0:8080->80/tcp"
    )


def test_every_address_is_of_the_families_that_the_container_has() -> None:
    both = container(PORTS[1:2], addresses=("10.0.0.2/24", "fd00::2/64"))
    assert [one.place for one in published(both)] == ["0.0.0.0:8080", "[::]:8080"]
    assert in_short(both) == "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
    six = container(PORTS[1:2], addresses=("fd00::2/64",))
    assert [one.place for one in published(six)] == ["[::]:8080"]


def test_without_a_network_nothing_is_shown() -> None:
    assert in_short(pb.Container(exposed=["80"])) == ""
