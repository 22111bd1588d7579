"""run: one command in a new container of a service."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from corectl.compose import labels
from corectl.compose.application import Application
from corectl.compose.applying import bring_up, prepare_images, store
from corectl.compose.configuration import own_labels, request
from corectl.compose.making import make, write
from corectl.compose.materials import Material, materials
from corectl.compose.model import Service
from corectl.compose.planning import UpOptions
from corectl.compose.printing import image_of, service_hash
from corectl.compose.project import Project
from corectl.options import environment
from cored.errors import NotFound

if TYPE_CHECKING:
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

__all__ = ["run"]


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("service")
@click.argument("args", metavar="[COMMAND [ARG]...]", nargs=-1, type=click.UNPROCESSED)
@click.option("-d", "--detach", is_flag=True, help="Print its name and leave it alone.")
@click.option("--name", default="", help="Name; made up when not given.")
@click.option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Environment variable.")
@click.option("-v", "--volume", multiple=True, metavar="SRC:DST[:ro]", help="Bind mount.")
@click.option("-p", "--publish", multiple=True, metavar="[[IP:]HOST:]PORT", help="Publish a port.")
@click.option("-P", "--service-ports", is_flag=True, help="Publish the service's ports.")
@click.option("--use-aliases", is_flag=True, help="With the service's names in its networks.")
@click.option("-l", "--label", multiple=True, metavar="NAME=VALUE", help="Label.")
@click.option("-w", "--workdir", default="", help="Working directory.")
@click.option("-u", "--user", default="", help="User, by number or name.")
@click.option("--entrypoint", default=None, help="In place of the entrypoint.")
@click.option("--cap-add", multiple=True, help="Add a capability.")
@click.option("--cap-drop", multiple=True, help="Drop a capability.")
@click.option("--no-deps", is_flag=True, help="Without what the service depends on.")
@click.option("--build", is_flag=True, help="Build the image first.")
@click.option("--pull", default="", help="When to fetch the image.")
@click.option("--quiet-pull", is_flag=True, hidden=True)
@click.option("--remove-orphans", is_flag=True, help="Remove what is in no file.")
@click.option("--rm", "auto_remove", is_flag=True, help="Remove it when it ends.")
@click.option("-i", "--interactive/--no-interactive", default=True, help="Keep input open.")
@click.option("-T", "--no-tty", is_flag=True, help="Without a terminal.")
@click.pass_obj
def run(application: Application, /, service: str, args: Sequence[str], **options: Any) -> int:
    """Run a command in a new container of a service; exits with its exit code."""
    project = application.project([service]).chosen([service])
    _bring_up_needed(application, project, service, options)
    only = project.chosen([service], dependencies=False)
    digests = prepare_images(application, only, pull=options["pull"], build=options["build"])
    if application.dry_run:
        return 0
    files = list(materials(project, service, store(application, project.name)))
    config = _config(application, project, service, digests, options, files)
    if args:
        config.args[:] = args
    return _foreground(application, config, files, detach=options["detach"])


def _bring_up_needed(
    application: Application, project: Project, service: str, options: dict[str, Any]
) -> None:
    """What it depends on, and its networks."""
    needed = {name: one for name, one in project.services.items() if name != service}
    if options["no_deps"]:
        needed = {}
    own = replace(project.services[service], depends_on={}, links=())
    own = replace(own, network_mode=_mode(own), volumes_from=())
    quiet = replace(project, services={**needed, service: own})
    up = UpOptions(
        scale=_unchanged(application, project),
        remove_orphans=options["remove_orphans"],
        untouched=service,
    )
    bring_up(application, quiet, up, may_build=not options["no_deps"])


def _mode(service: Service) -> str:
    return "none" if ":" in service.network_mode else service.network_mode


def _unchanged(application: Application, project: Project) -> dict[str, int]:
    from corectl.compose.existing import look

    found: dict[str, int] = {}
    for replica in look(application.session, project.name).of(project.services):
        found[replica.service] = max(found.get(replica.service, 0), replica.number)
    return found


def _config(
    application: Application,
    project: Project,
    name: str,
    digests: dict[str, str],
    options: dict[str, Any],
    files: list[Material],
) -> pb.ContainerConfig:
    service = project.services[name]
    write(application.session, store(application, project.name), files)
    digest = digests.get(image_of(project, name), "")
    marks = own_labels(project, name, 1, service_hash(project, name), digest)
    marks[labels.ONEOFF] = "True"
    changed = _changed(service, options)
    inner = replace(project, services={**project.services, name: changed})
    config = request(inner, name, 1, marks, files)
    config.name = options["name"] or f"{project.name}-{name}-run-{secrets.token_hex(6)}"
    config.auto_remove = options["auto_remove"]
    if not options["use_aliases"]:
        for endpoint in config.endpoints:
            del endpoint.aliases[:]
    config.env.extend(environment(options["env"], os.environ))
    for text in options["label"]:
        key, _, value = text.partition("=")
        config.labels[key] = value
    config.terminal = not options["no_tty"] and not options["detach"] and sys.stdin.isatty()
    config.open_stdin = options["interactive"] and not options["detach"]
    return config


def _changed(service: Service, options: dict[str, Any]) -> Service:
    from corectl.compose import forms, shorthand
    from corectl.compose.decoding import decode
    from corectl.compose.paths import absolute
    from corectl.compose.tree import Place, graft

    changes: dict[str, Any] = {"container_name": "", "restart": ""}
    if not options["service_ports"]:
        changes["ports"] = ()
    given = {"ports": list(options["publish"]), "volumes": list(options["volume"])}
    node = shorthand.lengthen_service(graft(given, Place("command line", 1)), "run")
    more = decode(Service, node, "run")
    changes["ports"] = (*changes.get("ports", service.ports), *more.ports)
    here = tuple(
        replace(one, source=absolute(one.source, Path.cwd())) if one.type == "bind" else one
        for one in more.volumes
    )
    changes["volumes"] = (*service.volumes, *here)
    if options["entrypoint"] is not None:
        node = forms.words(graft(options["entrypoint"], Place("--entrypoint", 1)), "run")
        changes["entrypoint"] = tuple(str(item.value) for item in node.items)
        changes["command"] = None
    for key, field in (("workdir", "working_dir"), ("user", "user")):
        if options[key]:
            changes[field] = options[key]
    for key in ("cap_add", "cap_drop"):
        if options[key]:
            changes[key] = (*getattr(service, key), *options[key])
    return replace(service, **changes)


def _foreground(
    application: Application, config: pb.ContainerConfig, files: list[Material], *, detach: bool
) -> int:
    session = application.session
    workloads = session.workloads
    if detach:
        made = make(session, config, files)
        workloads.start(made.id)
        click.echo(made.name)
        return 0
    from corectl.attachment import Attachment
    from corectl.pipes import pipes

    with pipes(session, stdin=config.open_stdin, terminal=config.terminal) as ends:
        made = make(session, config, files, ends.stdio)
        attachment = Attachment(
            workloads, made.id, made.name, ends.ours, terminal=config.terminal,
            raw=config.terminal, remote=session.remote,
        )  # fmt: skip
        ends.watch(attachment.cut)

        def start() -> int:
            try:
                return workloads.start(made.id)
            except NotFound:
                raise
            except Exception:
                if config.auto_remove:
                    workloads.remove(made.id, force=True)
                raise

        return attachment.run(start, wait_first=True)
