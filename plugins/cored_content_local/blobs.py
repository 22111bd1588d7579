"""``<root>/blobs/<algorithm>/<hex>``; labels, where there are any, beside them in ``labels``.

Everything here blocks and may raise OSError; it is safe to call from several threads.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path

from cored.abc.content import Info
from cored.abc.values import Labels
from cored.errors import NotFound
from cored_content_local.names import ALGORITHMS, checked_digest, replace_file, sync_directory

__all__ = ["Blobs"]

_DIGITS = frozenset("0123456789abcdef")


class Blobs:
    """The finished blobs of one store."""

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs"
        self._labels = root / "labels"
        self._changing = threading.Lock()
        for top in (self._blobs, self._labels):
            for algorithm in ALGORITHMS:
                (top / algorithm).mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_directory(top)
        sync_directory(root)

    def path(self, digest: str) -> Path:
        """Where the blob of ``digest`` lies, if it is there. InvalidArgument for no digest."""
        algorithm, digits = checked_digest(digest)
        return self._blobs / algorithm / digits

    def info(self, digest: str) -> Info:
        """What is known of a blob. NotFound."""
        try:
            status = self.path(digest).stat()
        except FileNotFoundError as error:
            raise NotFound(f"content {digest}: not found") from error
        labels: Labels = {}
        updated = status.st_mtime_ns
        beside = self._beside(digest)
        if beside.exists():
            labels = json.loads(beside.read_text(encoding="utf-8"))
            updated = max(updated, beside.stat().st_mtime_ns)
        return Info(digest, status.st_size, labels, status.st_mtime_ns, updated)

    def listed(self) -> list[str]:
        """The digests of all blobs, in order; files that are no blobs are left out."""
        return [
            f"{algorithm}:{name}"
            for algorithm, length in ALGORITHMS.items()
            for name in sorted(os.listdir(self._blobs / algorithm))  # noqa: PTH208 - names will do
            if len(name) == length and _DIGITS.issuperset(name)
        ]

    def relabel(self, digest: str, labels: Mapping[str, str | None], *, replace: bool) -> Info:
        """Change labels as :meth:`ContentStore.update` says. NotFound."""
        with self._changing:
            merged = {**({} if replace else self.info(digest).labels), **labels}
            self.info(digest)
            self._store({key: text for key, text in merged.items() if text is not None}, digest)
            return self.info(digest)

    def publish(self, source: Path, digest: str, labels: Labels) -> bool:
        """Move the durable file ``source`` to its place; False when the blob is there already.

        Either way the blob is durable afterwards.
        """
        target = self.path(digest)
        with self._changing:
            fresh = not target.exists()
            if fresh:
                self._store(labels, digest)
                source.rename(target)
        sync_directory(target.parent)
        return fresh

    def delete(self, digest: str) -> None:
        """Remove a blob. NotFound."""
        with self._changing:
            path = self.path(digest)
            if not path.exists():
                raise NotFound(f"content {digest}: not found")
            # labels first: what comes back under this digest must not find them
            self._beside(digest).unlink(missing_ok=True)
            path.unlink()

    def _beside(self, digest: str) -> Path:
        algorithm, digits = checked_digest(digest)
        return self._labels / algorithm / digits

    def _store(self, labels: Mapping[str, str], digest: str) -> None:
        if labels:
            replace_file(self._beside(digest), json.dumps(dict(labels)), durable=True)
        else:
            self._beside(digest).unlink(missing_ok=True)
