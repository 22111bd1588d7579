"""Changes of a project: look, plan, carry out, one at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from corectl.compose import imaging, running
from corectl.compose.application import Application
from corectl.compose.building import Builder, BuildOptions
from corectl.compose.existing import Existing, look
from corectl.compose.locking import locked
from corectl.compose.materials import Store, materials
from corectl.compose.performing import Performer
from corectl.compose.planning import UpOptions, plan_up
from corectl.compose.printing import image_of
from corectl.compose.project import Project
from corectl.compose.steps import Action, Plan
from corectl.report import say
from cored.errors import NotFound

__all__ = ["apply", "bring_up", "changing", "prepare_images", "store"]


@contextmanager
def changing(application: Application, project: str) -> Iterator[None]:
    """Nobody else changes the project meanwhile."""
    if application.dry_run:
        yield
        return
    session = application.session
    with locked(session.address, session.namespace, project):
        yield


def store(application: Application, project: str) -> Store:
    """Where the project's own files are."""
    return Store(f"{application.session.address}\0{application.session.namespace}", project)


def apply(
    application: Application,
    plan: Plan,
    project: Project | None = None,
    *,
    build: BuildOptions | None = None,
) -> None:
    """Carry a plan out, or only say it where the run is dry."""
    with _report(application, plan) as report:
        perform: running.Perform = _nothing
        if not application.dry_run:
            perform = _performer(application, project, build, report)
        running.run(plan, perform, width=application.width, report=report)


def _report(application: Application, plan: Plan) -> AbstractContextManager[running.Report]:
    if application.live and plan.steps:
        from corectl.compose.live import live

        return live()
    return nullcontext(running.Lines(form=application.progress, dry=application.dry_run))


def _nothing(action: Action, cancelled: threading.Event) -> str:
    return ""


def _performer(
    application: Application,
    project: Project | None,
    build: BuildOptions | None,
    report: running.Report,
) -> Performer:
    if project is None:
        return Performer(application.session)
    place = store(application, project.name)
    files = {name: list(materials(project, name, place)) for name in project.services}
    builder = None
    if build is not None:
        builder = Builder(application.session, project, build)
    return Performer(application.session, place, files, project.services, builder, hear=report.hear)


def prepare_images(
    application: Application,
    project: Project,
    *,
    pull: str = "",
    build: bool = False,
    may_build: bool = True,
) -> dict[str, str]:
    """Fetch and build what is asked for or missing; all digests. NotFound for what stays away."""
    workloads = application.session.workloads
    there = imaging.digests(project, workloads)
    plan = imaging.pulls(project, workloads, there, pull)
    if plan.steps:
        apply(application, plan, project)
        there = imaging.digests(project, workloads)
    plan = imaging.builds(project, there, everything=build) if may_build else Plan()
    if plan.steps:
        apply(application, plan, project, build=BuildOptions(quiet=application.quiet))
        there = imaging.digests(project, workloads)
    if not application.dry_run:
        for name in project.services:
            image = image_of(project, name)
            if image not in there:
                raise NotFound(
                    f"service '{name}': image '{image}': not found", hint="pull it, or load it"
                )
    return there


def bring_up(
    application: Application,
    project: Project,
    options: UpOptions,
    *,
    pull: str = "",
    build: bool = False,
    may_build: bool = True,
) -> Existing:
    """``up`` without what follows it; what was there before."""
    with changing(application, project.name):
        digests = prepare_images(application, project, pull=pull, build=build, may_build=may_build)
        before = look(application.session, project.name)
        _warn_of_orphans(project, before, options)
        plan = plan_up(
            project,
            before,
            digests,
            store(application, project.name),
            options,
            networks=[network.name for network in application.session.networks.all()],
            volumes=[volume.name for volume in application.session.volumes.list()],
        )
        apply(application, plan, project)
        return before


def _warn_of_orphans(project: Project, existing: Existing, options: UpOptions) -> None:
    known = project.services.keys() | project.disabled.keys()
    orphans = sorted(r.name for r in existing.replicas if r.service not in known)
    if orphans and not options.remove_orphans:
        say(
            f"warning: containers of services that are not in the files: {', '.join(orphans)}"
            " (--remove-orphans removes them)"
        )
