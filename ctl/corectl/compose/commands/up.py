"""up, create and scale."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any

import click

from corectl.compose.application import Application
from corectl.compose.applying import apply, bring_up
from corectl.compose.existing import Existing, Replica, look
from corectl.compose.following import Ended, Follower, Printer
from corectl.compose.planning import UpOptions
from corectl.compose.project import Project
from corectl.compose.removal import plan_stop
from corectl.compose.steps import Kill, Plan
from cored.errors import InvalidArgument, NotFound

__all__ = ["create", "scale", "up"]

_INTERRUPTED = 130
_DRAIN = 2.0


def _making(command: Any) -> Any:
    """Options that up and create have in common."""
    for option in reversed(
        (
            click.argument("services", nargs=-1, metavar="[SERVICE...]"),
            click.option("--build", is_flag=True, help="Build images before all."),
            click.option("--no-build", is_flag=True, help="Build none, also when one is missing."),
            click.option("--force-recreate", is_flag=True, help="Make all containers again."),
            click.option("--no-recreate", is_flag=True, help="Leave those that are there."),
            click.option(
                "--pull",
                type=click.Choice(["policy", "always", "missing", "never"]),
                default="policy",
                help="When to fetch images.",
            ),
            click.option("--quiet-pull", is_flag=True, hidden=True),
            click.option("--remove-orphans", is_flag=True, help="Remove what is in no file."),
            click.option("--scale", multiple=True, metavar="SERVICE=N", help="Containers of it."),
            click.option("-y", "--yes", is_flag=True, hidden=True),
        )
    ):
        command = option(command)
    return command


@click.command()
@_making
@click.option("-d", "--detach", is_flag=True, help="Leave it when it runs.")
@click.option("--no-deps", is_flag=True, help="Without what the services depend on.")
@click.option("--no-start", is_flag=True, help="Only make the containers.")
@click.option("--wait", is_flag=True, help="Until all run or are healthy; implies -d.")
@click.option("-t", "--timeout", type=int, default=None, help="Seconds until SIGKILL.")
@click.option("--abort-on-container-exit", is_flag=True, help="Stop all when one ends.")
@click.option("--abort-on-container-failure", is_flag=True, help="Stop all when one fails.")
@click.option("--exit-code-from", default="", metavar="SERVICE", help="Its code is ours.")
@click.option("--attach", multiple=True, metavar="SERVICE", help="Follow only this one.")
@click.option("--no-attach", multiple=True, metavar="SERVICE", help="Do not follow this one.")
@click.option("--attach-dependencies", is_flag=True, help="Follow what they depend on, too.")
@click.option("--no-color", is_flag=True, help="Without colours.")
@click.option("--no-log-prefix", is_flag=True, help="Without names before lines.")
@click.option("--timestamps", is_flag=True, help="When each line was written.")
@click.option("-V", "--renew-anon-volumes", is_flag=True, help="New anonymous volumes.")
@click.pass_obj
def up(application: Application, /, services: Sequence[str], **options: Any) -> int:
    """Make and start what the files describe, and follow it until all has ended.

    What is there and as it should be stays. Ctrl-C stops everything, a second one kills it.
    """
    project = application.project(services)
    chosen = project.chosen(services, dependencies=not options["no_deps"])
    from_one = options["exit_code_from"]
    if from_one and from_one not in chosen.services:
        raise NotFound(f"--exit-code-from {from_one}: no such service")
    aside = options["detach"] or options["wait"] or options["no_start"] or application.dry_run
    with _interruptible():
        try:
            before, begun = _bring_up(application, chosen, options), time.time()
            if aside:
                return 0
            return _Attached(application, chosen, options, services).run(before, begun)
        except KeyboardInterrupt:
            if not aside:
                _stop(application, chosen, options["timeout"])
            return _INTERRUPTED


@click.command()
@_making
@click.pass_obj
def create(application: Application, /, services: Sequence[str], **options: Any) -> None:
    """Make the containers without starting them."""
    project = application.project(services)
    _bring_up(application, project.chosen(services), {**options, "no_start": True})


@click.command()
@click.argument("counts", nargs=-1, required=True, metavar="SERVICE=N...")
@click.option("--no-deps", is_flag=True, help="Without what the services depend on.")
@click.pass_obj
def scale(application: Application, counts: Sequence[str], no_deps: bool) -> None:
    """Set how many containers services have."""
    names = [text.partition("=")[0] for text in counts]
    project = application.project(names)
    chosen = project.chosen(names, dependencies=not no_deps)
    bring_up(application, chosen, UpOptions(scale=_counts(chosen, counts)))


def _bring_up(application: Application, project: Project, options: dict[str, Any]) -> Existing:
    if options["force_recreate"] and options["no_recreate"]:
        raise click.UsageError("--force-recreate excludes --no-recreate")
    recreate = "always" if options["force_recreate"] else "changed"
    made = UpOptions(
        recreate="never" if options["no_recreate"] else recreate,
        start=not options.get("no_start"),
        scale=_counts(project, options["scale"]),
        timeout=options.get("timeout"),
        remove_orphans=options["remove_orphans"],
        wait=bool(options.get("wait")),
        renew_volumes=bool(options.get("renew_anon_volumes")),
    )
    pull = "" if options["pull"] == "policy" else options["pull"]
    return bring_up(
        application,
        project,
        made,
        pull=pull,
        build=options["build"],
        may_build=not options["no_build"],
    )


def _counts(project: Project, texts: Sequence[str]) -> dict[str, int]:
    found = {}
    for text in texts:
        name, _, number = text.partition("=")
        if not number.isdecimal():
            raise InvalidArgument(f"scale '{text}': not understood", hint="write SERVICE=2")
        if name not in project.services:
            raise NotFound(f"service '{name}': not in the project {project.name}")
        if project.services[name].container_name and int(number) > 1:
            raise InvalidArgument(f"service '{name}': container_name excludes several containers")
        found[name] = int(number)
    return found


class _Attached:
    """The project in the foreground."""

    def __init__(
        self,
        application: Application,
        project: Project,
        options: dict[str, Any],
        named: Sequence[str],
    ) -> None:
        self._application, self._project, self._options = application, project, options
        usual = [name for name, one in project.services.items() if one.attach]
        if named and not options["attach_dependencies"]:
            usual = [name for name in usual if name in named]
        self._shown = set(options["attach"] or usual) - set(options["no_attach"])

    def run(self, before: Existing, begun: float) -> int:
        """Until all have ended; our exit code. KeyboardInterrupt."""
        replicas = look(self._application.session, self._project.name).of(self._project.services)
        options = self._options
        printer = Printer(
            [replica.short for replica in replicas if replica.service in self._shown],
            coloured=self._application.coloured and not options["no_color"],
            prefixed=not options["no_log_prefix"],
            stamped=options["timestamps"],
        )
        follower = Follower(self._application.session.workloads, printer)
        former = {replica.id: replica for replica in before.replicas}
        for replica in replicas:
            self._follow(follower, replica, former.get(replica.id), begun)
        code = self._wait(follower, printer, replicas)
        follower.join(_DRAIN)
        return code

    def _follow(
        self, follower: Follower, replica: Replica, former: Replica | None, begun: float
    ) -> None:
        from google.protobuf.timestamp_pb2 import Timestamp

        if replica.service not in self._shown:
            follower.watch(replica)
            return
        since = None
        if former is not None:
            # what it wrote before this up is not of interest
            ran = Timestamp(seconds=int(begun))
            since = ran if former.alive else replica.record.started_at
        follower.follow(replica, follow=True, since=since, until_end=True)

    def _wait(self, follower: Follower, printer: Printer, replicas: Sequence[Replica]) -> int:
        options = self._options
        left = len(replicas)
        wanted = options["exit_code_from"]
        stopping, code = False, 0
        while left:
            end = follower.ends.get()
            left -= 1
            if end.service in self._shown:
                printer.note(f"{end.name} exited with code {end.code}")
            if wanted == end.service and (not stopping or code == 0):
                code = end.code or 0
            if stopping or not self._aborts(end):
                continue
            stopping = True
            if not wanted:
                code = end.code or 0
            printer.note("Aborting on container exit...")
            _stop(self._application, self._project, options["timeout"])
        return code

    def _aborts(self, end: Ended) -> bool:
        options = self._options
        if options["abort_on_container_failure"] and end.code:
            return True
        return bool(options["abort_on_container_exit"] or options["exit_code_from"])


def _stop(application: Application, project: Project, timeout: int | None) -> None:
    """Stop what runs; another Ctrl-C kills it."""
    replicas = look(application.session, project.name).of(project.services)
    try:
        print("Gracefully stopping... (press Ctrl+C again to force)", file=sys.stderr)
        apply(application, plan_stop(replicas, timeout), project)
    except KeyboardInterrupt:
        plan = Plan()
        for replica in replicas:
            if replica.alive:
                plan.add(Kill(replica.name))
        apply(
            replace(application, progress="plain" if application.quiet else application.progress),
            plan,
        )


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP are as Ctrl-C while the context lasts."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
