"""down: to nothing."""

from __future__ import annotations

from collections.abc import Sequence

import click

from corectl.compose.application import Application
from corectl.compose.applying import apply, changing, store
from corectl.compose.existing import Existing, Replica, look
from corectl.compose.printing import image_of
from corectl.compose.project import Project
from corectl.compose.removal import DownOptions, plan_down

__all__ = ["down"]


@click.command()
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
@click.option("-v", "--volumes", is_flag=True, help="Also volumes of the project.")
@click.option("--rmi", type=click.Choice(["all", "local"]), help="Also images.")
@click.option("--remove-orphans", is_flag=True, help="Also containers that are in no file.")
@click.option("-t", "--timeout", type=int, default=None, help="Seconds until SIGKILL.")
@click.pass_obj
def down(
    application: Application,
    services: Sequence[str],
    volumes: bool,
    rmi: str | None,
    remove_orphans: bool,
    timeout: int | None,
) -> None:
    """Stop and remove containers and networks; it can be repeated, and done halfway."""
    name, project = application.found()
    with changing(application, name):
        existing = look(application.session, name)
        everything = not services
        replicas = _replicas(existing, project, services, remove_orphans)
        options = DownOptions(
            timeout=timeout,
            volumes=_volumes(existing, project) if volumes else (),
            anonymous=volumes,
            images=_images(project, existing, rmi) if rmi else (),
        )
        plan = plan_down(replicas, existing, options, everything=everything)
        apply(application, plan, None if application.dry_run else project)
        if everything and not application.dry_run:
            store(application, name).remove()


def _replicas(
    existing: Existing, project: Project | None, services: Sequence[str], orphans: bool
) -> list[Replica]:
    if services:
        return existing.of(services, oneoff=True)
    if project is None or orphans:
        return list(existing.replicas)
    # services of profiles that are not active were started with them
    return existing.of([*project.services, *project.disabled], oneoff=True)


def _volumes(existing: Existing, project: Project | None) -> list[str]:
    outside = {one.name for one in project.volumes.values() if one.external} if project else set()
    return sorted(set(existing.volumes) - outside)


def _images(project: Project | None, existing: Existing, which: str) -> list[str]:
    if project is None:
        return sorted({r.record.image for r in existing.replicas}) if which == "all" else []
    services = {**project.services, **project.disabled}
    return sorted(
        {image_of(project, n) for n, one in services.items() if which == "all" or not one.image}
    )
