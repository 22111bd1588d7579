"""Options of run and create, and the configuration that they stand for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import click

from corectl import files
from corectl.care import care_options, gpus, health, patience, restart_policy
from corectl.isolation import device, isolation_options, namespaces, security, sysctls, tmpfs
from corectl.limits import limit_options, resources, ulimit
from corectl.mounts import sorted_mounts
from corectl.networking import dns, endpoints, first_network, network_options, ports
from corectl.sizes import count
from corectl.wide_help import WideCommand, names_of
from cored.errors import InvalidArgument

if TYPE_CHECKING:
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

__all__ = ["ContainerCommand", "container_config", "container_options", "environment"]


class ContainerCommand(WideCommand):
    """run and create."""

    groups: ClassVar = {
        "Files": lambda: frozenset({"volume", "mount", "volumes_from", "volume_driver", "tmpfs"}),
        "Networks": lambda: names_of(network_options()),
        "Rights, devices, namespaces": lambda: names_of(isolation_options()),
        "Limits": lambda: names_of(limit_options()),
        "Restarts, health, end": lambda: names_of(care_options()),
    }


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
            metavar="[SRC:]DST[:ro]",
            help="A volume, or a directory of the host.",
        ),
        option("--mount", multiple=True, metavar="KEY=VALUE,...", help="type=bind|volume|tmpfs."),
        option("--volumes-from", multiple=True, metavar="CONTAINER[:ro]", help="Its volumes, too."),
        option("--env-file", multiple=True, metavar="FILE", help="Lines of NAME=VALUE."),
        option("--label-file", multiple=True, metavar="FILE", help="Lines of NAME=VALUE."),
        option("--annotation", multiple=True, metavar="NAME=VALUE", help="For the runtime."),
        option("--umask", default="", metavar="MODE", help="As 0027."),
        option("--gpus", default="", metavar="all|N|device=…", help="GPUs, by their CDI files."),
        option("--cidfile", default="", metavar="FILE", help="Write the id there."),
        option(
            "--pidfile", default="", metavar="FILE", help="Write its first process's pid there."
        ),
        option("--volume-driver", default="", help="Of volumes that -v makes [local]."),
        option("-w", "--workdir", default="", help="Working directory."),
        option("-u", "--user", default="", metavar="UID[:GID]", help="User, by number or name."),
        option("--entrypoint", default=None, help="In place of the image's entrypoint."),
        option("-h", "--hostname", default="", help="Host name."),
        *network_options(),
        *isolation_options(),
        *limit_options(),
        *care_options(),
        option("--log-driver", default="", metavar="DRIVER", help="Where output goes."),
        option("--log-opt", multiple=True, metavar="NAME=VALUE", help="As max-size=10m."),
        option("-l", "--label", multiple=True, metavar="NAME[=VALUE]", help="Label."),
        option(
            "--pull",
            type=click.Choice(["missing", "always", "never"]),
            default="missing",
            show_default=True,
            help="When to fetch the image.",
        ),
        option("-q", "--quiet", is_flag=True, help="Say nothing of fetching the image."),
        option("--storage-opt", multiple=True, metavar="NAME=VALUE", help="Of its snapshotter."),
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
    binds, volumes, in_memory = sorted_mounts(options)
    cdi = [text for text in options["device"] if not text.startswith("/") and "=" in text]
    return pb.ContainerConfig(
        image=options["image"],
        name=options["name"],
        args=options["args"],
        entrypoint=None
        if entrypoint is None
        else pb.Entrypoint(args=[entrypoint] if entrypoint else []),
        env=[*files.environment(options["env_file"]), *environment(options["env"], os.environ)],
        working_directory=options["workdir"],
        user=options["user"],
        terminal=options["tty"],
        open_stdin=options["interactive"],
        mounts=binds,
        volumes=volumes,
        volumes_from=options["volumes_from"],
        hostname=options["hostname"],
        labels=files.pairs((*files.lines(options["label_file"]), *options["label"]), "label"),
        annotations=files.pairs(options["annotation"]),
        restart=restart_policy(options["restart"]),
        health=health(options),
        init=options["init"],
        stop_timeout=patience(options["stop_timeout"]),
        umask=files.mode(options["umask"]),
        cdi_devices=[*gpus(options["gpus"]), *cdi],
        exposed=files.ports(options["expose"]),
        auto_remove=options["auto_remove"],
        privileged=options["privileged"],
        read_only=options["read_only"],
        cap_add=options["cap_add"],
        cap_drop=options["cap_drop"],
        resources=resources(options),
        network=first_network(options),
        endpoints=endpoints(options),
        ports=ports(options["publish"]),
        publish_all=options["publish_all"],
        dns=dns(options),
        extra_hosts=options["add_host"],
        domainname=options["domainname"],
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
        devices=[device(text) for text in options["device"] if text not in cdi],
        device_cgroup_rules=options["device_cgroup_rule"],
        tmpfs=[*in_memory, *(tmpfs(text) for text in options["tmpfs"])],
        shm_size=count(options["shm_size"]),
        oom_score_adj=options["oom_score_adj"],
        groups=options["group_add"],
        namespaces=namespaces(options),
        cgroup_parent=options["cgroup_parent"],
        storage_options=files.pairs(options["storage_opt"]),
        links=options["link"],
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


def _option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise InvalidArgument(f"--log-opt '{text}': not understood", hint="write max-size=10m")
    return name, value
