"""ps, ls, images, port and version."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

import cored
from corectl import output
from corectl.compose import labels
from corectl.compose.application import Application
from corectl.compose.existing import Replica, look, projects
from corectl.published import in_short, published
from cored.errors import NotFound

__all__ = ["images", "ls", "port", "ps", "version"]

_COLUMNS = {
    "Name": "NAME",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "Service": "SERVICE",
    "CreatedAt": "CREATED",
    "Status": "STATUS",
    "Ports": "PORTS",
}
_WORDS = {"stopped": "exited"}
_PROJECTS = {"Name": "NAME", "Status": "STATUS", "ConfigFiles": "CONFIG FILES"}
_IMAGES = {
    "ContainerName": "CONTAINER",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "ID": "IMAGE ID",
    "Size": "SIZE",
}


@click.command()
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
@click.option("-a", "--all", "everyone", is_flag=True, help="Also those that have ended.")
@click.option("-q", "--quiet", is_flag=True, help="Only ids.")
@click.option("--services", "names", is_flag=True, help="Only the services' names.")
@click.option("--status", multiple=True, help="Only those: running, paused, exited, created.")
@click.option("--filter", "filters", multiple=True, metavar="status=WORD", help="As --status.")
@click.option("--orphans/--no-orphans", default=True, help="Also what is in no file.")
@click.option("--no-trunc", is_flag=True, help="Whole commands.")
@output.template_option
@click.pass_obj
def ps(application: Application, /, services: Sequence[str], **options: Any) -> None:
    """List the project's containers."""
    name, project = application.found()
    if project is not None:
        project.chosen(services)
    wanted = {*options["status"]}
    for text in options["filters"]:
        key, _, value = text.partition("=")
        if key != "status":
            raise click.BadParameter(f"'{text}': only status=", param_hint="--filter")
        wanted.add(value)
    existing = look(application.session, name)
    known = set(project.services) | set(project.disabled) if project is not None else set()
    found = [
        replica
        for replica in existing.of(services or {r.service for r in existing.replicas}, oneoff=True)
        if (options["orphans"] or project is None or replica.service in known)
        and (word(replica) in wanted if wanted else options["everyone"] or replica.alive)
    ]
    if options["quiet"]:
        lines = [replica.id for replica in found]
    elif options["names"]:
        lines = sorted({replica.service for replica in found})
    else:
        records = [_record(replica, whole=options["no_trunc"]) for replica in found]
        output.listing(options["form"], _COLUMNS, records)
        return
    for line in lines:
        click.echo(line)


def word(replica: Replica) -> str:
    """docker's word for how a container is."""
    return _WORDS.get(replica.status, replica.status)


def _record(replica: Replica, *, whole: bool) -> dict[str, Any]:
    record = replica.record
    command = " ".join(record.command)
    if len(command) > 20 and not whole:
        command = f"{command[:19]}…"
    return {
        "ID": replica.id,
        "Name": replica.name,
        "Image": output.familiar(record.image),
        "Command": f'"{command}"',
        "Project": record.labels[labels.PROJECT],
        "Service": replica.service,
        "CreatedAt": f"{output.age(record.created_at.seconds)} ago",
        "Created": record.created_at.seconds,
        "State": word(replica),
        "Status": _status(replica),
        "Health": replica.health,
        "ExitCode": replica.exit_status,
        "Labels": dict(record.labels),
        "Ports": in_short(record),
        "Publishers": [
            {
                "URL": one.address,
                "TargetPort": one.container,
                "PublishedPort": one.host,
                "Protocol": one.protocol,
            }
            for one in published(record)
        ],
    }


def _status(replica: Replica) -> str:
    record = replica.record
    if replica.status == "running":
        health = f" ({replica.health})" if replica.health else ""
        return f"Up {output.age(record.started_at.seconds)}{health}"
    if replica.status == "stopped":
        return f"Exited ({replica.exit_status}) {output.age(record.exited_at.seconds)} ago"
    return replica.status.capitalize()


def _listing(form: str, columns: Mapping[str, str], records: Sequence[Mapping[str, str]]) -> None:
    """As others list, but in JSON one array, as docker compose has it here."""
    if form == "json":
        click.echo(json.dumps(records))
    else:
        output.listing(form, columns, records)


@click.command()
@click.option("-a", "--all", "everyone", is_flag=True, help="Also those that have ended.")
@click.option("-q", "--quiet", is_flag=True, help="Only names.")
@output.template_option
@click.pass_obj
def ls(application: Application, everyone: bool, quiet: bool, form: str) -> None:
    """List projects."""
    records = []
    for name, replicas in sorted(projects(application.session).items()):
        if not everyone and not any(replica.alive for replica in replicas):
            continue
        counts: dict[str, int] = {}
        for replica in replicas:
            counts[word(replica)] = counts.get(word(replica), 0) + 1
        records.append(
            {
                "Name": name,
                "Status": ", ".join(f"{key}({n})" for key, n in sorted(counts.items())),
                "ConfigFiles": replicas[0].record.labels.get(labels.FILES, ""),
            }
        )
    if quiet:
        for record in records:
            click.echo(record["Name"])
    else:
        _listing(form, _PROJECTS, records)


@click.command()
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
@click.option("-q", "--quiet", is_flag=True, help="Only ids.")
@output.template_option
@click.pass_obj
def images(application: Application, services: Sequence[str], quiet: bool, form: str) -> None:
    """List the images of the project's containers."""
    existing = look(application.session, application.name())
    there = {image.name: image for image in application.session.workloads.images()}
    records = []
    for replica in existing.of(services or {r.service for r in existing.replicas}):
        image = there.get(replica.record.image)
        repository, _, tag = output.familiar(replica.record.image).rpartition(":")
        records.append(
            {
                "ContainerName": replica.name,
                "Repository": repository,
                "Tag": tag,
                "ID": image.config_digest.removeprefix("sha256:")[:12] if image else "",
                "Size": output.size(image.size) if image else "",
            }
        )
    if quiet:
        for line in dict.fromkeys(record["ID"] for record in records):
            click.echo(line)
    else:
        _listing(form, _IMAGES, records)


@click.command()
@click.argument("service")
@click.argument("private", metavar="PORT")
@click.option("--protocol", default="tcp", help="tcp or udp.")
@click.option("--index", type=int, default=1, help="Which container of the service.")
@click.pass_obj
def port(application: Application, service: str, private: str, protocol: str, index: int) -> None:
    """Show where a service's port is published."""
    number, _, named = private.partition("/")
    for replica in look(application.session, application.name()).of([service]):
        if replica.number != index:
            continue
        for one in published(replica.record):
            if str(one.container) == number and one.protocol == (named or protocol):
                click.echo(one.place)
                return
    raise NotFound(f"service '{service}': port {private}: is not published by container {index}")


@click.command()
@click.option("--short", is_flag=True, help="Only the number.")
@click.option("-f", "--format", "form", type=click.Choice(["pretty", "json"]), default="pretty")
@click.pass_obj
def version(application: Application, short: bool, form: str) -> None:
    """Show the version."""
    if form == "json":
        click.echo(f'{{"version":"{cored.__version__}"}}')
    else:
        click.echo(cored.__version__ if short else f"corectl compose {cored.__version__}")
