"""What happened, on disk: a line of JSON for each, in a file and the one before it.

No more than two files of a size are kept. A line that a crash has cut off is nobody's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Chronicle", "Happening"]

_LARGEST = 4 << 20
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Happening:
    """``time`` in ns; ``type`` container, image, network, volume or daemon."""

    time: int
    namespace: str
    type: str
    action: str
    id: str
    attributes: dict[str, str] = field(default_factory=dict)


class Chronicle:
    """All methods block; none may be called while another runs, but :meth:`Reading.lines`."""

    def __init__(self, path: Path, largest: int = _LARGEST) -> None:
        self._path = path
        self._largest = largest
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = self._opened()
        self._whole()

    def close(self) -> None:
        os.close(self._fd)

    def append(self, happenings: Sequence[Happening]) -> None:
        """Write them at the end. OSError: they are not there, or not all."""
        lines = [json.dumps(asdict(one), separators=(",", ":")) + "\n" for one in happenings]
        data = "".join(lines).encode()
        size = os.fstat(self._fd).st_size
        if size and size + len(data) > self._largest:
            self._path.replace(self._older)
            os.close(self._fd)
            self._fd = self._opened()
            size = 0
        if os.write(self._fd, data) < len(data):
            os.ftruncate(self._fd, size)
            raise OSError(28, os.strerror(28), str(self._path))

    def reading(self) -> Reading:
        """All that is there now, however it is renamed meanwhile."""
        files = []
        with suppress(FileNotFoundError):
            files.append(os.open(self._older, os.O_RDONLY | os.O_CLOEXEC))
        files.append(os.open(self._path, os.O_RDONLY | os.O_CLOEXEC))
        return Reading(files)

    @property
    def _older(self) -> Path:
        return self._path.with_name(f"{self._path.name}.1")

    def _opened(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        return os.open(self._path, flags, 0o600)

    def _whole(self) -> None:
        """Cut off a line whose writer died in the middle of it."""
        size = os.fstat(self._fd).st_size
        start = max(0, size - _BLOCK)
        data = os.pread(self._fd, size - start, start)
        if data and not data.endswith(b"\n"):
            os.ftruncate(self._fd, start + data.rfind(b"\n") + 1)


class Reading:
    """A look at a chronicle; what is written after it began is not in it."""

    def __init__(self, files: Sequence[int]) -> None:
        self._files = [(fd, os.fstat(fd).st_size) for fd in files]

    def close(self) -> None:
        for fd, _ in self._files:
            os.close(fd)

    def happenings(self, since: int) -> Iterator[Happening]:
        """Those from ``since`` on, the oldest first. Blocks."""
        for fd, size in self._files:
            with open(fd, "rb", closefd=False) as file:
                for line in file.read(size).splitlines():
                    document: dict[str, Any] = json.loads(line)
                    if document["time"] >= since:
                        yield Happening(**document)
