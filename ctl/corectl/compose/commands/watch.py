"""watch: containers follow the files that they are made from."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from corectl.compose.application import Application
from corectl.compose.applying import apply, bring_up, changing
from corectl.compose.existing import Replica, look
from corectl.compose.hooks import run_hooks
from corectl.compose.parts import Hook
from corectl.compose.planning import UpOptions
from corectl.compose.project import Project
from corectl.compose.steps import Plan, Restart
from corectl.compose.watching import Changes, Tree, trees
from corectl.report import say
from cored.errors import CoredError, NotFound

__all__ = ["watch"]

_EVERY = 0.5
_QUIET = 0.15


@click.command()
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
@click.option("--no-up", is_flag=True, help="Do not build and start them first.")
@click.option("--quiet", is_flag=True, help="Say nothing of builds.")
@click.option("--prune", is_flag=True, hidden=True)
@click.pass_obj
def watch(
    application: Application, services: Sequence[str], no_up: bool, quiet: bool, prune: bool
) -> None:
    """Do what 'develop.watch' says whenever files change, until Ctrl-C.

    Files are copied into the containers, which are restarted or built anew.
    """
    project = application.project(services).chosen(services)
    named = {name: project.services[name] for name in services or project.services}
    found = trees(named)
    if not found:
        hint = "give one a 'develop' section"
        raise NotFound(f"project '{project.name}': no service is to be watched", hint=hint)
    if not no_up:
        bring_up(application, project, UpOptions(), build=True)
    _Watcher(application, project, found).run()


class _Watcher:
    def __init__(self, application: Application, project: Project, found: list[Tree]) -> None:
        self._application, self._project, self._trees = application, project, found

    def run(self) -> None:
        """Look, and act on what has come to rest. KeyboardInterrupt."""
        first = [(tree, tree.everything()) for tree in self._trees if tree.rule.initial_sync]
        self._act([one for one in first if one[0].rule.syncs])
        click.echo("Watch enabled")
        while True:
            time.sleep(_EVERY)
            changed = {id(tree): changes for tree in self._trees if (changes := tree.look())}
            while changed:
                # a program is still writing, or an editor has only begun
                time.sleep(_QUIET)
                more = {id(tree): changes for tree in self._trees if (changes := tree.look())}
                if not more:
                    break
                for key, changes in more.items():
                    changed[key] = _both(changed.get(key, Changes()), changes)
            self._act([(t, changed[id(t)]) for t in self._trees if id(t) in changed])

    def _act(self, changed: Sequence[tuple[Tree, Changes]]) -> None:
        rebuilt = list(dict.fromkeys(t.service for t, _ in changed if t.rule.action == "rebuild"))
        try:
            if rebuilt:
                click.echo(f"Rebuilding {', '.join(rebuilt)}")
                chosen = self._project.chosen(rebuilt, dependencies=False)
                bring_up(self._application, chosen, UpOptions(), build=True)
            for tree, changes in changed:
                if tree.service not in rebuilt:
                    self._follow(tree, changes)
        except CoredError as error:
            # the next change may mend it
            say(str(error))

    def _follow(self, tree: Tree, changes: Changes) -> None:
        """Sync, restart and execute, in all of the service's containers that run."""
        session, rule = self._application.session, tree.rule
        replicas = [r for r in self._replicas(tree.service) if r.alive]
        if rule.syncs:
            click.echo(f"Syncing service {tree.service}: {len(changes)} changes")
        for replica in replicas if rule.syncs else ():
            self._sync(replica, tree, changes)
            if rule.action == "sync+exec" and rule.exec is not None:
                run_hooks(session.workloads, replica.id, [rule.exec], "exec")
        if rule.action.endswith("restart"):
            click.echo(f"Restarting service {tree.service}")
            plan = Plan()
            for replica in replicas:
                plan.add(Restart(replica.name, tree.service))
            with changing(self._application, self._project.name):
                apply(self._application, plan, self._project)

    def _replicas(self, service: str) -> list[Replica]:
        return look(self._application.session, self._project.name).of([service])

    def _sync(self, replica: Replica, tree: Tree, changes: Changes) -> None:
        from cored._pb.cored.workloads.v1 import volumes_pb2

        workloads = self._application.session.workloads
        if changes.removed:
            targets = [tree.target(path) for path in changes.removed]
            remove = Hook(command=("rm", "-rf", "--", *targets), user="0")
            run_hooks(workloads, replica.id, [remove], "sync")
        if changes.written:
            options = volumes_pb2.CopyInOptions(container=replica.id, path="/", archive=True)
            workloads.copy_in(options, _packed(tree, changes.written))


def _both(first: Changes, then: Changes) -> Changes:
    written = {*first.written, *then.written} - {*then.removed}
    removed = {*first.removed, *then.removed} - {*then.written}
    return Changes(tuple(sorted(written)), tuple(sorted(removed)))


def _packed(tree: Tree, paths: Sequence[str]) -> Iterator[bytes]:
    """A tar of files at their targets, piece by piece; they belong to root."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in paths:
            source = Path(tree.rule.path, path) if path else Path(tree.rule.path)
            try:
                member = archive.gettarinfo(source, tree.target(path).lstrip("/"))
                file = source.open("rb") if member.isreg() else None
            except OSError:
                continue  # gone again: the next look will tell
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            if file is None:
                archive.addfile(member)
                continue
            with file:
                archive.addfile(member, file)
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()
