"""Options of run and create, and the configuration that they stand for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from corectl.isolation import device, isolation_options, namespaces, security, sysctls, tmpfs
from corectl.limits import limit_options, resources, ulimit
from corectl.sizes import count
from cored.errors import InvalidArgument

if TYPE_CHECKING:
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

__all__ = ["container_config", "container_options", "environment", "mount"]


def container_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate with what run and create have in common; options end at IMAGE."""
    for option in reversed(_options()):
        command = option(command)
    return command


def _options() -> Sequence[Callable[..., Any]]:
    option = click.option
    return (
        option("-i", "--interactive", is_flag=True, help="Keep standard input open."),
        option("-t", "--tty", is_flag=True, help="Give it a terminal."),
        option("--rm", "auto_remove", is_flag=True, help="Remove it when it ends."),
        option("--name", default="", help="Name; made up when not given."),
        option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Environment variable."),
        option(
            "-v",
            "--volume",
            multiple=True,
            metavar="SRC:DST[:ro]",
            help="Bind mount from the host.",
        ),
        option("-w", "--workdir", default="", help="Working directory."),
        option("-u", "--user", default="", metavar="UID[:GID]", help="User, by number or name."),
        option("--entrypoint", default=None, help="In place of the image's entrypoint."),
        option("-h", "--hostname", default="", help="Host name."),
        option("--network", default="", metavar="private|host", help="Network."),
        *isolation_options(),
        *limit_options(),
        option("--log-driver", default="", metavar="json-file|none", help="Where output is kept."),
        option("--log-opt", multiple=True, metavar="NAME=VALUE", help="As max-size=10m."),
        option("-l", "--label", multiple=True, metavar="NAME[=VALUE]", help="Label."),
        option("--stop-signal", default="", help="Signal that stops it."),
        option(
            "--pull",
            type=click.Choice(["missing", "always", "never"]),
            default="missing",
            show_default=True,
            help="When to fetch the image.",
        ),
        option("--platform", default="", help="os/arch[/variant] of the image."),
        option("--runtime", default="", help="Runtime."),
        option("--snapshotter", default="", help="Snapshotter."),
        click.argument("image"),
        click.argument("args", metavar="[COMMAND [ARG]...]", nargs=-1, type=click.UNPROCESSED),
    )


def container_config(options: Mapping[str, Any]) -> pb.ContainerConfig:
    """What the parsed options ask for. InvalidArgument."""
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    entrypoint = options["entrypoint"]
    return pb.ContainerConfig(
        image=options["image"],
        name=options["name"],
        args=options["args"],
        entrypoint=None
        if entrypoint is None
        else pb.Entrypoint(args=[entrypoint] if entrypoint else []),
        env=environment(options["env"], os.environ),
        working_directory=options["workdir"],
        user=options["user"],
        terminal=options["tty"],
        open_stdin=options["interactive"],
        mounts=[mount(text) for text in options["volume"]],
        hostname=options["hostname"],
        labels={name: value for name, _, value in (s.partition("=") for s in options["label"])},
        auto_remove=options["auto_remove"],
        privileged=options["privileged"],
        read_only=options["read_only"],
        cap_add=options["cap_add"],
        cap_drop=options["cap_drop"],
        resources=resources(options),
        network=options["network"],
        runtime=options["runtime"],
        snapshotter=options["snapshotter"],
        stop_signal=options["stop_signal"],
        platform=options["platform"],
        logging=pb.Logging(
            driver=options["log_driver"], options=dict(_option(text) for text in options["log_opt"])
        ),
        security=security(options["security_opt"]),
        ulimits=[ulimit(text) for text in options["ulimit"]],
        sysctls=sysctls(options["sysctl"]),
        devices=[device(text) for text in options["device"]],
        device_cgroup_rules=options["device_cgroup_rule"],
        tmpfs=[tmpfs(text) for text in options["tmpfs"]],
        shm_size=count(options["shm_size"]),
        oom_score_adj=options["oom_score_adj"],
        groups=options["group_add"],
        namespaces=namespaces(options),
        cgroup_parent=options["cgroup_parent"],
    )


def environment(given: Sequence[str], ours: Mapping[str, str]) -> list[str]:
    """NAME=VALUE as they are; NAME takes our value, or is left out when we have none."""
    found = []
    for text in given:
        name, equals, _ = text.partition("=")
        if not name:
            raise InvalidArgument(f"--env '{text}': no name", hint="write NAME=VALUE")
        if equals:
            found.append(text)
        elif name in ours:
            found.append(f"{name}={ours[name]}")
    return found


def mount(text: str) -> pb.BindMount:
    """SRC:DST[:ro|rw] as docker's -v; a source that begins with a dot is relative to here."""
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    hint = "write SOURCE:TARGET or SOURCE:TARGET:ro, both absolute paths"
    parts = text.split(":")
    if len(parts) not in (2, 3) or not all(parts):
        raise InvalidArgument(f"--volume '{text}': not understood", hint=hint)
    source, target, *modes = parts
    words = modes[0].split(",") if modes else []
    if unknown := set(words) - {"ro", "rw"}:
        raise InvalidArgument(f"--volume '{text}': unknown option {min(unknown)}", hint=hint)
    if source.split("/")[0] in (".", ".."):
        source = os.path.normpath(Path.cwd() / source)
    for kind, path in (("source", source), ("target", target)):
        if not path.startswith("/"):
            raise InvalidArgument(f"--volume '{text}': {kind} '{path}' is relative", hint=hint)
    return pb.BindMount(source=source, target=target, read_only="ro" in words, create_source=True)


def _option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise InvalidArgument(f"--log-opt '{text}': not understood", hint="write max-size=10m")
    return name, value
