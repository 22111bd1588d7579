"""Opens the service ``cri``: all of its parts, in their order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cored import scope
from cored.abc.network import Network
from cored.abc.records import ContainerStore, ImageStore
from cored.abc.service import Service
from cored.engine.images import Images
from cored.engine.networks import Catalog
from cored.engine.roots import Roots
from cored.engine.snapshotters import Snapshotters
from cored.engine.tasks import Tasks
from cored.errors import InvalidArgument
from cored.hookspecs import PluginContext
from cored.oci.security import Host
from cored.scope import Scope
from cored_service_cri.cgroups import Cgroups
from cored_service_cri.containers import Containers
from cored_service_cri.events import Events
from cored_service_cri.execs import Execs
from cored_service_cri.imagefacts import ImageFacts
from cored_service_cri.lives import Lives
from cored_service_cri.metrics import Metrics
from cored_service_cri.networks import PodNetworks
from cored_service_cri.output import Output
from cored_service_cri.parts import Parts
from cored_service_cri.pods import Pods
from cored_service_cri.registry import Registry
from cored_service_cri.service import RuntimeService
from cored_service_cri.stats import Stats
from cored_service_cri.streaming import Streaming
from cored_service_cri.streaming.sessions import Sessions
from cored_service_cri.streaming.taps import Taps
from cored_service_cri.usage import Filesystem, by_handler
from cored_service_cri.values import NAMESPACE
from cored_service_cri.volumes import Volumes

__all__ = ["opened"]


@asynccontextmanager
async def opened(context: PluginContext) -> AsyncIterator[Service]:
    parts = _parts(context)
    with scope.entered(Scope(NAMESPACE)):
        await parts.registry.load()
        await parts.pods.recover()
        await parts.lives.recover()
        await parts.containers.recover()
        await parts.execs.recover()
        try:
            async with parts.streaming.opened(context.settings):
                yield RuntimeService(parts)
        finally:
            await parts.lives.close()
            await parts.pods.close()


def _parts(context: PluginContext) -> Parts:
    state = context.state
    store: ContainerStore = context.require(ContainerStore)  # type: ignore[type-abstract]
    network: Network = context.require(Network)  # type: ignore[type-abstract]
    tasks, host = context.require(Tasks), context.require(Host)
    snapshotters, roots = context.require(Snapshotters), context.require(Roots)
    image_store: ImageStore = context.require(ImageStore)  # type: ignore[type-abstract]
    images = ImageFacts(context.require(Images), image_store)
    registry, cgroups, output = Registry(store), Cgroups(), Output(state / "streams")
    events = Events(registry)
    networks = PodNetworks(network, context.require(Catalog), state / "netns")
    pods = Pods(registry, tasks, networks, cgroups, events, host, context.root, state / "pods")
    volumes = Volumes(images, roots, snapshotters, state / "volumes")
    lives = Lives(registry, tasks, snapshotters, output, cgroups, events)
    containers = Containers(
        registry,
        tasks,
        pods,
        images,
        roots,
        snapshotters,
        volumes,
        output,
        lives,
        events,
        host,
        by_handler(context.settings),
    )
    filesystem = Filesystem(snapshotters, str(context.root.parent))
    execs = Execs(tasks, registry, state / "execs")
    return Parts(
        registry=registry,
        tasks=tasks,
        networks=networks,
        pods=pods,
        containers=containers,
        lives=lives,
        output=output,
        execs=execs,
        streaming=Streaming(Sessions(tasks, execs, output, Taps(output))),
        cgroups=cgroups,
        stats=Stats(registry, cgroups, filesystem),
        metrics=Metrics(registry, cgroups, filesystem),
        events=events,
        host=host,
        cgroup_driver=_driver(context),
    )


def _driver(context: PluginContext) -> str:
    wanted = str(context.settings.get("cgroup_driver", ""))
    if wanted not in ("", "cgroupfs", "systemd"):
        raise InvalidArgument(
            f"plugin cri: cgroup_driver {wanted!r}: unknown", hint="cgroupfs or systemd"
        )
    return wanted or ("systemd" if Path("/run/systemd/system").is_dir() else "cgroupfs")
