"""Each kind of step as calls to the daemon."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from corectl.compose import steps
from corectl.compose.existing import replica
from corectl.compose.hooks import run_first, run_hooks
from corectl.compose.making import make, write
from corectl.compose.materials import Material, Store
from corectl.compose.model import Service
from corectl.compose.running import Cancelled
from cored.errors import AlreadyExists, CoredError, FailedPrecondition, NotFound

if TYPE_CHECKING:
    from corectl.compose.building import Builder
    from corectl.session import Session
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

__all__ = ["Performer"]

_SOON, _LATER = 0.03, 0.25


class Performer:
    """``files`` are what the containers of each service get, ``services`` where hooks are.

    ``hear`` is told what the processes of some steps write, line by line.
    """

    def __init__(
        self,
        session: Session,
        store: Store | None = None,
        files: Mapping[str, list[Material]] | None = None,
        services: Mapping[str, Service] | None = None,
        builder: Builder | None = None,
        hear: Callable[[steps.Action, str], None] | None = None,
    ) -> None:
        self._session, self._store = session, store
        self._files, self._services = files or {}, services or {}
        self._builder = builder
        self._hear = hear or (lambda action, line: None)

    def __call__(self, action: steps.Action, cancelled: threading.Event) -> str:
        """Do it; how it ended where that is not the usual. CoredError."""
        if isinstance(action, steps.Await):
            return self._await(action, cancelled)
        perform: Mapping[type, Callable[..., str | None]] = {
            steps.CreateNetwork: self._create_network,
            steps.RemoveNetwork: self._remove_network,
            steps.CreateVolume: self._create_volume,
            steps.RemoveVolume: self._remove_volume,
            steps.Pull: self._pull,
            steps.Push: self._push,
            steps.Build: self._build,
            steps.RemoveImage: self._remove_image,
            steps.CreateContainer: self._create,
            steps.StaysRunning: _nothing,
            steps.StaysMade: _nothing,
            steps.RunFirst: self._run_first,
            steps.StartContainer: self._start,
            steps.StopContainer: self._stop,
            steps.Restart: self._restart,
            steps.Kill: self._kill,
            steps.RemoveContainer: self._remove,
        }
        try:
            return perform[type(action)](action) or ""
        except CoredError as error:
            if action.name in error.message:
                raise
            # of many steps at once nobody would know whose it is
            subject = f"{action.kind.lower()} '{action.name}'"
            raise type(error)(f"{subject}: {error.message}", hint=error.hint) from error

    def _create_network(self, action: steps.CreateNetwork) -> str | None:
        try:
            self._session.networks.create(action.request)
        except AlreadyExists as error:
            hint = "name another with networks.NAME.name, or say external: true"
            raise AlreadyExists(
                f"network '{action.name}': is there, and is not the project's", hint=hint
            ) from error
        return None

    def _remove_network(self, action: steps.RemoveNetwork) -> str | None:
        try:
            self._session.networks.remove(action.name)
        except NotFound:
            return None
        except FailedPrecondition:
            # containers of others, or orphans, are in it: down goes on, and can be repeated
            return "Resource is still in use"
        return None

    def _create_volume(self, action: steps.CreateVolume) -> str | None:
        self._session.volumes.create(action.request)
        return None

    def _remove_volume(self, action: steps.RemoveVolume) -> str | None:
        try:
            self._session.volumes.remove(action.name)
        except NotFound:
            return None
        except FailedPrecondition:
            return "Resource is still in use"
        return None

    def _pull(self, action: steps.Pull) -> str | None:
        from corectl.credentials import auths_for
        from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

        asked = pb.PullRequest(
            reference=action.name, platform=action.platform, auths=auths_for([action.name])
        )
        try:
            for _ in self._session.workloads.pull(asked):
                continue
        except CoredError as error:
            if action.needed:
                raise
            return f"not pulled: {error.message}"
        return None

    def _push(self, action: steps.Push) -> str | None:
        from corectl.credentials import auths_for
        from cored._pb.cored.workloads.v1 import images_pb2

        asked = images_pb2.PushRequest(reference=action.name, auths=auths_for([action.name]))
        for _ in self._session.workloads.push(asked):
            continue
        return None

    def _build(self, action: steps.Build) -> str | None:
        assert self._builder is not None
        self._builder.build(action.service)
        return None

    def _remove_image(self, action: steps.RemoveImage) -> str | None:
        try:
            self._session.workloads.remove_image(action.name)
        except NotFound:
            return None
        except FailedPrecondition:
            return "Resource is still in use"
        return None

    def _write_files(self, service: str) -> None:
        files = self._files.get(service, ())
        if files:
            assert self._store is not None
            write(self._session, self._store, files)

    def _make(self, service: str, config: pb.ContainerConfig) -> pb.CreateResponse:
        return make(self._session, config, self._files.get(service, ()))

    def _create(self, action: steps.CreateContainer) -> str | None:
        self._write_files(action.service)
        made = self._make(action.service, action.config)
        for warning in made.warnings:
            print(f"corectl: {action.name}: {warning}", file=sys.stderr)
        return None

    def _run_first(self, action: steps.RunFirst) -> str | None:
        self._write_files(action.service)
        run_first(
            self._session.workloads,
            action.config,
            lambda config: self._make(action.service, config),
            lambda line: self._hear(action, line),
        )
        return None

    def _start(self, action: steps.StartContainer) -> str | None:
        self._write_files(action.service)
        self._session.workloads.start(action.name)
        self._post_start(action.name, action.service)
        return None

    def _post_start(self, name: str, service: str) -> None:
        if service in self._services:
            hooks = self._services[service].post_start
            run_hooks(self._session.workloads, name, hooks, "post_start")

    def _stop(self, action: steps.StopContainer) -> str | None:
        workloads = self._session.workloads
        try:
            if action.service in self._services:
                run_hooks(
                    workloads, action.name, self._services[action.service].pre_stop, "pre_stop"
                )
        except CoredError as error:
            # it is to stop all the same
            print(f"corectl: warning: {error}", file=sys.stderr)
        try:
            workloads.stop(action.name, action.timeout)
        except (NotFound, FailedPrecondition):
            # it has ended by itself
            return None
        return None

    def _restart(self, action: steps.Restart) -> str | None:
        self._session.workloads.restart(action.name, action.timeout)
        self._post_start(action.name, action.service)
        return None

    def _kill(self, action: steps.Kill) -> str | None:
        try:
            self._session.workloads.kill(action.name, action.signal)
        except (NotFound, FailedPrecondition):
            return "Not running"
        return None

    def _remove(self, action: steps.RemoveContainer) -> str | None:
        try:
            self._session.workloads.remove(action.name, force=True, volumes=action.volumes)
        except NotFound:
            return None
        return None

    def _await(self, action: steps.Await, cancelled: threading.Event) -> str:
        pause = _SOON
        while True:
            found = replica(self._session.workloads.inspect(action.name).container)
            code = found.exit_status
            if found.status == "stopped":
                # the record of the end may come after the end
                code = self._session.workloads.wait(action.name).result().exit_status
            try:
                ending = _settled(action, found.status, code, found.health)
            except FailedPrecondition as error:
                if action.required:
                    raise
                return f"{error.message}, which was not required"
            if ending:
                return ending
            if cancelled.wait(pause):
                raise Cancelled
            pause = min(pause * 1.3, _LATER)


def _nothing(action: steps.Action) -> None:
    """It is as it should be."""


def _settled(action: steps.Await, status: str, code: int, health: str) -> str:
    """How a condition came true; nothing as long as it may. FailedPrecondition when it cannot."""
    subject = f"container '{action.name}'"
    ended = status == "stopped"
    if action.condition == "completed":
        if ended and code:
            raise FailedPrecondition(f"{subject}: did not complete: exited with {code}")
        return "Exited" if ended else ""
    if ended:
        raise FailedPrecondition(
            f"{subject}: is not running: exited with {code}", hint=f"corectl why {action.name}"
        )
    if health == "unhealthy":
        raise FailedPrecondition(f"{subject}: is unhealthy", hint=f"corectl why {action.name}")
    if health == "healthy":
        return "Healthy"
    if not health and status == "running":
        if action.condition == "ready":
            return "Running"
        raise FailedPrecondition(
            f"{subject}: has no health check, and a service waits for its health",
            hint="add a healthcheck, or wait for service_started",
        )
    return ""
