"""ps, logs and inspect."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from corectl import output
from corectl.each import each
from corectl.session import Session

if TYPE_CHECKING:
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

__all__ = ["inspect", "logs", "ps"]

_COMMAND_WIDTH = 24


@click.command()
@click.option("-a", "--all", "everyone", is_flag=True, help="Also those that do not run.")
@click.option("-q", "--quiet", is_flag=True, help="Only ids.")
@output.choice
@click.pass_obj
def ps(session: Session, everyone: bool, quiet: bool, form: str) -> None:
    """List containers."""
    found = session.workloads.containers(everyone=everyone)
    found.sort(key=lambda one: (one.created_at.seconds, one.created_at.nanos), reverse=True)
    if quiet:
        for one in found:
            click.echo(one.id)
    elif form == "json":
        output.as_json([_as_dict(one) for one in found])
    else:
        rows = [
            (
                output.digest(one.id),
                one.name,
                one.image,
                _command(one.command),
                f"{output.age(one.created_at.seconds)} ago",
                _status(one),
            )
            for one in found
        ]
        output.table(("ID", "NAME", "IMAGE", "COMMAND", "CREATED", "STATUS"), rows)


def _command(words: Any) -> str:
    text = " ".join(" ".join(words).split())
    return text if len(text) <= _COMMAND_WIDTH else f"{text[: _COMMAND_WIDTH - 1]}…"


def _status(one: pb.Container) -> str:
    if one.error:
        return f"{one.status}: {' '.join(one.error.split())}"
    match one.status:
        case "stopped":
            return f"exited ({one.exit_status}) {output.age(one.exited_at.seconds)} ago"
        case "running" | "paused":
            return f"{one.status} {output.age(one.started_at.seconds)}"
        case other:
            return str(other)


def _as_dict(one: pb.Container) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "image": one.image,
        "command": list(one.command),
        "status": one.status,
        "pid": one.pid,
        "exit_status": one.exit_status,
        "created_at": output.iso(one.created_at.seconds, one.created_at.nanos),
        "started_at": output.iso(one.started_at.seconds, one.started_at.nanos),
        "exited_at": output.iso(one.exited_at.seconds, one.exited_at.nanos),
        "labels": dict(one.labels),
        "error": one.error,
    }


@click.command()
@click.argument("container")
@click.option("-f", "--follow", is_flag=True, help="Stay until it ends.")
@click.option("-n", "--tail", default="all", metavar="N|all", help="Only the last N lines.")
@click.option("-t", "--timestamps", is_flag=True, help="When each was written.")
@click.pass_obj
def logs(session: Session, container: str, follow: bool, tail: str, timestamps: bool) -> None:
    """Show what a container wrote; each stream goes to ours of the same name."""
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    if tail != "all" and not tail.isdecimal():
        raise click.BadParameter(f"'{tail}' is neither a number nor all", param_hint="--tail")
    request = pb.LogsRequest(
        container=container, follow=follow, tail=-1 if tail == "all" else int(tail)
    )
    fresh = {"stdout": True, "stderr": True}
    for record in session.workloads.logs(request):
        stream = sys.stderr.buffer if record.stream == "stderr" else sys.stdout.buffer
        data = record.data
        if timestamps and fresh.get(record.stream, True):
            data = f"{output.iso(record.time.seconds, record.time.nanos)} ".encode() + data
        fresh[record.stream] = record.data.endswith(b"\n")
        stream.write(data)
        if follow:
            stream.flush()


@click.command()
@click.argument("containers", metavar="CONTAINER...", nargs=-1, required=True)
@click.pass_obj
def inspect(session: Session, containers: tuple[str, ...]) -> int:
    """Show everything about containers, as JSON."""
    found: list[dict[str, Any]] = []
    code = each(session, containers, lambda c: found.append(_everything(session, c)))
    if found:
        output.as_json(found)
    return code


def _everything(session: Session, container: str) -> dict[str, Any]:
    # loads what no other command needs
    from google.protobuf.json_format import MessageToDict

    from corectl.commands.networks import address

    answer = session.workloads.inspect(container)
    return {
        **_as_dict(answer.container),
        "config": MessageToDict(answer.config, preserving_proto_field_name=True),
        "networks": {
            one.network: {
                "interface": one.ifname,
                "addresses": list(one.addresses),
                "gateways": list(one.gateways),
                "mac": one.mac,
                "aliases": list(one.aliases),
            }
            for one in answer.container.connections
        },
        "ports": [
            {"container": f"{port.container}/{port.protocol}", "host": address(port)}
            for one in answer.container.connections
            for port in one.ports
        ],
        "snapshotter": answer.snapshotter,
        "snapshot_key": answer.snapshot_key,
        "runtime": answer.runtime,
        "log_path": answer.log_path,
        "bundle": answer.bundle,
        "spec": json.loads(answer.spec) if answer.spec else None,
    }
