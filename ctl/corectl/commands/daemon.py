"""version and plugins: which daemon this is, and what is loaded."""

from __future__ import annotations

from typing import Any

import click

import cored
from corectl import output
from corectl.session import Session

__all__ = ["plugins", "version"]

_PATIENCE = 10.0


@click.command()
@click.option("-f", "--format", "form", default="", metavar="json|TEMPLATE", help="Go template.")
@click.pass_obj
def version(session: Session, form: str) -> None:
    """Show the versions of corectl and the daemon."""
    if form in ("", "table"):
        click.echo(f"corectl  {cored.__version__}")
    from google.protobuf.empty_pb2 import Empty

    from cored._pb.containerd.services.version.v1.version_pb2 import VersionResponse

    answer = session.channel.unary(
        "/containerd.services.version.v1.Version/Version",
        Empty(),
        VersionResponse,
        timeout=_PATIENCE,
    )
    if form in ("", "table"):
        click.echo(f"cored    {answer.version} {answer.revision}".rstrip())
        return
    record = _versions(session, answer.version, answer.revision)
    if form == "json":
        output.as_json(record)
    else:
        output.listing(form, {}, [record])


def _versions(session: Session, version: str, revision: str) -> dict[str, Any]:
    """By docker's names, and by ours."""
    from cored.client.system import System
    from cored.oci.platforms import host

    here, there = host(), System(session.channel).info()
    client = {"Version": cored.__version__, "Os": here.os, "Arch": here.architecture}
    machines = {"x86_64": "amd64", "aarch64": "arm64"}
    server = {
        "Version": there.version,
        "GitCommit": revision,
        "Os": "linux",
        "Arch": machines.get(there.architecture, there.architecture),
        "KernelVersion": there.kernel,
    }
    engine = {"Name": "Engine", "Version": there.version, "Details": server}
    return {
        "Client": client,
        "Server": {**server, "Components": [engine]},
        "corectl": {"version": cored.__version__},
        "cored": {"version": version, "revision": revision},
    }


@click.command()
@click.argument("filters", nargs=-1)
@output.choice
@click.pass_obj
def plugins(session: Session, filters: tuple[str, ...], form: str) -> None:
    """List the daemon's plugins and how they fare.

    FILTERS are as containerd's: type==io.containerd.snapshotter.v1
    """
    from cored._pb.containerd.services.introspection.v1 import introspection_pb2 as pb

    answer = session.channel.unary(
        "/containerd.services.introspection.v1.Introspection/Plugins",
        pb.PluginsRequest(filters=filters),
        pb.PluginsResponse,
    )
    if form == "json":
        output.as_json([_as_dict(plugin) for plugin in answer.plugins])
        return
    rows = [(p.type, p.id, _platforms(p) or "-", _state(p)) for p in answer.plugins]
    output.table(("TYPE", "ID", "PLATFORMS", "STATUS"), rows)


def _platforms(plugin: Any) -> str:
    return ",".join(
        "/".join(part for part in (p.os, p.architecture, p.variant) if part)
        for p in plugin.platforms
    )


def _state(plugin: Any) -> str:
    if not plugin.HasField("init_err"):
        return "ok"
    return f"error: {' '.join(plugin.init_err.message.split())}"


def _as_dict(plugin: Any) -> dict[str, Any]:
    return {
        "type": plugin.type,
        "id": plugin.id,
        "platforms": _platforms(plugin).split(",") if plugin.platforms else [],
        "capabilities": list(plugin.capabilities),
        "exports": dict(plugin.exports),
        "requires": list(plugin.requires),
        "error": plugin.init_err.message if plugin.HasField("init_err") else None,
    }
