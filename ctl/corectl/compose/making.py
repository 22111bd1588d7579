"""Containers with their files: mounted where the daemon sees them, otherwise copied to it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from corectl.compose import labels
from corectl.compose.materials import Material, Store
from cored.errors import FailedPrecondition, NotFound

if TYPE_CHECKING:
    from corectl.session import Session
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

__all__ = ["make", "write"]


def write(session: Session, store: Store, files: Sequence[Material]) -> None:
    """Put the project's own files where mounts show them; nothing for a daemon elsewhere."""
    if not session.remote:
        for file in files:
            store.write(file)


def make(
    session: Session,
    config: pb.ContainerConfig,
    files: Sequence[Material],
    stdio: pb.Stdio | None = None,
) -> pb.CreateResponse:
    """Make a container. FailedPrecondition for a bind mount of the project on another host."""
    if not session.remote:
        return session.workloads.create(config, stdio)
    from cored._pb.cored.workloads.v1 import volumes_pb2
    from cored._pb.cored.workloads.v1 import workloads_pb2 as pb

    own = {(str(file.path), file.target) for file in files}
    kept = [mount for mount in config.mounts if (mount.source, mount.target) not in own]
    for mount in kept:
        _check(session, config, mount.source)
    wanted = pb.ContainerConfig()
    wanted.CopyFrom(config)
    del wanted.mounts[:]
    wanted.mounts.extend(kept)
    made = session.workloads.create(wanted, stdio)
    if files:
        options = volumes_pb2.CopyInOptions(container=made.id, path="/", archive=True)
        session.workloads.copy_in(options, _archive(files))
    return made


def _check(session: Session, config: pb.ContainerConfig, source: str) -> None:
    directory = config.labels.get(labels.DIRECTORY, "")
    if directory and Path(source).is_relative_to(directory):
        raise FailedPrecondition(
            f"container '{config.name}': bind mount of {source}: is a path of this machine, and "
            f"the daemon is at {session.address}",
            hint="use a config, a volume, or an image with the files",
        )


def _archive(files: Sequence[Material]) -> Iterator[bytes]:
    """A tar with each file at its target."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for file in files:
            member = tarfile.TarInfo(file.target.lstrip("/"))
            content, member.mode = file.content, file.mode
            member.uid, member.gid = file.owner
            if content is None:
                try:
                    content = file.path.read_bytes()
                    member.mode = file.path.stat().st_mode & 0o7777
                except OSError as error:
                    raise NotFound(f"file {file.path}: {error.strerror}") from error
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    yield buffer.getvalue()
