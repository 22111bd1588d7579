"""What a container can be asked to be, beside its image and command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from cored._pb.cored.workloads.v1 import workloads_pb2 as pb
from cored.client.api.values import Port
from cored.errors import InvalidArgument

__all__ = ["Bind", "ContainerOptions", "Tmpfs", "VolumeMount", "configured", "policy"]


@dataclass(frozen=True, slots=True)
class Bind:
    """A path of the daemon's host, absolute, at ``target``."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """A volume at ``target``; made when it is not there, and anonymous without a name."""

    name: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """Memory at ``target``; ``options`` as mount(8) has them: ``size=64m,mode=1777``."""

    target: str
    options: str = ""


class ContainerOptions(TypedDict, total=False):
    """Options of :meth:`Containers.create` and its like; what is left out is the image's, or none.

    ``memory`` is in bytes, ``cpus`` how many (1.5), ``stop_timeout`` in seconds; ``restart`` is
    ``no``, ``always``, ``unless-stopped``, ``on-failure`` or ``on-failure:3``. ``config`` is for
    all else: a ``ContainerConfig`` of the daemon's API, into which the others are put.
    """

    name: str
    env: Mapping[str, str]
    entrypoint: Sequence[str]
    working_directory: str
    user: str
    hostname: str
    labels: Mapping[str, str]
    mounts: Sequence[Bind | VolumeMount | Tmpfs]
    ports: Sequence[Port]
    network: str
    extra_hosts: Sequence[str]
    memory: int
    cpus: float
    pids: int
    restart: str
    init: bool
    privileged: bool
    read_only: bool
    cap_add: Sequence[str]
    cap_drop: Sequence[str]
    stop_signal: str
    stop_timeout: int
    auto_remove: bool
    terminal: bool
    open_stdin: bool
    platform: str
    runtime: str
    snapshotter: str
    log_driver: str
    log_options: Mapping[str, str]
    config: pb.ContainerConfig


# of the same name and kind in the message
_PLAIN = frozenset({
    "name", "working_directory", "user", "hostname", "network", "init", "privileged", "read_only",
    "stop_signal", "stop_timeout", "auto_remove", "terminal", "open_stdin", "platform", "runtime",
    "snapshotter",
})  # fmt: skip
_LISTS = frozenset({"extra_hosts", "cap_add", "cap_drop"})


def configured(
    image: str, command: Sequence[str], options: Mapping[str, Any]
) -> pb.ContainerConfig:
    """The request. InvalidArgument for an option that is not known."""
    if isinstance(command, str):
        raise InvalidArgument(
            f"command {command!r}: must be a list of words", hint='["sh", "-c", "..."]'
        )
    config = pb.ContainerConfig()
    if "config" in options:
        config.CopyFrom(options["config"])
    config.image = image or config.image
    config.args.extend(command)
    for name, given in options.items():
        if name in _PLAIN:
            setattr(config, name, given)
        elif name in _LISTS:
            getattr(config, name).extend(given)
        elif name in _SPECIAL:
            _SPECIAL[name](config, given)
        elif name != "config":
            known = ", ".join(sorted(ContainerOptions.__annotations__))
            raise InvalidArgument(f"option {name!r}: unknown", hint=f"known: {known}")
    return config


def policy(text: str) -> pb.RestartPolicy:
    """``on-failure:3``. InvalidArgument."""
    name, colon, number = text.partition(":")
    if colon and not number.isdecimal():
        raise InvalidArgument(f"restart {text!r}: not understood", hint="on-failure:3")
    return pb.RestartPolicy(name=name, maximum=int(number or 0))


def _mount(config: pb.ContainerConfig, given: Sequence[Bind | VolumeMount | Tmpfs]) -> None:
    for one in given:
        match one:
            case Bind():
                config.mounts.add(source=one.source, target=one.target, read_only=one.read_only)
            case VolumeMount():
                config.volumes.add(name=one.name, target=one.target, read_only=one.read_only)
            case Tmpfs():
                config.tmpfs.add(target=one.target, options=one.options)


def _publish(config: pb.ContainerConfig, given: Sequence[Port]) -> None:
    for one in given:
        config.ports.add(
            container=one.container, host=one.host, protocol=one.protocol, host_ip=one.host_ip
        )


_SPECIAL: Mapping[str, Any] = {
    "env": lambda config, given: config.env.extend(f"{k}={v}" for k, v in given.items()),
    "labels": lambda config, given: config.labels.update(given),
    "entrypoint": lambda config, given: config.entrypoint.CopyFrom(pb.Entrypoint(args=given)),
    "mounts": _mount,
    "ports": _publish,
    "memory": lambda config, given: setattr(config.resources, "memory_limit", given),
    "cpus": lambda config, given: setattr(config.resources, "nano_cpus", round(given * 1e9)),
    "pids": lambda config, given: setattr(config.resources, "pids_limit", given),
    "restart": lambda config, given: config.restart.CopyFrom(policy(given)),
    "log_driver": lambda config, given: setattr(config.logging, "driver", given),
    "log_options": lambda config, given: config.logging.options.update(given),
}
