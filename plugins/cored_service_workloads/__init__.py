"""The gRPC service ``workloads``: images and containers as people think of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cored.abc.content import ContentStore
from cored.abc.records import ImageStore, LeaseStore
from cored.abc.service import Service
from cored.hookspecs import PluginContext, Provider, hookimpl

__all__ = ["cored_grpc_service"]


@asynccontextmanager
async def _opened(context: PluginContext) -> AsyncIterator[Service]:
    from cored.engine.adjustments import Adjustments
    from cored.engine.commit import Committer
    from cored.engine.containers import Containers
    from cored.engine.export import Exporter
    from cored.engine.files import Files
    from cored.engine.image_details import ImageDetails
    from cored.engine.image_mounts import ImageMounts
    from cored.engine.image_removal import ImageRemoval
    from cored.engine.images import Images
    from cored.engine.importing import Importer
    from cored.engine.journal import Journal
    from cored.engine.pull import Puller
    from cored.engine.push import Pusher
    from cored.engine.registry import Registry
    from cored.engine.tasks import Tasks
    from cored_service_workloads.files import FileParts
    from cored_service_workloads.images import ImageParts
    from cored_service_workloads.processes import ProcessParts
    from cored_service_workloads.service import WorkloadsService

    yield WorkloadsService(
        context.require(Containers),
        ImageParts(
            images=context.require(Images),
            store=context.require(ImageStore),  # type: ignore[type-abstract]
            content=context.require(ContentStore),  # type: ignore[type-abstract]
            leases=context.require(LeaseStore),  # type: ignore[type-abstract]
            details=context.require(ImageDetails),
            removal=context.require(ImageRemoval),
            mounts=context.require(ImageMounts),
            puller=context.require(Puller),
            pusher=context.require(Pusher),
            importer=context.require(Importer),
            exporter=context.require(Exporter),
            registry=context.require(Registry),
        ),
        ProcessParts(
            context.require(Containers),
            context.require(Adjustments),
            context.require(Journal),
            context.require(Tasks),
        ),
        FileParts(context.require(Files), context.require(Committer)),
    )


@hookimpl
def cored_grpc_service() -> Provider[Service]:
    return Provider("workloads", _opened)
