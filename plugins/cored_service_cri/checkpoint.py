"""Checkpoints of containers: an archive of what criu wrote, with the container's description."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

from google.protobuf import json_format

from cored.engine.gather import whole
from cored.engine.tasks import Tasks
from cored.errors import CoredError, FailedPrecondition, from_os_error
from cored_service_cri.values import Container

__all__ = ["archive"]


async def archive(tasks: Tasks, one: Container, location: Path) -> None:
    """Write the checkpoint of a container, which goes on running, to ``location``.

    FailedPrecondition without criu, and whatever the runtime says.
    """
    # to its end: who asked may be cut off, and the container would stay frozen
    await whole(_archive(tasks, one, location))


async def _archive(tasks: Tasks, one: Container, location: Path) -> None:
    await tasks.pause(one.id)
    try:
        place = await asyncio.to_thread(tempfile.mkdtemp, prefix="checkpoint-", dir=location.parent)
        try:
            await _checkpoint(tasks, one.id, place)
            await asyncio.to_thread(_pack, one, Path(place), location)
        finally:
            await asyncio.to_thread(shutil.rmtree, place)
    except OSError as error:
        raise from_os_error(f"checkpoint {location}", error) from error
    finally:
        await tasks.resume(one.id)


async def _checkpoint(tasks: Tasks, id: str, place: str) -> None:
    try:
        await tasks.checkpoint(id, place, None)
    except CoredError as error:
        # not asked before: a runtime may have a criu of its own
        if shutil.which("criu") is None:
            raise FailedPrecondition(
                f"container {id!r}: cannot be checkpointed: there is no criu ({error.message})",
                hint="install criu",
            ) from error
        raise


def _pack(one: Container, images: Path, location: Path) -> None:
    config = json_format.MessageToDict(one.config, preserving_proto_field_name=True)
    about = {"id": one.id, "image": one.state.image, "config": config}
    description = images / "container.json"
    description.write_text(json.dumps(about))
    new = location.with_name(f".{location.name}.new")
    new.unlink(missing_ok=True)
    try:
        # all that the container has in its memory is in there
        private = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(private, "wb") as file, tarfile.open(fileobj=file, mode="w") as packed:
            packed.add(images, "checkpoint")
        new.replace(location)
    finally:
        new.unlink(missing_ok=True)
