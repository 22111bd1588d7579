"""pre_start: the containers that run to their ends before one of a service starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from corectl.compose import labels
from corectl.compose.configuration import container_name, own_labels, request
from corectl.compose.parts import PreStart
from corectl.compose.printing import image_of, service_hash
from corectl.compose.steps import Plan, RunFirst

if TYPE_CHECKING:
    from corectl.compose.materials import Material
    from corectl.compose.model import Service
    from corectl.compose.project import Project
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

__all__ = ["Preparation", "first_images"]


def first_images(service: Service) -> list[str]:
    """Images that a service needs besides its own."""
    return [one.image for one in service.pre_start if one.image]


class Preparation:
    """What goes before the starts of one service's containers.

    ``begun`` says that one of them has started before: what runs once for all has run then.
    """

    def __init__(
        self, project: Project, name: str, files: Sequence[Material], *, begun: bool
    ) -> None:
        self._project, self._name, self._files = project, name, files
        self._hooks = project.services[name].pre_start
        self._begun = begun
        self._shared: dict[int, int] = {}

    def add(self, plan: Plan, number: int, after: Sequence[int]) -> list[int]:
        """Steps for one container that never ran; those after which it may start."""
        before = list(after)
        for index, hook in enumerate(self._hooks):
            if hook.per_replica:
                before = [self._step(plan, number, index, hook, before)]
            elif not self._begun:
                if index not in self._shared:
                    self._shared[index] = self._step(plan, number, index, hook, before)
                before = [*before, self._shared[index]]
        return before

    def _step(
        self, plan: Plan, number: int, index: int, hook: PreStart, after: Sequence[int]
    ) -> int:
        config = self._config(number, index, hook)
        return plan.add(RunFirst(config.name, self._name, config), after)

    def _config(self, number: int, index: int, hook: PreStart) -> pb.ContainerConfig:
        inner = replace(
            self._project,
            services={**self._project.services, self._name: self._changed(hook)},
        )
        marks = own_labels(
            self._project, self._name, number, service_hash(self._project, self._name), ""
        )
        marks[labels.ONEOFF] = "True"
        config = request(inner, self._name, number, marks, self._files)
        title = container_name(self._project, self._name, number)
        config.name = f"{title}-pre-start-{index + 1}"
        for endpoint in config.endpoints:
            # it is not the service: nobody is to find it by the service's names and addresses
            del endpoint.aliases[:]
            endpoint.ip = endpoint.ip6 = endpoint.mac = ""
        if hook.per_replica:
            config.volumes_from.append(title)
        return config

    def _changed(self, hook: PreStart) -> Service:
        service = self._project.services[self._name]
        shared = tuple(one for one in service.volumes if one.source or one.type == "tmpfs")
        return replace(
            service,
            image=hook.image or image_of(self._project, self._name),
            entrypoint=None if hook.image else service.entrypoint,
            command=hook.command or (None if hook.image else service.command),
            user=hook.user or ("" if hook.image else service.user),
            privileged=hook.privileged or service.privileged,
            working_dir=hook.working_dir or service.working_dir,
            environment={**service.environment, **hook.environment},
            volumes=shared,
            container_name="",
            healthcheck=None,
            restart="",
            deploy=replace(service.deploy, restart_policy=None) if service.deploy else None,
            ports=(),
            mac_address="",
            tty=False,
            stdin_open=False,
        )
