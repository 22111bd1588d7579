"""Files of containers.

Awaited; written by tests/surfaces.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence

from cored.client.aio.verbs import Verbs, iteration
from cored.client.api import container_files as api
from cored.client.api.values import Change

__all__ = ["FileVerbs"]


class FileVerbs(Verbs):
    """Of :class:`Containers`; those that do not run have files, too."""

    _inner: api.FileVerbs

    def copy_out(self, container: str, path: str, *, follow: bool = False) -> AsyncIterator[bytes]:
        """A tar of what is at ``path``, piece by piece. NotFound."""
        return iteration(lambda: self._inner.copy_out(container, path, follow=follow))

    async def copy_in(
        self, container: str, path: str, tar: Iterable[bytes], *, owners: bool = True
    ) -> None:
        """Unpack a tar, given in pieces, in the directory ``path``; with its owners, or root's."""
        await self._call(self._inner.copy_in, container, path, tar, owners=owners)

    async def read_file(self, container: str, path: str) -> bytes:
        """What is in a file. NotFound; InvalidArgument for a directory."""
        return await self._call(self._inner.read_file, container, path)

    async def write_file(self, container: str, path: str, data: bytes, *, mode: int = 420) -> None:
        """Make a file, in a directory that is there."""
        await self._call(self._inner.write_file, container, path, data, mode=mode)

    async def changes(self, container: str) -> list[Change]:
        """What differs from its image."""
        return await self._call(self._inner.changes, container)

    def export(self, container: str) -> AsyncIterator[bytes]:
        """Its whole filesystem as a tar, piece by piece."""
        return iteration(lambda: self._inner.export(container))

    async def commit(
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
        return await self._call(
            self._inner.commit,
            container,
            reference,
            author=author,
            message=message,
            changes=changes,
            pause=pause,
        )
