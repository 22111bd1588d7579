"""network and port: networks made, listed, joined and left; published ports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from corectl import output
from corectl.each import each
from corectl.session import Session
from cored.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from cored._pb.cored.workloads.v1 import networks_pb2 as pb
    from cored._pb.cored.workloads.v1 import workloads_pb2

__all__ = ["connect", "create", "disconnect", "inspect", "ls", "port", "prune", "rm"]


@click.command()
@click.argument("name")
@click.option("-d", "--driver", default="bridge", show_default=True, help="bridge or macvlan.")
@click.option("--subnet", multiple=True, metavar="CIDR", help="Subnet; chosen when not given.")
@click.option("--gateway", multiple=True, metavar="ADDRESS", help="The host's address in it.")
@click.option("--ip-range", multiple=True, metavar="CIDR", help="Part that addresses are from.")
@click.option("--internal", is_flag=True, help="Without a way out.")
@click.option("--ipv6", is_flag=True, help="Addresses of IPv6, too.")
@click.option("--label", multiple=True, metavar="NAME[=VALUE]", help="Label.")
@click.option("-o", "--opt", multiple=True, metavar="NAME=VALUE", help="Option of the driver.")
@click.pass_obj
def create(session: Session, /, name: str, **options: Any) -> None:
    """Make a network that containers join by name; prints its id."""
    from cored._pb.cored.workloads.v1 import networks_pb2 as pb

    made = session.networks.create(
        pb.CreateNetworkRequest(
            name=name,
            driver=options["driver"],
            subnets=options["subnet"],
            gateways=options["gateway"],
            ranges=options["ip_range"],
            internal=options["internal"],
            ipv6=options["ipv6"],
            labels=_pairs(options["label"]),
            options=_pairs(options["opt"]),
        )
    )
    click.echo(made.id)


@click.command()
@click.option("-q", "--quiet", is_flag=True, help="Only ids.")
@output.choice
@click.pass_obj
def ls(session: Session, quiet: bool, form: str) -> None:
    """List networks: those that were made here, and CNI's from /etc/cni/net.d."""
    found = session.networks.all()
    if quiet:
        for one in found:
            click.echo(one.id)
    elif form == "json":
        output.as_json([_as_dict(one) for one in found])
    else:
        rows = [(one.id[:12], one.name, one.driver, ", ".join(one.subnets) or "-") for one in found]
        rows += [("-", name, name, "-") for name in ("host", "none")]
        output.table(("ID", "NAME", "DRIVER", "SUBNETS"), rows)


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NETWORK...")
@click.pass_obj
def inspect(session: Session, names: Sequence[str]) -> int:
    """Show everything about networks, as JSON, with the containers that are in them."""
    found: list[dict[str, Any]] = []
    code = each(session, names, lambda name: found.append(_whole(session.networks.inspect(name))))
    output.as_json(found)
    return code


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NETWORK...")
@click.pass_obj
def rm(session: Session, names: Sequence[str]) -> int:
    """Remove networks that no container is in."""

    def remove(name: str) -> None:
        session.networks.remove(name)
        click.echo(name)

    return each(session, names, remove)


@click.command()
@click.option("-f", "--force", is_flag=True, help="Without asking, as it is done anyway.")
@click.pass_obj
def prune(session: Session, force: bool) -> None:
    """Remove networks that no container wants, running or not; prints their names."""
    for name in session.networks.prune():
        click.echo(name)


@click.command()
@click.argument("network")
@click.argument("container")
@click.option("--alias", multiple=True, help="Another name of the container in it.")
@click.option("--ip", default="", help="Its IPv4 address.")
@click.option("--ip6", default="", help="Its IPv6 address.")
@click.pass_obj
def connect(
    session: Session, network: str, container: str, alias: Sequence[str], ip: str, ip6: str
) -> None:
    """Put a container into one more network; one that runs, at once."""
    from cored._pb.cored.workloads.v1 import workloads_pb2

    endpoint = workloads_pb2.Endpoint(network=network, aliases=alias, ip=ip, ip6=ip6)
    session.networks.connect(container, endpoint)


@click.command()
@click.argument("network")
@click.argument("container")
@click.pass_obj
def disconnect(session: Session, network: str, container: str) -> None:
    """Take a container out of a network."""
    session.networks.disconnect(container, network)


@click.command()
@click.argument("container")
@click.argument("private", required=False, metavar="[PORT[/PROTOCOL]]")
@click.pass_obj
def port(session: Session, container: str, private: str | None) -> None:
    """Show what ports of the host a container has."""
    there = session.workloads.inspect(container).container.connections
    found = [one for connection in there for one in connection.ports]
    if private is None:
        for one in found:
            click.echo(f"{one.container}/{one.protocol} -> {address(one)}")
        return
    number, _, protocol = private.partition("/")
    matching = [
        one for one in found if str(one.container) == number and one.protocol == (protocol or "tcp")
    ]
    if not matching:
        raise NotFound(f"container {container!r}: port {private}: is not published")
    for one in matching:
        click.echo(address(one))


def address(one: workloads_pb2.Port) -> str:
    """Where a port is published."""
    where = f"[{one.host_ip}]" if ":" in one.host_ip else one.host_ip or "0.0.0.0"
    return f"{where}:{one.host}"


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for name, _, _ in pairs:
        if not name:
            raise InvalidArgument("--label and --opt want a name", hint="write NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _as_dict(one: pb.Network) -> dict[str, Any]:
    return {
        "name": one.name,
        "id": one.id,
        "driver": one.driver,
        "subnets": list(one.subnets),
        "gateways": list(one.gateways),
        "internal": one.internal,
        "ipv6": one.ipv6,
        "labels": dict(one.labels),
        "options": dict(one.options),
        "created_at": output.iso(one.created_at.seconds, one.created_at.nanos),
        "source": one.source,
    }


def _whole(one: pb.Network) -> dict[str, Any]:
    return {
        **_as_dict(one),
        "config": json.loads(one.config),
        "containers": {
            member.container: {
                "name": member.name,
                "namespace": member.namespace,
                "addresses": list(member.connection.addresses),
                "mac": member.connection.mac,
                "aliases": list(member.connection.aliases),
            }
            for member in one.members
        },
    }
