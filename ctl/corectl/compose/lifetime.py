"""What happens to a service's container over its life: restart, health, its first process."""

from __future__ import annotations

from typing import Any

from corectl.compose.model import Service
from corectl.compose.parts import HealthCheck
from cored._pb.cored.workloads.v1 import workloads_pb2 as pb
from cored.errors import InvalidArgument, Unimplemented

__all__ = ["lifetime", "put"]


def put(config: pb.ContainerConfig, field: str, value: Any, key: str) -> None:
    """Set a field of the message; ``value`` is a scalar, or a mapping or list as in JSON.

    Unimplemented where the daemon that this client is made for does not have the field.
    """
    from google.protobuf.json_format import ParseDict

    if not _knows(field):
        raise Unimplemented(f"{key}: this daemon does not have it yet", hint="take the key out")
    ParseDict({field: value}, config)


def _knows(field: str) -> bool:
    return field in pb.ContainerConfig.DESCRIPTOR.fields_by_name


def lifetime(config: pb.ContainerConfig, service: Service) -> None:
    """Put into ``config`` what the service says. InvalidArgument, Unimplemented."""
    if service.init:
        put(config, "init", True, "init")
    if policy := _restart(service):
        put(config, "restart", policy, "restart")
    if service.healthcheck is not None:
        test = _health(service.healthcheck)
        # a daemon that checks nothing need not be told to check nothing
        if test != {"test": ["NONE"]} or _knows("health"):
            put(config, "health", test, "healthcheck")
    # stopping tells the time, too
    if service.stop_grace_period is not None and _knows("stop_timeout"):
        seconds = -(-service.stop_grace_period // 10**9)
        put(config, "stop_timeout", seconds, "stop_grace_period")
    if service.annotations:
        annotations = {key: value or "" for key, value in service.annotations.items()}
        put(config, "annotations", annotations, "annotations")
    if service.gpus:
        put(config, "cdi_devices", ["nvidia.com/gpu=all"], "gpus")


def _restart(service: Service) -> dict[str, Any]:
    text = service.restart
    if not text and service.deploy and (policy := service.deploy.restart_policy):
        name = {"any": "always", "none": "no"}.get(policy.condition, policy.condition)
        text = f"{name}:{policy.max_attempts}" if policy.max_attempts else name
    name, _, maximum = text.partition(":")
    if name in ("", "no", "false"):
        return {}
    if name not in ("always", "on-failure", "unless-stopped") or (
        maximum and not maximum.isdecimal()
    ):
        hint = "no, always, on-failure[:N], unless-stopped"
        raise InvalidArgument(f"restart: '{text}' is not a policy", hint=hint)
    return {"name": name, "maximum": int(maximum or 0)}


def _health(check: HealthCheck) -> dict[str, Any]:
    test = list(check.test)
    if check.disable or test[:1] == ["NONE"]:
        return {"test": ["NONE"]}
    if test and test[0] not in ("CMD", "CMD-SHELL"):
        raise InvalidArgument(
            f"healthcheck.test: begins with '{test[0]}'", hint="CMD, CMD-SHELL or NONE"
        )
    return {
        "test": test,
        "interval": check.interval,
        "timeout": check.timeout,
        "retries": check.retries,
        "start_period": check.start_period,
        "start_interval": check.start_interval,
    }
