"""Options of run and create about a container's life: health, restarts, its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from corectl.times import duration
from cored.errors import InvalidArgument

if TYPE_CHECKING:
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

__all__ = ["EVER", "care_options", "gpus", "health", "patience", "restart_policy"]

EVER = (1 << 31) - 1
"""Seconds, as long as a number goes."""


def care_options() -> Sequence[Callable[..., Any]]:
    option = click.option
    return (
        option(
            "--restart",
            default="",
            metavar="POLICY",
            help="no, on-failure[:N], always, unless-stopped.",
        ),
        option("--stop-signal", default="", help="Signal that stops it."),
        option("--stop-timeout", type=int, default=None, help="Seconds until SIGKILL [10]."),
        option("--init", is_flag=True, help="A small first process that reaps and passes signals."),
        option("--health-cmd", default="", metavar="COMMAND", help="Says whether it is well."),
        option("--health-interval", default="", metavar="TIME", help="Between two looks [30s]."),
        option("--health-timeout", default="", metavar="TIME", help="Of one look [30s]."),
        option("--health-retries", type=int, default=0, help="Failures until unhealthy [3]."),
        option(
            "--health-start-period", default="", metavar="TIME", help="Failures do not count yet."
        ),
        option(
            "--health-start-interval", default="", metavar="TIME", help="Between looks then [5s]."
        ),
        option("--no-healthcheck", is_flag=True, help="Not the image's check, either."),
    )


def restart_policy(text: str) -> pb.RestartPolicy | None:
    """``on-failure:3``; None for nothing. InvalidArgument."""
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    if not text:
        return None
    name, colon, number = text.partition(":")
    if colon and not number.isdecimal():
        raise InvalidArgument(f"--restart '{text}': not understood", hint="on-failure:3")
    return pb.RestartPolicy(name=name, maximum=int(number or 0))


def health(options: Mapping[str, Any]) -> pb.HealthCheck | None:
    """What is said of health checks; None leaves it to the image. InvalidArgument."""
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    said = {
        "interval": duration(options["health_interval"]),
        "timeout": duration(options["health_timeout"]),
        "retries": options["health_retries"],
        "start_period": duration(options["health_start_period"]),
        "start_interval": duration(options["health_start_interval"]),
    }
    if said["retries"] < 0:
        raise InvalidArgument("--health-retries: must not be negative")
    command = options["health_cmd"]
    if options["no_healthcheck"]:
        if command or any(said.values()):
            raise InvalidArgument("--no-healthcheck: goes with no --health option")
        return pb.HealthCheck(test=["NONE"])
    if command:
        return pb.HealthCheck(test=["CMD-SHELL", command], **said)
    return pb.HealthCheck(**said) if any(said.values()) else None


def patience(seconds: int | None) -> int | None:
    """docker's -1 waits for ever with the stop of a container; None is the usual."""
    return EVER if seconds is not None and seconds < 0 else seconds


def gpus(text: str) -> list[str]:
    """docker's --gpus as names of CDI: all, a number, or ``device=0,1``. InvalidArgument."""
    if not text:
        return []
    kind = "nvidia.com/gpu"
    value = text.strip('"').removeprefix("device=").removeprefix("count=")
    if text in ("all", "count=all", "-1"):
        return [f"{kind}=all"]
    if text.strip('"').startswith("device="):
        return [f"{kind}={one}" for one in value.split(",")]
    if value.isdecimal():
        return [f"{kind}={number}" for number in range(int(value))]
    raise InvalidArgument(f"--gpus '{text}': not understood", hint="all, 2, or device=0,1")
