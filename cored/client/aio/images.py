"""Images.

Awaited; written by tests/surfaces.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, BinaryIO

from cored.client.aio.verbs import Verbs, iteration
from cored.client.api import images as api
from cored.client.api.images import Auth
from cored.client.api.values import Image, Progress, Pruned

__all__ = ["Auth", "Images"]


class Images(Verbs):
    """An image is named by a reference, complete or short, or by (the beginning of) its id."""

    _inner: api.Images

    async def list(self, filters: Sequence[str] = ()) -> list[Image]:
        """Those that pass docker's filters: ``reference=*box*``, ``dangling=true``."""
        return await self._call(self._inner.list, filters)

    async def inspect(self, reference: str, platform: str = "") -> dict[str, Any]:
        """An image's configuration, as the OCI specification has it. NotFound."""
        return await self._call(self._inner.inspect, reference, platform)

    async def pull(
        self,
        reference: str,
        *,
        platform: str = "",
        all_platforms: bool = False,
        auth: Sequence[Auth] = (),
    ) -> Image:
        """Fetch and unpack one. NotFound, PermissionDenied, Unavailable as the registry has it."""
        return await self._call(
            self._inner.pull, reference, platform=platform, all_platforms=all_platforms, auth=auth
        )

    def watch_pull(self, reference: str, *, auth: Sequence[Auth] = ()) -> AsyncIterator[Progress]:
        """The same, told as it goes; it ends with the iterator, also when that is closed."""
        return iteration(lambda: self._inner.watch_pull(reference, auth=auth))

    async def push(
        self,
        reference: str,
        destination: str = "",
        *,
        platform: str = "",
        all_platforms: bool = False,
        auth: Sequence[Auth] = (),
    ) -> Image:
        """Send one to the registry of its name, or of ``destination``."""
        return await self._call(
            self._inner.push,
            reference,
            destination,
            platform=platform,
            all_platforms=all_platforms,
            auth=auth,
        )

    async def load(self, archive: BinaryIO | bytes, *, name: str = "") -> tuple[Image, ...]:
        """Images of an OCI layout or docker-archive; ``name`` for one that has none."""
        return await self._call(self._inner.load, archive, name=name)

    def save(
        self, references: Sequence[str], platforms: Sequence[str] = ()
    ) -> AsyncIterator[bytes]:
        """Images as one archive, piece by piece; the same images give the same bytes."""
        return iteration(lambda: self._inner.save(references, platforms))

    async def tag(self, source: str, target: str) -> None:
        """One more name for an image."""
        await self._call(self._inner.tag, source, target)

    async def remove(self, reference: str, *, force: bool = False) -> Pruned:
        """Take a name away, or by id all of them; and with the last one the image."""
        return await self._call(self._inner.remove, reference, force=force)

    async def prune(self, filters: Sequence[str] = (), *, all: bool = False) -> Pruned:
        """Remove those without a name, or all that no container was made from."""
        return await self._call(self._inner.prune, filters, all=all)

    async def login(self, auth: Auth) -> str:
        """Ask a registry whether it knows a user. An identity token for next time, or ''."""
        return await self._call(self._inner.login, auth)
