"""What may be pulled: asked of the plugins, before anything is fetched and before it is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cored import scope
from cored.abc.values import Descriptor
from cored.errors import PermissionDenied

__all__ = ["Policy"]


class Policy:
    """``pull`` and ``manifest`` are the hooks cored_image_pull and cored_image_manifest."""

    def __init__(self, pull: Callable[..., object], manifest: Callable[..., object]) -> None:
        self._pull = pull
        self._manifest = manifest

    def check_reference(self, reference: str) -> None:
        """PermissionDenied with the reason of the plugin that does not want it."""
        with _refusing(reference):
            self._pull(namespace=scope.namespace(), reference=reference)

    async def check_manifest(self, reference: str, target: Descriptor, manifest: bytes) -> None:
        """The same for what the reference turned out to be; in a thread, plugins may look far."""
        namespace = scope.namespace()
        with _refusing(reference):
            await asyncio.to_thread(
                self._manifest,
                namespace=namespace,
                reference=reference,
                target=target,
                manifest=manifest,
            )


@contextmanager
def _refusing(reference: str) -> Iterator[None]:
    try:
        yield
    except PermissionDenied as error:
        raise PermissionDenied(
            f"image {reference}: refused by policy: {error.message}", hint=error.hint
        ) from error
