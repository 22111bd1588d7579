"""image inspect and history: one image from inside, in docker's words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from corectl import output
from corectl.each import each
from corectl.session import Session

if TYPE_CHECKING:
    from cored._pb.cored.workloads.v1 import images_pb2

__all__ = ["details", "history", "inspect"]

_WIDTH = 45
_COLUMNS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}


# what templates find in every image's configuration
_UNSET = {
    **dict.fromkeys(("User", "WorkingDir", "Hostname", "Domainname", "Image", "StopSignal"), ""),
    **dict.fromkeys(("Tty", "OpenStdin", "StdinOnce", "AttachStdin", "AttachStdout"), False),
    "AttachStderr": False,
    **dict.fromkeys(("Cmd", "Entrypoint", "Env", "ExposedPorts", "Healthcheck", "Labels"), None),
    **dict.fromkeys(("OnBuild", "Shell", "Volumes"), None),
}


@click.command()
@click.argument("references", metavar="IMAGE...", nargs=-1, required=True)
@click.option("-f", "--format", "form", default="", metavar="json|TEMPLATE", help="Go template.")
@click.option("--platform", default="", help="os/arch[/variant] of the image.")
@click.pass_obj
def inspect(session: Session, references: tuple[str, ...], form: str, platform: str) -> int:
    """Show everything about images, as JSON."""
    found: list[dict[str, Any]] = []
    code = each(
        session,
        references,
        lambda name: found.append(details(session.workloads.inspect_image(name, platform))),
    )
    if found or not form:
        output.templated(form, found)
    return code


def details(answer: images_pb2.InspectImageResponse) -> dict[str, Any]:
    """An image as docker's inspect shows one."""
    config = json.loads(answer.config)
    names = [name for name in answer.names if output.image_name(name)[0] != output.NONE]
    repositories = dict.fromkeys(output.image_name(name)[0] for name in names)
    size = sum(layer.unpacked_size or layer.size for layer in answer.layers)
    found = {
        "Id": answer.config_digest,
        "RepoTags": [output.familiar(name) for name in names if "@" not in name],
        "RepoDigests": [f"{name}@{answer.target.digest}" for name in repositories],
        "Parent": "",
        "Comment": _last(config).get("comment", ""),
        "Created": config.get("created", ""),
        "Author": config.get("author", ""),
        "Config": output.Fields(config.get("config") or {}, _UNSET),
        "Architecture": config.get("architecture", ""),
        "Variant": config.get("variant", ""),
        "Os": config.get("os", ""),
        "Size": size,
        "RootFS": {"Type": "layers", "Layers": [layer.diff_id for layer in answer.layers]},
        "Metadata": {"LastTagTime": output.iso(answer.created_at.seconds, answer.created_at.nanos)},
        "Descriptor": _descriptor(answer.target),
        "Manifest": _descriptor(answer.manifest),
        "Platforms": list(answer.platforms),
    }
    return output.Fields(found, {"VirtualSize": size, "DockerVersion": "", "Container": ""})


def _descriptor(message: Any) -> dict[str, Any]:
    return {"mediaType": message.media_type, "digest": message.digest, "size": message.size}


def _last(config: dict[str, Any]) -> dict[str, Any]:
    steps = config.get("history") or [{}]
    return steps[-1] if isinstance(steps[-1], dict) else {}


@click.command()
@click.argument("reference", metavar="IMAGE")
@click.option("-H", "--human/--no-human", default=True, help="Sizes and times for people.")
@click.option("--no-trunc", is_flag=True, help="Whole ids and commands.")
@click.option("-q", "--quiet", is_flag=True, help="Only ids.")
@click.option("--platform", default="", help="os/arch[/variant] of the image.")
@output.template_option
@click.pass_obj
def history(
    session: Session,
    reference: str,
    human: bool,
    no_trunc: bool,
    quiet: bool,
    platform: str,
    form: str,
) -> None:
    """Show the steps that made an image, the last one first."""
    answer = session.workloads.inspect_image(reference, platform)
    records = list(reversed(_steps(answer, human=human, whole=no_trunc)))
    if records:
        id = answer.config_digest
        records[0]["ID"] = id if no_trunc else output.digest(id)
        tags = [output.familiar(name) for name in answer.names if "@" not in name]
        records[0]["Tags"] = ", ".join(tags)
    if quiet and not form:
        for record in records:
            click.echo(record["ID"])
    else:
        output.listing(form, _COLUMNS, records, headings={"CreatedAt": "CREATED AT"})


def _steps(
    answer: images_pb2.InspectImageResponse, *, human: bool, whole: bool
) -> list[dict[str, Any]]:
    """The config's history, each step that made a layer with that layer's size."""
    config = json.loads(answer.config)
    layers = list(answer.layers)
    steps = config.get("history") or [{} for _ in layers]
    records = []
    for step in steps:
        size = 0
        if not step.get("empty_layer") and layers:
            layer = layers.pop(0)
            size = layer.unpacked_size or layer.size
        created = str(step.get("created", ""))
        moment = int(output.instant(created)) if created else 0
        since = f"{output.age(moment)} ago" if moment > 0 else "N/A"
        records.append(
            {
                "ID": "<missing>",
                "CreatedSince": since if human else created,
                "CreatedAt": created,
                "CreatedBy": _shortened(" ".join(str(step.get("created_by", "")).split()), whole),
                "Size": output.size(size).replace(" ", "") if human else str(size),
                "Comment": str(step.get("comment", "")),
                "Tags": "",
            }
        )
    return records


def _shortened(text: str, whole: bool) -> str:
    return text if whole or len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"
