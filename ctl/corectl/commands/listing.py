"""ps, logs and inspect."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from corectl import output
from corectl.each import each
from corectl.session import Session
from cored.errors import NotFound

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
@click.argument("names", metavar="CONTAINER|IMAGE...", nargs=-1, required=True)
@click.option("-f", "--format", "form", default="", metavar="json|TEMPLATE", help="Go template.")
@click.option("--type", "kind", type=click.Choice(["container", "image"]), help="Only such things.")
@click.pass_obj
def inspect(session: Session, names: tuple[str, ...], form: str, kind: str | None) -> int:
    """Show everything about containers, or images where no container has the name, as JSON."""
    found: list[dict[str, Any]] = []
    code = each(session, names, lambda name: found.append(_inspected(session, name, kind)))
    if found:
        output.templated(form, found)
    return code


def _inspected(session: Session, name: str, kind: str | None) -> dict[str, Any]:
    from corectl.commands.image_details import details

    if kind != "image":
        try:
            return _everything(session, name)
        except NotFound:
            if kind == "container":
                raise
    try:
        return details(session.workloads.inspect_image(name))
    except NotFound:
        if kind == "image":
            raise
        raise NotFound(f"'{name}': no container and no image has this name") from None


def _everything(session: Session, container: str) -> dict[str, Any]:
    # loads what no other command needs
    from google.protobuf.json_format import MessageToDict

    answer = session.workloads.inspect(container)
    return {
        **_as_dict(answer.container),
        "config": MessageToDict(answer.config, preserving_proto_field_name=True),
        "snapshotter": answer.snapshotter,
        "snapshot_key": answer.snapshot_key,
        "runtime": answer.runtime,
        "log_path": answer.log_path,
        "bundle": answer.bundle,
        "spec": json.loads(answer.spec) if answer.spec else None,
    }
