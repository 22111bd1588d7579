"""start, stop, restart, kill, rm, pause, unpause and wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from corectl.commands.lifecycle import signal_number
from corectl.compose.application import Application
from corectl.compose.applying import apply, changing, store
from corectl.compose.existing import Replica, look
from corectl.compose.materials import materials
from corectl.compose.preparing import Preparation
from corectl.compose.project import Project
from corectl.compose.removal import plan_stop
from corectl.compose.steps import (
    CONDITIONS,
    Await,
    Kill,
    Plan,
    RemoveContainer,
    Restart,
    StartContainer,
)
from cored.errors import NotFound

__all__ = ["kill", "pause", "restart", "rm", "start", "stop", "unpause", "wait"]

_services = click.argument("services", nargs=-1, metavar="[SERVICE...]")
_timeout = click.option("-t", "--timeout", type=int, default=None, help="Seconds until SIGKILL.")


def _chosen(
    application: Application, services: Sequence[str]
) -> tuple[str, Project | None, list[Replica]]:
    """The containers of some services, or all, of the project. NotFound."""
    name, project = application.found()
    existing = look(application.session, name)
    if project is not None:
        project.chosen(services)
        known = services or [*project.services, *project.disabled]
        return name, project, existing.of(known)
    found = existing.of(services or {r.service for r in existing.replicas})
    return name, None, found


@click.command()
@_services
@click.option("--wait", is_flag=True, help="Until all run or are healthy.")
@click.pass_obj
def start(application: Application, services: Sequence[str], wait: bool) -> None:
    """Start containers that are there."""
    name, project, replicas = _chosen(application, services)
    if not replicas:
        raise NotFound(f"project '{name}': has no containers", hint="corectl compose up")
    with changing(application, name):
        first = {} if project is None else _preparations(application, project, replicas)
        apply(application, _starts(replicas, first, wait=wait), project)


def _preparations(
    application: Application, project: Project, replicas: Sequence[Replica]
) -> dict[str, Preparation]:
    """By service, what goes before containers that never ran."""
    place = store(application, project.name)
    return {
        name: Preparation(
            project,
            name,
            list(materials(project, name, place)),
            begun=any(r.service == name and r.status != "created" for r in replicas),
        )
        for name in {r.service for r in replicas} & project.services.keys()
    }


def _starts(replicas: Sequence[Replica], first: Mapping[str, Preparation], *, wait: bool) -> Plan:
    """Those that do not run, after those that they depend on."""
    plan = Plan()
    begun: dict[str, list[int]] = {}
    left = {r.service for r in replicas}
    while left:
        free = [
            service
            for service in sorted(left)
            if not _needs(replicas, service).keys() & (left - {service})
        ] or sorted(left)
        for service in free:
            after: list[int] = []
            for need, condition in _needs(replicas, service).items():
                after += begun.get(need, ())
                if word := CONDITIONS.get(condition):
                    after += [
                        plan.add(Await(r.name, word), begun.get(need, ()))
                        for r in replicas
                        if r.service == need
                    ]
            begun[service] = []
            for replica in replicas:
                if replica.service != service or replica.alive:
                    continue
                before = after
                if replica.status == "created" and service in first:
                    before = first[service].add(plan, replica.number, after)
                begun[service].append(plan.add(StartContainer(replica.name, service), before))
        left -= set(free)
    if wait:
        for replica in replicas:
            plan.add(Await(replica.name, "ready"), begun[replica.service])
    return plan


def _needs(replicas: Sequence[Replica], service: str) -> dict[str, str]:
    return {need: how for r in replicas if r.service == service for need, how in r.needs.items()}


@click.command()
@_services
@_timeout
@click.pass_obj
def stop(application: Application, services: Sequence[str], timeout: int | None) -> None:
    """Stop containers, those that depend on others first."""
    name, project, replicas = _chosen(application, services)
    with changing(application, name):
        apply(application, plan_stop(replicas, timeout), project)


@click.command()
@_services
@_timeout
@click.option("--no-deps", is_flag=True, help="Accepted; nothing else is restarted.")
@click.pass_obj
def restart(
    application: Application, services: Sequence[str], timeout: int | None, no_deps: bool
) -> None:
    """Stop containers and start them again."""
    name, project, replicas = _chosen(application, services)
    plan = Plan()
    for replica in replicas:
        plan.add(Restart(replica.name, replica.service, timeout))
    with changing(application, name):
        apply(application, plan, project)


@click.command()
@_services
@click.option("-s", "--signal", default="KILL", show_default=True, help="Name or number.")
@click.option("--remove-orphans", is_flag=True, hidden=True)
@click.pass_obj
def kill(
    application: Application, services: Sequence[str], signal: str, remove_orphans: bool
) -> None:
    """Send containers a signal."""
    plan = Plan()
    number = signal_number(signal)
    for replica in _chosen(application, services)[2]:
        if replica.alive:
            plan.add(Kill(replica.name, number))
    apply(application, plan)


@click.command()
@_services
@click.option("-f", "--force", is_flag=True, help="Without asking.")
@click.option("-s", "--stop", "stopping", is_flag=True, help="Stop those that run first.")
@click.option("-v", "--volumes", is_flag=True, help="With their anonymous volumes.")
@click.pass_obj
def rm(
    application: Application, services: Sequence[str], force: bool, stopping: bool, volumes: bool
) -> None:
    """Remove containers that do not run."""
    name, project, replicas = _chosen(application, services)
    going = [replica for replica in replicas if stopping or not replica.alive]
    if not going:
        click.echo("No stopped containers", err=True)
        return
    if not force and not application.dry_run:
        click.confirm(f"Going to remove {', '.join(r.name for r in going)}", abort=True)
    with changing(application, name):
        if stopping:
            apply(application, plan_stop(going, None), project)
        plan = Plan()
        for replica in going:
            plan.add(RemoveContainer(replica.name, volumes))
        apply(application, plan)


@click.command()
@click.argument("services", nargs=-1, required=True, metavar="SERVICE...")
@click.option("--down-project", is_flag=True, help="Take the project down afterwards.")
@click.pass_context
def wait(context: click.Context, services: Sequence[str], down_project: bool) -> int:
    """Wait until the first container of the services ends; exits with its code."""
    from corectl.compose.commands.down import down
    from corectl.compose.following import Follower, Printer

    application = context.obj
    assert isinstance(application, Application)
    replicas = _chosen(application, services)[2]
    if not replicas:
        raise NotFound(f"services {', '.join(services)}: have no containers")
    follower = Follower(application.session.workloads, Printer((), coloured=False))
    for replica in replicas:
        follower.watch(replica)
    code = follower.ends.get().code
    click.echo(str(code))
    if down_project:
        context.invoke(down)
    return code or 0


@click.command()
@_services
@click.pass_obj
def pause(application: Application, services: Sequence[str]) -> None:
    """Suspend containers."""
    for replica in _chosen(application, services)[2]:
        if replica.status == "running":
            application.session.workloads.pause(replica.id)
            click.echo(replica.name)


@click.command()
@_services
@click.pass_obj
def unpause(application: Application, services: Sequence[str]) -> None:
    """Let suspended containers go on."""
    for replica in _chosen(application, services)[2]:
        if replica.status == "paused":
            application.session.workloads.unpause(replica.id)
            click.echo(replica.name)
