"""Transfers that tell how far they got, as streams of messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from cored._pb.cored.workloads.v1 import workloads_pb2 as pb
from cored.abc.records import Image
from cored.engine.progress import Progress, Report
from cored_service_workloads.image_messages import image_message, progress_message

__all__ = ["reported"]

# nobody sees more changes a second than this of one blob
_INTERVAL = 0.1


async def reported(
    work: Callable[[Report], Awaitable[Sequence[Image]]],
    changed: Callable[[Image], bool] = lambda image: True,
) -> AsyncIterator[pb.TransferProgress]:
    """Run ``work`` and stream its progress, then a message for each image; raises what it does."""
    latest: dict[str, Progress] = {}
    wake = asyncio.Event()

    def report(progress: Progress) -> None:
        latest[progress.id] = progress
        wake.set()

    task = asyncio.ensure_future(work(report))
    task.add_done_callback(lambda _: wake.set())
    try:
        while not task.done():
            await wake.wait()
            wake.clear()
            for progress in list(latest.values()):
                yield progress_message(progress)
            latest.clear()
            if not task.done():
                await asyncio.wait([task], timeout=_INTERVAL)
        for progress in latest.values():  # how it ended
            yield progress_message(progress)
        for image in await task:
            yield pb.TransferProgress(
                id=image.name, status="done", image=image_message(image), changed=changed(image)
            )
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
