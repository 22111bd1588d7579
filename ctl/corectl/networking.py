"""Options of run and create that are of networks: where it is, what is published, its names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from cored.errors import InvalidArgument

if TYPE_CHECKING:
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

__all__ = ["dns", "endpoints", "first_network", "network_options", "ports"]

# [HOST-IP:][HOST-PORT[-LAST]:]PORT[-LAST][/PROTOCOL]; an address of IPv6 in brackets
_PORT = re.compile(
    r"(?:(?:\[(?P<ip6>[0-9a-fA-F:.]+)\]|(?P<bare6>[0-9a-fA-F]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*)"
    r"|(?P<ip>[^:\[\]]+)):(?=.*:|\d*:))?"
    r"(?:(?P<host>\d*)(?:-(?P<hostlast>\d+))?:)?"
    r"(?P<port>\d+)(?:-(?P<last>\d+))?(?:/(?P<protocol>[a-z]+))?"
)
_FORM = "write [[HOST-IP:]HOST-PORT:]PORT[/udp]; ports may be ranges, as 8000-8010"


def network_options() -> Sequence[Callable[..., Any]]:
    option = click.option
    return (
        option(
            "--network",
            "--net",
            multiple=True,
            metavar="NAME[,...]|none|host|container:NAME",
            help="Network to join; more than one may be named. As NAME,alias=A,ip=ADDRESS too.",
        ),
        option("--network-alias", "--net-alias", multiple=True, help="Another name in it."),
        option("--ip", default="", help="Its IPv4 address."),
        option("--ip6", default="", help="Its IPv6 address."),
        option("--mac-address", default="", help="Its hardware address."),
        option(
            "-p",
            "--publish",
            multiple=True,
            metavar="[[IP:]HOST:]PORT[/udp]",
            help="Publish a port on the host.",
        ),
        option("-P", "--publish-all", is_flag=True, help="Publish what the image exposes."),
        option("--expose", multiple=True, metavar="PORT[/PROTOCOL]", help="For -P, besides those."),
        option("--dns", multiple=True, metavar="ADDRESS", help="Name server."),
        option("--dns-search", multiple=True, metavar="DOMAIN", help="Search domain."),
        option("--dns-option", "--dns-opt", multiple=True, help="Option of the resolver."),
        option("--add-host", multiple=True, metavar="NAME:ADDRESS", help="Line for /etc/hosts."),
        option("--link", multiple=True, metavar="CONTAINER[:ALIAS]", help="Find it by that name."),
        option(
            "--link-local-ip", multiple=True, metavar="ADDRESS", help="Not here: see --ip, --ip6."
        ),
        option("--domainname", default="", help="Domain name."),
    )


def first_network(options: Mapping[str, Any]) -> str:
    """The network that the others are beside."""
    return str(_endpoint(options["network"][0]).network) if options["network"] else ""


def endpoints(options: Mapping[str, Any]) -> list[pb.Endpoint]:
    """What is wanted of the networks; options of their own are the first one's. InvalidArgument."""
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    if options["link_local_ip"]:
        raise InvalidArgument(
            f"--link-local-ip {options['link_local_ip'][0]}: networks here give no such addresses",
            hint="--ip and --ip6 choose addresses",
        )
    found = [_endpoint(text) for text in options["network"]]
    own = pb.Endpoint(
        aliases=options["network_alias"],
        ip=options["ip"],
        ip6=options["ip6"],
        mac=options["mac_address"],
    )
    if own.ByteSize():
        if not found:
            found.append(pb.Endpoint(network="bridge"))
        found[0].MergeFrom(own)
    if len(found) == 1 and found[0] == pb.Endpoint(network=found[0].network):
        return []
    return found


def _endpoint(text: str) -> pb.Endpoint:
    """``NAME``, or ``name=NAME,alias=A,ip=A,ip6=A,mac-address=A`` (docker's long form)."""
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    endpoint = pb.Endpoint()
    for word in text.split(","):
        key, equals, value = word.partition("=")
        match key if equals else "name":
            case "name":
                endpoint.network = value or key
            case "alias":
                endpoint.aliases.append(value)
            case "ip" | "ip6":
                setattr(endpoint, key, value)
            case "mac-address":
                endpoint.mac = value
            case _:
                raise InvalidArgument(
                    f"--network '{text}': unknown option {key}", hint="alias, ip, ip6, mac-address"
                )
    if not endpoint.network:
        raise InvalidArgument(f"--network '{text}': no name")
    return endpoint


def ports(texts: Sequence[str]) -> list[pb.Port]:
    """What ``-p`` asks for, in docker's customary forms. InvalidArgument."""
    return [port for text in texts for port in _ports(text)]


def _ports(text: str) -> Iterator[pb.Port]:
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    found = _PORT.fullmatch(text)
    if found is None:
        raise InvalidArgument(f"--publish '{text}': not understood", hint=_FORM)
    first, last = int(found["port"]), int(found["last"] or found["port"])
    host = int(found["host"] or 0)
    host_last = int(found["hostlast"] or host)
    protocol = found["protocol"] or "tcp"
    if protocol not in ("tcp", "udp", "sctp"):
        raise InvalidArgument(f"--publish '{text}': unknown protocol {protocol}", hint=_FORM)
    if not 0 < first <= last < 1 << 16 or not host <= host_last < 1 << 16:
        raise InvalidArgument(f"--publish '{text}': no such ports", hint=_FORM)
    single = first == last and host_last > host
    if host and not single and host_last - host != last - first and found["hostlast"]:
        raise InvalidArgument(f"--publish '{text}': the ranges differ in length", hint=_FORM)
    where = _address(text, found["ip6"] or found["bare6"] or found["ip"] or "")
    for step in range(last - first + 1):
        yield pb.Port(
            container=first + step,
            host=host + step if host else 0,
            host_last=host_last if single else 0,
            protocol=protocol,
            host_ip=where,
        )


def _address(text: str, address: str) -> str:
    if ":" in address:
        import ipaddress

        try:
            ipaddress.IPv6Address(address)
        except ValueError as error:
            problem = f"--publish '{text}': '{address}' is no address"
            raise InvalidArgument(problem, hint=_FORM) from error
    return address


def dns(options: Mapping[str, Any]) -> pb.Dns:
    """Servers, search domains and options."""
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    return pb.Dns(
        servers=options["dns"], search=options["dns_search"], options=options["dns_option"]
    )
