"""Values of the engine to messages of cored.workloads.v1, and back."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from cored._pb.cored.workloads.v1 import workloads_pb2 as pb
from cored.abc.runtime import RuntimeInfo, Stdio
from cored.engine.networks.values import Connection
from cored.engine.workload import NAME, ContainerConfig, ContainerView, Health
from cored_service_workloads import fields

__all__ = [
    "config_message",
    "config_value",
    "connection_message",
    "container_message",
    "runtime_message",
    "stdio_value",
    "timestamp",
]


def timestamp(ns: int) -> Timestamp | None:
    """A Timestamp; None for 0."""
    return Timestamp(seconds=ns // 10**9, nanos=ns % 10**9) if ns else None


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
    return fields.value(ContainerConfig, message)


def config_message(config: ContainerConfig) -> pb.ContainerConfig:
    message = pb.ContainerConfig()
    fields.fill(message, config)
    return message


def container_message(view: ContainerView) -> pb.Container:
    return pb.Container(
        id=view.record.id,
        name=view.name,
        image=view.record.image,
        image_asked=view.config.image,
        command=view.command,
        status=view.status,
        pid=view.pid,
        exit_status=view.state.exit_status,
        created_at=timestamp(view.record.created_at),
        started_at=timestamp(view.state.started_at),
        exited_at=timestamp(view.state.exited_at),
        labels={k: v for k, v in view.record.labels.items() if k != NAME},
        error=view.state.error,
        connections=map(connection_message, view.connections),
        restarts=view.state.restarts,
        oom_killed=view.state.oom_killed,
        health=_health(view.health) if view.health is not None else None,
        exec_ids=view.execs,
        networks=_networks(view),
        exposed=view.config.exposed,
    )


def _networks(view: ContainerView) -> list[str]:
    config = view.config
    first = config.network or ("" if config.endpoints else "bridge")
    return list(dict.fromkeys(filter(None, (first, *(one.network for one in config.endpoints)))))


def _health(health: Health) -> pb.Health:
    return pb.Health(
        status=health.status,
        failing_streak=health.failing_streak,
        log=[
            pb.Probe(
                started_at=timestamp(one.started_at),
                ended_at=timestamp(one.ended_at),
                exit_code=one.exit_code,
                output=one.output,
            )
            for one in health.log
        ],
    )


def connection_message(connection: Connection) -> pb.Connection:
    message = pb.Connection(
        network=connection.network,
        ifname=connection.ifname,
        addresses=connection.addresses,
        gateways=connection.gateways,
        mac=connection.mac,
        aliases=connection.aliases,
    )
    for port in connection.ports:
        fields.fill(message.ports.add(), port)
    return message
