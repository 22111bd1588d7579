"""Pods and containers as messages, and which of them a filter means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cored._pb.cri.v1 import api_pb2 as pb
from cored_service_cri import signals
from cored_service_cri.values import Container, Pod

__all__ = ["container", "matching", "pod", "pod_status", "pods_matching", "status"]


def pod(one: Pod) -> pb.PodSandbox:
    """A pod as lists have it."""
    return pb.PodSandbox(
        id=one.id,
        metadata=one.config.metadata,
        state=_pod_state(one),
        created_at=one.state.created_at,
        labels=one.config.labels,
        annotations=one.config.annotations,
        runtime_handler=one.state.handler,
    )


def pod_status(one: Pod) -> pb.PodSandboxStatus:
    """A pod in full."""
    first, more = one.state.ips[:1], one.state.ips[1:]
    return pb.PodSandboxStatus(
        id=one.id,
        metadata=one.config.metadata,
        state=_pod_state(one),
        created_at=one.state.created_at,
        network=pb.PodSandboxNetworkStatus(
            ip="".join(first), additional_ips=[pb.PodIP(ip=ip) for ip in more]
        ),
        linux=pb.LinuxPodSandboxStatus(namespaces=pb.Namespace(options=one.modes)),
        labels=one.config.labels,
        annotations=one.config.annotations,
        runtime_handler=one.state.handler,
    )


def container(one: Container) -> pb.Container:
    """A container as lists have it."""
    return pb.Container(
        id=one.id,
        pod_sandbox_id=one.pod.id,
        metadata=one.config.metadata,
        image=one.config.image,
        image_ref=one.state.image_ref,
        image_id=one.state.image_id,
        state=one.state.phase,
        created_at=one.state.created_at,
        labels=one.config.labels,
        annotations=one.config.annotations,
    )


def status(one: Container) -> pb.ContainerStatus:
    """A container in full."""
    state, user = one.state, one.state.user
    found = pb.ContainerStatus(
        id=one.id,
        metadata=one.config.metadata,
        state=state.phase,
        created_at=state.created_at,
        started_at=state.started_at,
        finished_at=state.finished_at,
        exit_code=state.exit_code,
        image=pb.ImageSpec(image=state.image, annotations=one.config.image.annotations),
        image_ref=state.image_ref,
        image_id=state.image_id,
        reason=state.reason,
        message=state.message,
        labels=one.config.labels,
        annotations=one.config.annotations,
        mounts=[_mount(mount, state.volume_ids) for mount in one.config.mounts],
        log_path=one.log_path,
        resources=pb.ContainerResources(linux=one.config.linux.resources),
        user=pb.ContainerUser(
            linux=pb.LinuxContainerUser(uid=user[0], gid=user[1], supplemental_groups=state.groups)
        ),
        stop_signal=signals.named(one),
    )
    found.image.user_specified_image = one.config.image.user_specified_image
    return found


def pods_matching(pods: Iterable[Pod], wanted: pb.PodSandboxFilter) -> list[Pod]:
    """Those that a filter means, the newest first."""
    found = [
        one
        for one in pods
        if one.id.startswith(wanted.id)
        and (not wanted.HasField("state") or wanted.state.state == _pod_state(one))
        and _labelled(one.config.labels, wanted.label_selector)
    ]
    return sorted(found, key=lambda one: one.state.created_at, reverse=True)


def matching(
    containers: Iterable[Container],
    wanted: pb.ContainerFilter | pb.ContainerStatsFilter,
    state: int | None = None,
) -> list[Container]:
    """Those that a filter means, the newest first; ``state`` is one that they must be in."""
    found = [
        one
        for one in containers
        if one.id.startswith(wanted.id)
        and one.pod.id.startswith(wanted.pod_sandbox_id)
        and (state is None or state == one.state.phase)
        and _labelled(one.config.labels, wanted.label_selector)
    ]
    return sorted(found, key=lambda one: one.state.created_at, reverse=True)


def _labelled(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in wanted.items())


def _pod_state(one: Pod) -> pb.PodSandboxState:
    return pb.SANDBOX_READY if one.state.ready else pb.SANDBOX_NOTREADY


def _mount(mount: pb.Mount, volumes: Mapping[str, str]) -> pb.Mount:
    """As it was asked for; an image volume with the image that it turned out to be."""
    if mount.container_path not in volumes:
        return mount
    found = pb.Mount()
    found.CopyFrom(mount)
    found.image.image_ref = volumes[mount.container_path]
    return found
