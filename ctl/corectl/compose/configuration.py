"""A service as what the daemon's Create takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from corectl import isolation
from corectl.compose import labels
from corectl.compose.dependencies import dependencies
from corectl.compose.lifetime import lifetime
from corectl.compose.limits import resources
from corectl.compose.materials import Material
from corectl.compose.model import Service
from corectl.compose.mounting import mount
from corectl.compose.printing import image_of
from corectl.compose.project import Project
from corectl.compose.wiring import endpoints, ports
from cored._pb.cored.workloads.v1 import workloads_pb2 as pb
from cored.errors import CoredError, InvalidArgument, Unimplemented

__all__ = ["container_name", "own_labels", "request"]


def container_name(project: Project, name: str, number: int) -> str:
    """What the container of a service with this number is called."""
    return project.services[name].container_name or f"{project.name}-{name}-{number}"


def own_labels(
    project: Project, name: str, number: int, hashed: str, digest: str
) -> dict[str, str]:
    """By which compose finds it again."""
    needs = dependencies(project.services[name])
    return {
        labels.PROJECT: project.name,
        labels.SERVICE: name,
        labels.NUMBER: str(number),
        labels.ONEOFF: "False",
        labels.HASH: hashed,
        labels.IMAGE: digest,
        labels.DEPENDS: ",".join(
            f"{need}:{one.condition}:{str(one.restart).lower()}" for need, one in needs.items()
        ),
        labels.DIRECTORY: str(project.directory),
        labels.FILES: ",".join(project.files),
    }


def request(
    project: Project, name: str, number: int, marks: dict[str, str], files: Sequence[Material]
) -> pb.ContainerConfig:
    """Everything that a service says of a container. InvalidArgument, Unimplemented."""
    service = project.services[name]
    try:
        _refuse(service)
        config = _config(project, name, service)
        endpoints(config, project, name)
        lifetime(config, service)
        for volume in service.volumes:
            mount(config, project, volume)
        config.volumes_from.extend(_volumes_from(project, service))
    except CoredError as error:
        raise type(error)(f"service '{name}': {error.message}", hint=error.hint) from error
    config.name = container_name(project, name, number)
    for key, value in {**service.labels, **marks}.items():
        config.labels[key] = value or ""
    for file in files:
        config.mounts.add(source=str(file.path), target=file.target, read_only=True)
    return config


def _config(project: Project, name: str, service: Service) -> pb.ContainerConfig:
    entrypoint = service.entrypoint
    return pb.ContainerConfig(
        image=image_of(project, name),
        args=service.command or (),
        entrypoint=None if entrypoint is None else pb.Entrypoint(args=entrypoint),
        env=[f"{key}={value}" for key, value in service.environment.items()],
        working_directory=service.working_dir,
        user=service.user,
        terminal=service.tty,
        open_stdin=service.stdin_open,
        hostname=service.hostname,
        domainname=service.domainname,
        privileged=service.privileged,
        read_only=service.read_only,
        cap_add=service.cap_add,
        cap_drop=service.cap_drop,
        resources=resources(service),
        ports=ports(service),
        runtime=service.runtime,
        stop_signal=service.stop_signal,
        platform=service.platform,
        logging=_logging(service),
        security=isolation.security(service.security_opt),
        ulimits=[_ulimit(key, value) for key, value in service.ulimits.items()],
        sysctls=service.sysctls,
        devices=[
            pb.Device(source=one.source, target=one.target, permissions=one.permissions)
            for one in service.devices
        ],
        device_cgroup_rules=service.device_cgroup_rules,
        tmpfs=[isolation.tmpfs(text) for text in service.tmpfs],
        shm_size=service.shm_size,
        oom_score_adj=service.oom_score_adj,
        groups=service.group_add,
        namespaces=_namespaces(project, service),
        cgroup_parent=service.cgroup_parent,
        dns=pb.Dns(servers=service.dns, search=service.dns_search, options=service.dns_opt),
        links=service.external_links,
        extra_hosts=[":".join(one.split("=", 1)) for one in service.extra_hosts],
    )


def _volumes_from(project: Project, service: Service) -> Iterator[str]:
    for text in service.volumes_from:
        kind, _, rest = text.partition(":")
        if kind == "container":
            yield rest
            continue
        if kind not in project.services:
            raise InvalidArgument(f"volumes_from: there is no service '{kind}'")
        yield ":".join(filter(None, (container_name(project, kind, 1), rest)))


def _refuse(service: Service) -> None:
    """What would be there without effect is not accepted."""
    for key in ("credential_spec", "use_api_socket", "storage_opt"):
        if getattr(service, key):
            raise Unimplemented(f"{key}: cored does not have it", hint="take the key out")
    if service.isolation not in ("", "default"):
        raise Unimplemented(f"isolation '{service.isolation}': only on Windows")


def _logging(service: Service) -> pb.Logging:
    if service.logging is None:
        return pb.Logging()
    options = {key: value or "" for key, value in service.logging.options.items()}
    return pb.Logging(driver=service.logging.driver, options=options)


def _ulimit(name: str, value: Any) -> pb.Ulimit:
    if isinstance(value, int):
        return pb.Ulimit(name=name, soft=value, hard=value)
    return pb.Ulimit(name=name, soft=value.soft, hard=value.hard)


def _namespaces(project: Project, service: Service) -> pb.Namespaces:
    ipc, pid = (shared(project, getattr(service, key), key) for key in ("ipc", "pid"))
    return pb.Namespaces(
        ipc="" if ipc == "shareable" else ipc,
        pid=pid,
        uts=service.uts or "",
        cgroup=service.cgroup or "",
        user=service.userns_mode,
    )


def shared(project: Project, text: str, key: str) -> str:
    """``service:NAME`` as the container of that service."""
    kind, _, name = text.partition(":")
    if kind != "service":
        return text
    if name not in project.services:
        raise InvalidArgument(f"{key}: there is no service '{name}'")
    return f"container:{container_name(project, name, 1)}"
