"""Images from Dockerfiles.

Awaited; written by tests/surfaces.py.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence

from cored.client.aio.verbs import Verbs, iteration
from cored.client.api import builds as api
from cored.client.api.values import BuildStep, CacheRecord, Pruned

__all__ = ["Builds"]


class Builds(Verbs):
    """The builder, and what it keeps."""

    _inner: api.Builds

    async def build(
        self,
        context: str | os.PathLike[str],
        *,
        dockerfile: str | None = None,
        tags: Sequence[str] = (),
        args: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        target: str = "",
        platform: str = "",
        secrets: Mapping[str, bytes] | None = None,
        no_cache: bool = False,
        pull: bool = False,
    ) -> str:
        """Build the directory ``context``; the image's id. CoredError says what failed, and where.

        ``dockerfile`` is its text; None reads the file ``Dockerfile`` of the context.
        """
        return await self._call(
            self._inner.build,
            context,
            dockerfile=dockerfile,
            tags=tags,
            args=args,
            labels=labels,
            target=target,
            platform=platform,
            secrets=secrets,
            no_cache=no_cache,
            pull=pull,
        )

    def watch(
        self,
        context: str | os.PathLike[str],
        *,
        dockerfile: str | None = None,
        tags: Sequence[str] = (),
        args: Mapping[str, str] | None = None,
        target: str = "",
    ) -> AsyncIterator[BuildStep]:
        """The same, told as it goes: each step whenever it changes or has written something."""
        return iteration(
            lambda: self._inner.watch(
                context, dockerfile=dockerfile, tags=tags, args=args, target=target
            )
        )

    async def cache(self) -> list[CacheRecord]:
        """What is kept, the latest used first."""
        return await self._call(self._inner.cache)

    async def prune(self, *, keep_size: int = 0, unused_for: float = 0.0) -> Pruned:
        """Forget what is kept, down to so many bytes, or what was not used for so many seconds."""
        return await self._call(self._inner.prune, keep_size=keep_size, unused_for=unused_for)
