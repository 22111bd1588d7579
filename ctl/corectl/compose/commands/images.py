"""pull, push and build."""

from __future__ import annotations

from collections.abc import Sequence

import click

from corectl.compose import imaging
from corectl.compose.application import Application
from corectl.compose.applying import apply
from corectl.compose.building import BuildOptions
from corectl.compose.steps import Plan, Pull, Push

__all__ = ["build", "pull", "push"]

_services = click.argument("services", nargs=-1, metavar="[SERVICE...]")


@click.command()
@_services
@click.option("--include-deps", is_flag=True, help="Also what the services depend on.")
@click.option("--ignore-pull-failures", is_flag=True, help="Go on with what can be fetched.")
@click.option("--ignore-buildable", is_flag=True, help="Not those that can be built.")
@click.option("--policy", type=click.Choice(["missing", "always"]), default="always")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing.")
@click.pass_obj
def pull(
    application: Application,
    services: Sequence[str],
    include_deps: bool,
    ignore_pull_failures: bool,
    ignore_buildable: bool,
    policy: str,
    quiet: bool,
) -> None:
    """Fetch the services' images."""
    project = application.project(services).chosen(services, dependencies=include_deps)
    workloads = application.session.workloads
    there = imaging.digests(project, workloads) if policy == "missing" else {}
    plan = Plan()
    asked: set[str] = set()
    for service in project.services.values():
        buildable = service.build is not None
        if not service.image or service.image in {*asked, *there}:
            continue
        if ignore_buildable and buildable:
            continue
        asked.add(service.image)
        needed = not (ignore_pull_failures or buildable)
        plan.add(Pull(service.image, service.platform, needed=needed))
    apply(application, plan)


@click.command()
@_services
@click.option("--include-deps", is_flag=True, help="Also what the services depend on.")
@click.option("--ignore-push-failures", is_flag=True, help="Go on with the others.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing.")
@click.pass_obj
def push(
    application: Application,
    services: Sequence[str],
    include_deps: bool,
    ignore_push_failures: bool,
    quiet: bool,
) -> None:
    """Send the images of services that are built here to their registries."""
    project = application.project(services).chosen(services, dependencies=include_deps)
    plan = Plan()
    images = {s.image for s in project.services.values() if s.image and s.build is not None}
    for image in sorted(images):
        plan.add(Push(image))
    apply(application, plan)


@click.command()
@_services
@click.option("--no-cache", is_flag=True, help="Use no result of an earlier build.")
@click.option("--pull", "pulling", is_flag=True, help="Fetch base images anew.")
@click.option("--build-arg", multiple=True, metavar="NAME=VALUE", help="Argument of the build.")
@click.option("--with-dependencies", is_flag=True, help="Also what the services depend on.")
@click.option("--push", "pushing", is_flag=True, help="Push them afterwards.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing.")
@click.pass_obj
def build(
    application: Application,
    services: Sequence[str],
    no_cache: bool,
    pulling: bool,
    build_arg: Sequence[str],
    with_dependencies: bool,
    pushing: bool,
    quiet: bool,
) -> None:
    """Build the services' images."""
    project = application.project(services).chosen(services, dependencies=with_dependencies)
    options = BuildOptions(
        no_cache=no_cache,
        pull=pulling,
        push=pushing,
        args=tuple(build_arg),
        quiet=quiet or application.quiet,
    )
    plan = imaging.builds(project, {}, everything=True)
    apply(application, plan, project, build=options)
