"""network and port: networks made, listed, joined and left; published ports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import click

from corectl import output
from corectl.each import each
from corectl.session import Session
from cored.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from cored._pb.cored.workloads.v1 import networks_pb2 as pb

__all__ = ["connect", "create", "disconnect", "inspect", "ls", "port", "prune", "rm", "whole"]

_COLUMNS = {"ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE"}
# what docker has from the start: the first is made when somebody wants it
_ALWAYS = {"bridge": "bridge", "host": "host", "none": "null"}
_BUILT_IN = {
    "Id": "", "Created": "", "Scope": "local", "EnableIPv6": False, "Internal": False,
    "Labels": {}, "IPAM": {"Config": []}, "Attachable": False, "Ingress": False, "Containers": {},
    "Options": {},
}  # fmt: skip
_FILTERS = ("name", "id", "label", "driver", "type", "scope")


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
@click.option("--no-trunc", is_flag=True, help="Whole ids.")
@click.option(
    "-f",
    "--filter",
    "filters",
    multiple=True,
    metavar="KEY=VALUE",
    help="name=, id=, label=, driver=, type=custom|builtin, scope=.",
)
@output.template_option
@click.pass_obj
def ls(session: Session, quiet: bool, no_trunc: bool, filters: tuple[str, ...], form: str) -> None:
    """List networks: those that were made here, and CNI's from /etc/cni/net.d."""
    known = [whole(one) for one in session.networks.all()]
    names = {one["Name"] for one in known}
    known += [one for one in _built_in() if one["Name"] not in names]
    found = [one for one in known if passes(one, filters)]
    if quiet and not form:
        for one in found:
            click.echo(one["Id"] if no_trunc else one["Id"][:12])
        return
    output.listing(form, _COLUMNS, [_record(one, whole_id=no_trunc) for one in found])


def _record(one: dict[str, Any], *, whole_id: bool) -> dict[str, Any]:
    labels = one["Labels"]
    found = {
        "ID": one["Id"] if whole_id else one["Id"][:12],
        "Name": one["Name"],
        "Driver": one["Driver"],
        "Scope": one["Scope"],
        "Subnets": ", ".join(each["Subnet"] for each in one["IPAM"]["Config"]),
        "CreatedAt": one["Created"],
        "IPv6": str(one["EnableIPv6"]).lower(),
        "Internal": str(one["Internal"]).lower(),
        "Labels": ",".join(f"{name}={value}" for name, value in labels.items()),
    }
    return output.Fields(found, {"Label": lambda name: labels.get(name, "")})


def passes(one: dict[str, Any], filters: Sequence[str]) -> bool:
    """Whether a network is asked for: any value of a key, all keys; all labels. InvalidArgument."""
    wanted: dict[str, list[bool]] = {}
    for text in filters:
        key, equals, value = text.partition("=")
        if not equals or key not in _FILTERS:
            raise InvalidArgument(f"filter '{text}': unknown", hint=", ".join(_FILTERS))
        wanted.setdefault(text if key == "label" else key, []).append(_fits(one, key, value))
    return all(map(any, wanted.values()))


def _fits(one: dict[str, Any], key: str, value: str) -> bool:
    match key:
        case "name":
            return value in one["Name"]
        case "id":
            return bool(one["Id"].startswith(value))
        case "label":
            name, equals, text = value.partition("=")
            return name in one["Labels"] and (not equals or one["Labels"][name] == text)
        case "type" if value in ("custom", "builtin"):
            return (value == "builtin") == (one["Name"] in _ALWAYS)
        case "driver" | "scope":
            return bool(one[key.capitalize()] == value)
    raise InvalidArgument(f"filter '{key}={value}': not understood")


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NETWORK...")
@click.option("-f", "--format", "form", default="", metavar="json|TEMPLATE", help="Go template.")
@click.option("-v", "--verbose", is_flag=True, help="As docker's; all is shown anyway.")
@click.pass_obj
def inspect(session: Session, names: Sequence[str], form: str, verbose: bool) -> int:
    """Show everything about networks, as JSON, with the containers that are in them."""
    found: list[dict[str, Any]] = []
    code = each(session, names, lambda name: found.append(_inspected(session, name)))
    if found or not form:
        output.templated(form, found)
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
    removed = session.networks.prune()
    if removed:
        click.echo("Deleted Networks:")
        for name in removed:
            click.echo(name)
        click.echo()


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
@click.option("-f", "--force", is_flag=True, help="As docker's; nothing has to be forced.")
@click.pass_obj
def disconnect(session: Session, network: str, container: str, force: bool) -> None:
    """Take a container out of a network."""
    session.networks.disconnect(container, network)


@click.command()
@click.argument("container")
@click.argument("private", required=False, metavar="[PORT[/PROTOCOL]]")
@click.pass_obj
def port(session: Session, container: str, private: str | None) -> None:
    """Show what ports of the host a container has."""
    from corectl.published import published

    found = published(session.workloads.inspect(container).container)
    if private is None:
        for one in found:
            click.echo(f"{one.container}/{one.protocol} -> {one.place}")
        return
    number, _, protocol = private.partition("/")
    matching = [
        one for one in found if str(one.container) == number and one.protocol == (protocol or "tcp")
    ]
    if not matching:
        raise NotFound(f"container {container!r}: port {private}: is not published")
    for one in matching:
        click.echo(one.place)


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for name, _, _ in pairs:
        if not name:
            raise InvalidArgument("--label and --opt want a name", hint="write NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _inspected(session: Session, name: str) -> dict[str, Any]:
    try:
        return whole(session.networks.inspect(name))
    except NotFound:
        for one in _built_in():
            if name == one["Name"] or (len(name) >= 3 and one["Id"].startswith(name)):
                return one
        raise


def _built_in() -> list[dict[str, Any]]:
    """Networks that are there without being made."""
    return [
        {**_BUILT_IN, "Id": sha256(name.encode()).hexdigest(), "Name": name, "Driver": driver}
        for name, driver in _ALWAYS.items()
    ]


def whole(one: pb.Network) -> dict[str, Any]:
    """A network in docker's form, with what only we have at the end."""
    return {
        "Name": one.name,
        "Id": one.id,
        "Created": output.iso(one.created_at.seconds, one.created_at.nanos),
        "Scope": "local",
        "Driver": one.driver,
        "EnableIPv6": one.ipv6,
        "IPAM": {"Driver": "default", "Options": None, "Config": _addresses(one)},
        "Internal": one.internal,
        "Attachable": False,
        "Ingress": False,
        "Containers": {member.container: _member(member) for member in one.members},
        "Options": dict(sorted(one.options.items())),
        "Labels": dict(sorted(one.labels.items())),
        "Source": one.source,
        "Config": json.loads(one.config) if one.config else None,
    }


def _addresses(one: pb.Network) -> list[dict[str, Any]]:
    """Subnets with their gateways, and the parts that addresses are taken from."""
    config = json.loads(one.config) if one.config else {}
    given = {
        ranged.get("subnet"): ranged
        for plugin in config.get("plugins", ())
        for ranges in plugin.get("ipam", {}).get("ranges", ())
        for ranged in ranges
    }
    found: list[dict[str, Any]] = []
    for number, subnet in enumerate(one.subnets):
        part = {"Subnet": subnet}
        limits = given.get(subnet, {})
        if "rangeStart" in limits and "rangeEnd" in limits:
            part["IPRange"] = _range(subnet, limits["rangeStart"], limits["rangeEnd"])
        if number < len(one.gateways):
            part["Gateway"] = one.gateways[number]
        found.append(output.Fields(part, {"IPRange": "", "Gateway": ""}))
    return found


def _range(subnet: str, first: str, last: str) -> str:
    """The smallest prefix that has them all; addresses that nobody can have do not count."""
    from ipaddress import ip_address, ip_network

    found = ip_network(first)
    end = ip_address(last)
    while end not in found and found.prefixlen > ip_network(subnet).prefixlen:
        found = found.supernet()
    return str(found)


def _member(member: pb.Member) -> dict[str, str]:
    four = [one for one in member.connection.addresses if ":" not in one]
    six = [one for one in member.connection.addresses if ":" in one]
    return {
        "Name": member.name,
        "Namespace": member.namespace,
        "EndpointID": "",
        "MacAddress": member.connection.mac,
        "IPv4Address": next(iter(four), ""),
        "IPv6Address": next(iter(six), ""),
    }
