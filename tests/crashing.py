"""cored that kills itself at the n-th step of a pull: ``python -m tests.crashing``.

n is what the file CRASH_AT holds when the pull begins. Steps are what changes something on the
disk or begins something: commits of a database, renames, new directories, jobs of workers and
their progress. Before each one a line goes to the file CRASH_LOG, which each pull begins anew;
dying before a step is dying after the one before. Nothing in cored knows of this.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from cored import database
from cored.__main__ import main
from cored.archive.pool import WorkerPool
from cored.engine.pull import Puller


class Steps:
    """Counts while a pull runs."""

    def __init__(self, last: str, log: str) -> None:
        self._place = last
        self._last = 0
        self._log = open(log, "w", buffering=1)  # noqa: SIM115 - for as long as the process lives
        self._lock = threading.Lock()
        self._count = 0
        self._armed = False

    def begin(self) -> None:
        with self._lock:
            with open(self._place) as file:
                self._last = int(file.read())
            self._log.seek(0)
            self._log.truncate()
            self._count = 0
            self._armed = True

    def end(self) -> None:
        self.step("pulled")
        self._armed = False

    def step(self, what: str) -> None:
        with self._lock:
            if not self._armed:
                return
            self._count += 1
            self._log.write(f"{self._count} {what}\n")
            if self._count == self._last:
                os.kill(os.getpid(), signal.SIGKILL)

    def before(self, owner: Any, name: str) -> None:
        """Make each call of a function a step."""
        function = getattr(owner, name)

        @functools.wraps(function)
        def wrapped(*arguments: Any, **options: Any) -> Any:
            self.step(f"{name} {' '.join(str(a) for a in arguments if isinstance(a, os.PathLike))}")
            return function(*arguments, **options)

        setattr(owner, name, wrapped)


def instrument(steps: Steps) -> None:
    steps.before(database.Database, "_commit")
    for name in ("rename", "replace", "mkdir"):
        steps.before(os, name)
    run, pull = WorkerPool.run, Puller.pull

    async def run_counted(
        self: WorkerPool,
        job: Any,
        progress: Callable[[int], None] | None = None,
        *arguments: Any,
        **options: Any,
    ) -> Any:
        def told(size: int) -> None:
            steps.step(f"progress {size}")
            if progress is not None:
                progress(size)

        steps.step(f"job {type(job).__name__}")
        done = await run(self, job, told, *arguments, **options)
        steps.step("job done")
        return done

    async def pull_counted(self: Puller, *arguments: Any, **options: Any) -> Any:
        steps.begin()
        images = await pull(self, *arguments, **options)
        steps.end()
        return images

    WorkerPool.run = run_counted  # type: ignore[method-assign]
    Puller.pull = pull_counted  # type: ignore[method-assign]


if __name__ == "__main__":
    instrument(Steps(os.environ["CRASH_AT"], os.environ["CRASH_LOG"]))
    sys.exit(main())
