"""Files of containers."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator, Sequence

from cored._pb.cored.workloads.v1 import volumes_pb2 as pb
from cored.client.api import conversion
from cored.client.api.values import Change
from cored.client.workloads import Workloads
from cored.errors import InvalidArgument

__all__ = ["FileVerbs"]


class FileVerbs:
    """Of :class:`Containers`; those that do not run have files, too."""

    _calls: Workloads

    def copy_out(self, container: str, path: str, *, follow: bool = False) -> Iterator[bytes]:
        """A tar of what is at ``path``, piece by piece. NotFound."""
        _, pieces = self._calls.copy_out(container, path, follow=follow)
        yield from pieces

    def copy_in(
        self, container: str, path: str, tar: Iterable[bytes], *, owners: bool = True
    ) -> None:
        """Unpack a tar, given in pieces, in the directory ``path``; with its owners, or root's."""
        options = pb.CopyInOptions(container=container, path=path, archive=owners)
        self._calls.copy_in(options, tar)

    def read_file(self, container: str, path: str) -> bytes:
        """What is in a file. NotFound; InvalidArgument for a directory."""
        data = b"".join(self.copy_out(container, path, follow=True))
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                file = archive.extractfile(member)
                if file is not None:
                    return file.read()
        raise InvalidArgument(f"container {container!r}: {path}: is not a file")

    def write_file(self, container: str, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """Make a file, in a directory that is there.

        >>> box = client.containers.create("busybox", ["sh"])
        >>> client.containers.write_file(box.id, "/etc/motd", b"welcome")
        >>> client.containers.read_file(box.id, "/etc/motd")
        b'welcome'
        >>> [change.path for change in client.containers.changes(box.id)]
        ['/etc', '/etc/motd']
        >>> client.containers.remove(box.id)
        """
        directory, _, name = path.rpartition("/")
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(data), mode
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.addfile(member, io.BytesIO(data))
        self.copy_in(container, directory or "/", (buffer.getvalue(),))

    def changes(self, container: str) -> list[Change]:
        """What differs from its image."""
        return [conversion.value(Change, one) for one in self._calls.changes(container)]

    def export(self, container: str) -> Iterator[bytes]:
        """Its whole filesystem as a tar, piece by piece."""
        yield from self._calls.export_container(container)

    def commit(
        self,
        container: str,
        reference: str = "",
        *,
        author: str = "",
        message: str = "",
        changes: Sequence[str] = (),
        pause: bool = True,
    ) -> str:
        """An image of what it is now; its id. ``changes`` are instructions: ``CMD ls``."""
        request = pb.CommitRequest(
            container=container,
            reference=reference,
            author=author,
            message=message,
            changes=changes,
            pause=pause,
        )
        return self._calls.commit(request).id
