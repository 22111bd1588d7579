"""inspect: everything about containers in docker's form, with what only we have at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from corectl import output
from corectl.commands.listing import state
from corectl.configurations import container_config, host_config
from corectl.each import each
from corectl.published import exposed, published
from corectl.session import Session
from cored.errors import NotFound

if TYPE_CHECKING:
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

__all__ = ["inspect", "inspect_container"]

_NEVER = "0001-01-01T00:00:00Z"


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("-f", "--format", "form", default="", metavar="json|TEMPLATE", help="Go template.")
@click.option("-s", "--size", is_flag=True, help="As docker's: sizes of containers.")
@click.option(
    "--type",
    "kind",
    type=click.Choice(["container", "image", "volume", "network"]),
    help="Only such things.",
)
@click.pass_obj
def inspect(
    session: Session, names: tuple[str, ...], form: str, size: bool, kind: str | None
) -> int:
    """Show everything about containers, images, volumes and networks, as JSON."""
    found: list[dict[str, Any]] = []
    code = each(session, names, lambda name: found.append(_inspected(session, name, kind, size)))
    if found or not form:
        output.templated(form, found)
    return code


@click.command("inspect")
@click.argument("names", metavar="CONTAINER...", nargs=-1, required=True)
@click.option("-f", "--format", "form", default="", metavar="json|TEMPLATE", help="Go template.")
@click.option("-s", "--size", is_flag=True, help="How much they have written.")
@click.pass_obj
def inspect_container(session: Session, names: tuple[str, ...], form: str, size: bool) -> int:
    """Show everything about containers, as JSON."""
    found: list[dict[str, Any]] = []
    code = each(session, names, lambda name: found.append(_everything(session, name, size)))
    if found or not form:
        output.templated(form, found)
    return code


def _inspected(session: Session, name: str, kind: str | None, size: bool) -> dict[str, Any]:
    from corectl.commands.image_details import details
    from corectl.commands.networks import whole

    def volume() -> dict[str, Any]:
        one = session.volumes.inspect(name)
        return {
            "CreatedAt": output.iso(one.created_at.seconds, one.created_at.nanos),
            "Driver": one.driver,
            "Labels": dict(sorted(one.labels.items())) or None,
            "Mountpoint": one.mountpoint,
            "Name": one.name,
            "Options": dict(sorted(one.options.items())) or None,
            "Scope": "local",
        }

    ways: dict[str, Callable[[], dict[str, Any]]] = {
        "container": lambda: _everything(session, name, size),
        "image": lambda: details(session.workloads.inspect_image(name)),
        "volume": volume,
        "network": lambda: whole(session.networks.inspect(name)),
    }
    if kind is not None:
        return ways[kind]()
    for way in ways.values():
        try:
            return way()
        except NotFound:
            continue
    raise NotFound(f"'{name}': no container, image, volume or network has this name")


def _everything(session: Session, container: str, size: bool) -> dict[str, Any]:
    answer = session.workloads.inspect(container)
    one, config = answer.container, answer.config
    spec = json.loads(answer.spec) if answer.spec else {}
    found = {
        "Id": one.id,
        "Created": output.iso(one.created_at.seconds, one.created_at.nanos),
        "Path": one.command[0] if one.command else "",
        "Args": list(one.command[1:]),
        "State": _state(one),
        "Image": answer.image_id or one.image,
        **{
            key: _source(spec, path)
            for key, path in (
                ("ResolvConfPath", "/etc/resolv.conf"),
                ("HostnamePath", "/etc/hostname"),
                ("HostsPath", "/etc/hosts"),
            )
        },
        "LogPath": answer.log_path,
        "Name": f"/{one.name}",
        "RestartCount": one.restarts,
        "Driver": answer.snapshotter,
        "Platform": "linux",
        "MountLabel": spec.get("linux", {}).get("mountLabel", ""),
        "ProcessLabel": spec.get("process", {}).get("selinuxLabel", ""),
        "AppArmorProfile": spec.get("process", {}).get("apparmorProfile", ""),
        "ExecIDs": list(one.exec_ids) or None,
        "GraphDriver": {"Name": answer.snapshotter, "Data": None},
        "HostConfig": host_config(config, answer.runtime, spec),
        "Mounts": [_mount(point) for point in one.mounts],
        "Config": container_config(config, one, spec),
        "NetworkSettings": _networks(one),
    }
    if size:
        (sized,) = session.workloads.containers(everyone=True, filters=[f"id={one.id}"], size=True)
        found |= {"SizeRw": sized.size_written, "SizeRootFs": sized.size_total}
    return {**found, "SnapshotKey": answer.snapshot_key, "Spec": spec or None}


def _source(spec: dict[str, Any], target: str) -> str:
    """What of the host is mounted there."""
    found = (one["source"] for one in spec.get("mounts", ()) if one["destination"] == target)
    return next(found, "")


def _state(one: pb.Container) -> dict[str, Any]:
    alive = one.status in ("running", "paused", "restarting")
    found: dict[str, Any] = {
        "Status": state(one),
        "Running": alive,
        "Paused": one.status == "paused",
        "Restarting": one.status == "restarting",
        "OOMKilled": one.oom_killed,
        "Dead": False,
        "Pid": one.pid if one.status in ("running", "paused", "created") else 0,
        "ExitCode": one.exit_status,
        "Error": one.error,
        "StartedAt": output.iso(one.started_at.seconds, one.started_at.nanos) or _NEVER,
        "FinishedAt": output.iso(one.exited_at.seconds, one.exited_at.nanos) or _NEVER,
    }
    if one.HasField("health"):
        found["Health"] = {
            "Status": one.health.status,
            "FailingStreak": one.health.failing_streak,
            "Log": [
                {
                    "Start": output.iso(probe.started_at.seconds, probe.started_at.nanos),
                    "End": output.iso(probe.ended_at.seconds, probe.ended_at.nanos),
                    "ExitCode": probe.exit_code,
                    "Output": probe.output,
                }
                for probe in one.health.log
            ],
        }
    return found


def _mount(point: pb.MountPoint) -> dict[str, Any]:
    found = {
        "Type": point.type,
        **({"Name": point.name} if point.name else {}),
        "Source": point.source,
        "Destination": point.target,
        **({"Driver": point.driver} if point.driver else {}),
        "Mode": "ro" if point.read_only else "",
        "RW": not point.read_only,
        "Propagation": point.propagation,
    }
    return output.Fields(found, {"Name": "", "Driver": ""})


def _networks(one: pb.Container) -> dict[str, Any]:
    ports: dict[str, Any] = {}
    networks: dict[str, Any] = {}
    for connection in one.connections:
        plain, _, length = _first(connection.addresses, six=False).partition("/")
        plain6, _, length6 = _first(connection.addresses, six=True).partition("/")
        networks[connection.network] = {
            "IPAddress": plain,
            "IPPrefixLen": int(length or 0),
            "Gateway": _first(connection.gateways, six=False),
            "GlobalIPv6Address": plain6,
            "GlobalIPv6PrefixLen": int(length6 or 0),
            "IPv6Gateway": _first(connection.gateways, six=True),
            "MacAddress": connection.mac,
            "Aliases": list(connection.aliases) or None,
            "InterfaceName": connection.ifname,
        }
    for number, protocol in exposed(one):
        ports[f"{number}/{protocol}"] = None
    for port in published(one):
        key = f"{port.container}/{port.protocol}"
        there = {"HostIp": port.address, "HostPort": str(port.host)}
        ports[key] = [*(ports.get(key) or ()), there]
    first: dict[str, Any] = next(iter(networks.values()), {})
    return {
        "Ports": dict(sorted(ports.items())),
        "IPAddress": first.get("IPAddress", ""),
        "IPPrefixLen": first.get("IPPrefixLen", 0),
        "Gateway": first.get("Gateway", ""),
        "GlobalIPv6Address": first.get("GlobalIPv6Address", ""),
        "GlobalIPv6PrefixLen": first.get("GlobalIPv6PrefixLen", 0),
        "IPv6Gateway": first.get("IPv6Gateway", ""),
        "MacAddress": first.get("MacAddress", ""),
        "Networks": networks,
    }


def _first(addresses: Iterable[str], *, six: bool) -> str:
    """The first address of IPv6, or of IPv4; '' where there is none."""
    return next((one for one in addresses if (":" in one) == six), "")
