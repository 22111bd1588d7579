"""exec, attach, top, stats, events and cp: what corectl does with containers, by service."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import click

from corectl import output
from corectl.compose import labels
from corectl.compose.application import Application
from corectl.compose.existing import Replica, look
from corectl.times import stamp
from cored.errors import NotFound

__all__ = ["attach", "cp", "events", "exec_", "stats", "top"]

_index = click.option("--index", type=int, default=1, help="Which container of the service.")


def _one(application: Application, service: str, index: int) -> Replica:
    """The running container of a service with a number. NotFound."""
    name, project = application.found()
    if project is not None:
        project.chosen([service])
    for replica in look(application.session, name).of([service]):
        if replica.number == index and replica.alive:
            return replica
    raise NotFound(
        f"service '{service}': container {index} does not run", hint="corectl compose up -d"
    )


def _as_corectl(application: Application, command: click.Command, **given: Any) -> Any:
    """What the command of corectl does, with options of ours and otherwise as usual."""
    with click.Context(command, obj=application.session) as context:
        return context.invoke(command, **given)


@click.command("exec", context_settings={"allow_interspersed_args": False})
@click.argument("service")
@click.argument("args", metavar="COMMAND [ARG]...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("-d", "--detach", is_flag=True, help="Leave it alone.")
@click.option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Environment variable.")
@_index
@click.option("-T", "--no-tty", is_flag=True, help="Without a terminal.")
@click.option("-i", "--interactive", is_flag=True, hidden=True)
@click.option("-t", "--tty", is_flag=True, hidden=True)
@click.option("--privileged", is_flag=True, help="All capabilities.")
@click.option("-u", "--user", default="", help="User, by number or name.")
@click.option("-w", "--workdir", default="", help="Working directory.")
@click.pass_obj
def exec_(
    application: Application,
    /,
    service: str,
    args: tuple[str, ...],
    index: int,
    no_tty: bool,
    **options: Any,
) -> Any:
    """Run a command in a service's container; exits with its exit code.

    It has a terminal where we have one.
    """
    import sys

    from corectl.commands.execs import exec_ as execute

    terminal = sys.stdin.isatty() and sys.stdout.isatty() and not no_tty
    options |= {"tty": terminal and not options["detach"], "interactive": not options["detach"]}
    return _as_corectl(
        application,
        execute,
        container=_one(application, service, index).id,
        args=args,
        **options,
    )


@click.command()
@click.argument("service")
@_index
@click.option("--no-stdin", is_flag=True, help="Only look.")
@click.option("--sig-proxy/--no-sig-proxy", default=True, help="Pass signals on.")
@click.option("--detach-keys", default="", metavar="KEYS", help="Leave it with these keys.")
@click.pass_obj
def attach(application: Application, /, service: str, index: int, **options: Any) -> Any:
    """Join a service's container; exits with its exit code."""
    from corectl.commands.execs import attach as join

    container = _one(application, service, index).id
    return _as_corectl(application, join, container=container, **options)


def _running(application: Application, services: Sequence[str]) -> list[Replica]:
    name, project = application.found()
    if project is not None:
        project.chosen(services)
    existing = look(application.session, name)
    found = existing.of(services or {replica.service for replica in existing.replicas})
    return [replica for replica in found if replica.alive]


@click.command()
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
@click.pass_obj
def top(application: Application, services: Sequence[str]) -> None:
    """Show the processes of the containers."""
    for replica in _running(application, services):
        found = application.session.workloads.top(replica.id)
        click.echo(replica.name)
        output.table(list(found.titles), [list(row.cells) for row in found.rows])
        click.echo()


@click.command()
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
@click.option("--no-stream", is_flag=True, help="Once.")
@click.option("--no-trunc", is_flag=True, help="Whole ids.")
@output.template_option
@click.pass_obj
def stats(application: Application, /, services: Sequence[str], **options: Any) -> Any:
    """Show what the containers use, once a second."""
    from corectl.commands.watching import stats as usage

    ids = tuple(replica.id for replica in _running(application, services))
    if not ids:
        raise NotFound("no container of the project runs", hint="corectl compose up -d")
    return _as_corectl(application, usage, containers=ids, **options)


@click.command()
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each.")
@click.option("--since", default="", metavar="TIME", help="Also what happened since then.")
@click.option("--until", default="", metavar="TIME", help="And no longer than until then.")
@click.pass_obj
def events(
    application: Application, services: Sequence[str], as_json: bool, since: str, until: str
) -> None:
    """Show what happens to the containers, until Ctrl-C."""
    from cored._pb.cored.workloads.v1 import processes_pb2 as pb

    filters = [f"label={labels.PROJECT}={application.name()}", "type=container"]
    request = pb.EventsRequest(filters=filters, since=stamp(since), until=stamp(until))
    for one in application.session.workloads.events(request):
        attributes = dict(one.attributes)
        service = attributes.get(labels.SERVICE, "")
        if services and service not in services:
            continue
        moment = output.iso(one.time.seconds, one.time.nanos)
        if as_json:
            found = {
                "time": moment,
                "type": one.type,
                "service": service,
                "id": one.id,
                "action": one.action,
                "attributes": attributes,
            }
            click.echo(json.dumps(found))
        else:
            local = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.time.seconds))
            named = attributes.get("name", "")
            click.echo(f"{local} {one.type} {one.action} {one.id} (service={service} name={named})")


@click.command()
@click.argument("source")
@click.argument("target")
@_index
@click.option("-a", "--archive", is_flag=True, help="Keep owners.")
@click.option("-L", "--follow-link", is_flag=True, help="Copy what a link in SOURCE leads to.")
@click.pass_obj
def cp(application: Application, /, source: str, target: str, index: int, **options: Any) -> Any:
    """Copy files between a service's container (SERVICE:PATH) and here; - is a tar."""
    from corectl.commands.files import cp as copy

    def place(text: str) -> str:
        service, colon, path = text.partition(":")
        if not colon or "/" in service or service in ("", "."):
            return text
        return f"{_one(application, service, index).id}:{path}"

    return _as_corectl(application, copy, source=place(source), target=place(target), **options)
