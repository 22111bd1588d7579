"""What happens to a service's container over its life: restart, health, its first process."""

from __future__ import annotations

from corectl.compose.model import Service
from corectl.compose.parts import HealthCheck
from cored._pb.cored.workloads.v1 import workloads_pb2 as pb
from cored.errors import InvalidArgument

__all__ = ["lifetime"]


def lifetime(config: pb.ContainerConfig, service: Service) -> None:
    """Put into ``config`` what the service says. InvalidArgument."""
    config.init = bool(service.init)
    config.restart.CopyFrom(_restart(service))
    if service.healthcheck is not None:
        config.health.CopyFrom(_health(service.healthcheck))
    if service.stop_grace_period is not None:
        config.stop_timeout = -(-service.stop_grace_period // 10**9)
    for key, value in service.annotations.items():
        config.annotations[key] = value or ""
    if service.gpus:
        config.cdi_devices.append("nvidia.com/gpu=all")


def _restart(service: Service) -> pb.RestartPolicy:
    text = service.restart
    if not text and service.deploy and (policy := service.deploy.restart_policy):
        name = {"any": "always", "none": "no"}.get(policy.condition, policy.condition)
        text = f"{name}:{policy.max_attempts}" if policy.max_attempts else name
    name, _, maximum = text.partition(":")
    if name in ("", "no", "false"):
        return pb.RestartPolicy()
    known = name in ("always", "on-failure", "unless-stopped")
    if not known or (maximum and not maximum.isdecimal()):
        hint = "no, always, on-failure[:N], unless-stopped"
        raise InvalidArgument(f"restart: '{text}' is not a policy", hint=hint)
    return pb.RestartPolicy(name=name, maximum=int(maximum or 0))


def _health(check: HealthCheck) -> pb.HealthCheck:
    test = list(check.test)
    if check.disable or test[:1] == ["NONE"]:
        return pb.HealthCheck(test=["NONE"])
    if test and test[0] not in ("CMD", "CMD-SHELL"):
        raise InvalidArgument(
            f"healthcheck.test: begins with '{test[0]}'", hint="CMD, CMD-SHELL or NONE"
        )
    return pb.HealthCheck(
        test=test,
        interval=check.interval,
        timeout=check.timeout,
        retries=check.retries,
        start_period=check.start_period,
        start_interval=check.start_interval,
    )
