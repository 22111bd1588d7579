"""Values of the engine to messages of cored.workloads.v1, and back."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from cored._pb.containerd.types import descriptor_pb2
from cored._pb.cored.workloads.v1 import workloads_pb2 as pb
from cored.abc.records import Image
from cored.abc.runtime import RuntimeInfo, Stdio
from cored.engine.progress import Progress
from cored.engine.workload import Binding, ContainerConfig, ContainerView

__all__ = [
    "config_message",
    "config_value",
    "container_message",
    "image_message",
    "progress_message",
    "runtime_message",
    "stdio_value",
    "timestamp",
]


def timestamp(ns: int) -> Timestamp | None:
    """A Timestamp; None for 0."""
    return Timestamp(seconds=ns // 10**9, nanos=ns % 10**9) if ns else None


def progress_message(progress: Progress) -> pb.TransferProgress:
    return pb.TransferProgress(
        id=progress.id, status=progress.status, offset=progress.offset, total=progress.total
    )


def image_message(image: Image, size: int = 0, config_digest: str = "") -> pb.Image:
    return pb.Image(
        name=image.name,
        target=descriptor_pb2.Descriptor(
            media_type=image.target.media_type,
            digest=image.target.digest,
            size=image.target.size,
            annotations=image.target.annotations,
        ),
        created_at=timestamp(image.created_at),
        size=size,
        config_digest=config_digest,
        labels=image.labels,
    )


def runtime_message(info: RuntimeInfo) -> pb.Runtime:
    return pb.Runtime(
        name=info.name,
        kind=info.kind,
        path=info.path,
        version=info.version,
        features=info.features.value if info.features else b"",
        usual=info.usual,
        problem=info.problem,
        limits=info.limits,
    )


def stdio_value(message: pb.Stdio) -> Stdio:
    return Stdio(message.stdin, message.stdout, message.stderr)


def config_value(message: pb.ContainerConfig) -> ContainerConfig:
    entrypoint = tuple(message.entrypoint.args) if message.HasField("entrypoint") else None
    return ContainerConfig(
        image=message.image,
        name=message.name,
        args=tuple(message.args),
        entrypoint=entrypoint,
        env=tuple(message.env),
        working_directory=message.working_directory,
        user=message.user,
        terminal=message.terminal,
        open_stdin=message.open_stdin,
        mounts=tuple(
            Binding(m.source, m.target, m.read_only, m.create_source) for m in message.mounts
        ),
        hostname=message.hostname,
        labels=dict(message.labels),
        auto_remove=message.auto_remove,
        privileged=message.privileged,
        read_only=message.read_only,
        cap_add=tuple(message.cap_add),
        cap_drop=tuple(message.cap_drop),
        memory=message.resources.memory_limit,
        nano_cpus=message.resources.nano_cpus,
        pids=message.resources.pids_limit,
        network=message.network,
        runtime=message.runtime,
        snapshotter=message.snapshotter,
        stop_signal=message.stop_signal,
        platform=message.platform,
    )


def config_message(config: ContainerConfig) -> pb.ContainerConfig:
    message = pb.ContainerConfig(
        image=config.image,
        name=config.name,
        args=config.args,
        env=config.env,
        working_directory=config.working_directory,
        user=config.user,
        terminal=config.terminal,
        open_stdin=config.open_stdin,
        mounts=[
            pb.BindMount(
                source=m.source,
                target=m.target,
                read_only=m.read_only,
                create_source=m.create_source,
            )
            for m in config.mounts
        ],
        hostname=config.hostname,
        labels=config.labels,
        auto_remove=config.auto_remove,
        privileged=config.privileged,
        read_only=config.read_only,
        cap_add=config.cap_add,
        cap_drop=config.cap_drop,
        resources=pb.Resources(
            memory_limit=config.memory, nano_cpus=config.nano_cpus, pids_limit=config.pids
        ),
        network=config.network,
        runtime=config.runtime,
        snapshotter=config.snapshotter,
        stop_signal=config.stop_signal,
        platform=config.platform,
    )
    if config.entrypoint is not None:
        message.entrypoint.args.extend(config.entrypoint)
        message.entrypoint.SetInParent()
    return message


def container_message(view: ContainerView) -> pb.Container:
    return pb.Container(
        id=view.record.id,
        name=view.name,
        image=view.record.image,
        command=view.command,
        status=view.status,
        pid=view.pid,
        exit_status=view.state.exit_status,
        created_at=timestamp(view.record.created_at),
        started_at=timestamp(view.state.started_at),
        exited_at=timestamp(view.state.exited_at),
        labels=view.record.labels,
        error=view.state.error,
    )
