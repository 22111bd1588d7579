"""system: info, df, prune."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

import cored
from corectl import output
from corectl.session import Session

if TYPE_CHECKING:
    from cored._pb.cored.workloads.v1 import system_pb2 as pb

__all__ = ["info", "prune"]


@click.command()
@click.option("-f", "--format", "form", default="", metavar="json|TEMPLATE", help="Go template.")
@click.pass_obj
def info(session: Session, form: str) -> None:
    """Show what the daemon is, has, and runs on."""
    from cored.client.system import System

    found = System(session.channel).info()
    if form:
        output.listing(form, {}, [_record(session, found)])
        return
    click.echo(f"Client:\n Version:    {cored.__version__}")
    click.echo(f" Namespace:  {session.namespace}\n\nServer:")
    for line in _lines(found):
        click.echo(f" {line}")
    for warning in found.warnings:
        click.echo(f"WARNING: {warning}", err=True)


def _lines(found: pb.InfoResponse) -> list[str]:
    """In docker's order and words, as far as it has them."""
    plugins = {kind: " ".join(each.ids) for kind, each in found.plugins.items()}
    return [
        f"Containers: {found.containers}",
        f" Running: {found.running}",
        f" Paused: {found.paused}",
        f" Stopped: {found.stopped}",
        f"Images: {found.images}",
        f"Server Version: {found.version}",
        f"Storage Driver: {found.snapshotter}",
        f"Logging Driver: {found.log_driver}",
        f"Cgroup Version: {found.cgroup_version}",
        "Plugins:",
        f" Volume: {' '.join(_drivers('volume', found))}",
        f" Network: {plugins.get('network', '')}",
        f" Log: {' '.join(_drivers('log', found))}",
        f" Snapshotter: {plugins.get('snapshotter', '')}",
        f"Runtimes: {' '.join(found.runtimes)}",
        f"Default Runtime: {found.runtime}",
        "Security Options:",
        *(f" {option}" for option in found.security),
        f"Kernel Version: {found.kernel}",
        f"Operating System: {found.operating_system}",
        "OSType: linux",
        f"Architecture: {found.architecture}",
        f"CPUs: {found.cpus}",
        f"Total Memory: {_memory(found.memory)}",
        f"Name: {found.host}",
        f"Root Dir: {found.root}",
        f"State Dir: {found.state}",
        f"Pid: {found.pid}",
        f"Log Level: {found.log_level}",
    ]


def _drivers(kind: str, found: pb.InfoResponse) -> list[str]:
    """Of volumes or logs: the daemon's own, and those of plugins."""
    own = {"volume": ("local",), "log": ("journald", "json-file", "local", "none", "syslog")}[kind]
    return sorted({*own, *found.plugins[f"{kind}_driver"].ids})


def _memory(count: int) -> str:
    from corectl.commands.watching import binary

    return binary(count)


def _record(session: Session, found: pb.InfoResponse) -> dict[str, Any]:
    """By docker's names."""
    return {
        "ID": found.host,
        "Containers": found.containers,
        "ContainersRunning": found.running,
        "ContainersPaused": found.paused,
        "ContainersStopped": found.stopped,
        "Images": found.images,
        "Driver": found.snapshotter,
        "LoggingDriver": found.log_driver,
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": str(found.cgroup_version),
        "Plugins": {
            "Volume": _drivers("volume", found),
            "Network": list(found.plugins["network"].ids),
            "Log": _drivers("log", found),
            "Snapshotter": list(found.plugins["snapshotter"].ids),
        },
        "Runtimes": {name: {} for name in found.runtimes},
        "DefaultRuntime": found.runtime,
        "SecurityOptions": list(found.security),
        "KernelVersion": found.kernel,
        "OperatingSystem": found.operating_system,
        "OSType": "linux",
        "Architecture": found.architecture,
        "NCPU": found.cpus,
        "MemTotal": found.memory,
        "Name": found.host,
        "ServerVersion": found.version,
        "DockerRootDir": found.root,
        "LiveRestoreEnabled": True,
        "Swarm": {"LocalNodeState": "inactive"},
        "Labels": [],
        "Debug": found.log_level == "debug",
        "Warnings": list(found.warnings),
        "ClientInfo": {"Version": cored.__version__, "Namespace": session.namespace},
    }


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="All images that nobody uses.")
@click.option("--volumes", is_flag=True, help="Anonymous volumes that nobody uses, too.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option(
    "--filter", "filters", multiple=True, metavar="KEY=VALUE", help="until=, label=, label!=."
)
@click.pass_obj
def prune(
    session: Session, everything: bool, volumes: bool, force: bool, filters: tuple[str, ...]
) -> None:
    """Remove what nobody uses: containers, networks, images, what builds keep."""
    if volumes and any(text.startswith("until=") for text in filters):
        raise click.UsageError('the "until" filter is not for --volumes')
    if not force:
        click.echo(_warning(everything=everything, volumes=volumes, filters=filters), err=True)
        click.confirm("Are you sure you want to continue?", abort=True, err=True)
    containers = session.workloads.prune_containers(filters)
    freed = containers.reclaimed
    _tell("Deleted Containers:", containers.removed)
    if not filters:  # networks know neither labels nor times
        _tell("Deleted Networks:", session.networks.prune())
    if volumes:
        done = session.volumes.prune(filters)
        freed += done.reclaimed
        _tell("Deleted Volumes:", done.removed)
    images = session.workloads.prune_images(filters, everything=everything)
    freed += images.reclaimed
    gone = [*(f"untagged: {output.familiar(name)}" for name in images.untagged)]
    _tell("Deleted Images:", [*gone, *(f"deleted: {digest}" for digest in images.deleted)])
    if not filters:
        cache = session.builds.prune()
        freed += cache.freed
        if cache.removed:
            click.echo(f"Deleted build cache: {cache.removed} steps\n")
    click.echo(f"Total reclaimed space: {output.size(freed).replace(' ', '')}")


def _warning(*, everything: bool, volumes: bool, filters: tuple[str, ...]) -> str:
    going = ["all stopped containers"]
    going += [] if filters else ["all networks not used by at least one container"]
    going += ["all anonymous volumes not used by at least one container"] if volumes else []
    going += [
        "all images without at least one container associated to them"
        if everything
        else "all dangling images"
    ]
    going += [] if filters else ["all build cache"]
    lines = "".join(f"\n  - {what}" for what in going)
    only = "".join(f"\n  - {text}" for text in filters)
    more = f"\n\n  Items to be pruned will be filtered with:{only}" if only else ""
    return f"WARNING! This will remove:{lines}{more}\n"


def _tell(title: str, names: Any) -> None:
    if names:
        click.echo(title)
        for name in names:
            click.echo(name)
        click.echo()
