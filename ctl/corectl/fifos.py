"""Named pipes between corectl and a shim, in a directory of their own."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Fifos"]

_OURS = Path("/run/corectl")


@dataclass(frozen=True, slots=True)
class Fifos:
    """Paths of the pipes, "" for those that are not wanted. Leaving the context removes them."""

    directory: Path
    stdin: str
    stdout: str
    stderr: str

    @classmethod
    def make(cls, *, stdin: bool, terminal: bool, below: Path | None = None) -> Fifos:
        """Make them; a terminal has no standard error of its own. OSError."""
        directory = _directory(below)
        paths = {
            "stdin": str(directory / "stdin") if stdin else "",
            "stdout": str(directory / "stdout"),
            "stderr": "" if terminal else str(directory / "stderr"),
        }
        fifos = cls(directory, **paths)
        try:
            for path in filter(None, paths.values()):
                os.mkfifo(path, 0o600)
        except OSError:
            fifos.remove()
            raise
        return fifos

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()

    def remove(self) -> None:
        """Remove pipes and directory; who has them open is not disturbed."""
        for path in filter(None, (self.stdin, self.stdout, self.stderr)):
            Path(path).unlink(missing_ok=True)
        with suppress(FileNotFoundError):  # the daemon has, when the container ended
            self.directory.rmdir()
        if self.directory.parent == _OURS:
            with suppress(OSError):  # another corectl's are in it
                _OURS.rmdir()


def _directory(below: Path | None) -> Path:
    """A fresh directory for the pipes of one run."""
    while True:
        directory = (below or _place()) / f"corectl-{os.getpid()}-{os.urandom(4).hex()}"
        try:
            directory.mkdir(mode=0o700)
        except FileNotFoundError:
            if below is not None:
                raise
            continue  # the last corectl has just taken the place away with it
        return directory


def _place() -> Path:
    """Where pipes go: the user's runtime directory, /run/corectl for root, /tmp otherwise."""
    given = os.environ.get("XDG_RUNTIME_DIR")
    if given and os.access(given, os.W_OK | os.X_OK):
        return Path(given)
    if os.geteuid() == 0:
        _OURS.mkdir(mode=0o700, exist_ok=True)
        return _OURS
    return Path("/tmp")
