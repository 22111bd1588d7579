"""Named pipes between corectl and a shim, in a directory of their own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Fifos"]


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
        directory = (below or _place()) / f"corectl-{os.getpid()}-{os.urandom(4).hex()}"
        directory.mkdir(mode=0o700)
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
        self.directory.rmdir()


def _place() -> Path:
    """Where pipes go: the user's runtime directory, /run/corectl for root, /tmp otherwise."""
    given = os.environ.get("XDG_RUNTIME_DIR")
    if given and os.access(given, os.W_OK | os.X_OK):
        return Path(given)
    if os.geteuid() == 0:
        place = Path("/run/corectl")
        place.mkdir(mode=0o700, exist_ok=True)
        return place
    return Path("/tmp")
