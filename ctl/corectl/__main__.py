"""The entry point: how the process begins and ends, for a command that lasts milliseconds."""

from __future__ import annotations

import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

__all__ = ["run"]


def run(last: Callable[[], object] | None = None) -> NoReturn:
    """Run the command of this process's arguments, then ``last``; end with the exit code.

    Importing makes many objects and no garbage, so collections wait longer than usual; and the
    interpreter's own end, which takes a sixth of ``corectl version``, is left out.
    """
    gc.set_threshold(100_000, 50, 50)
    from corectl.program import main

    code = main()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError):
            # nobody reads it any more, or it was never open
            code = code or 1
    if last is not None:
        last()
    os._exit(code)


if __name__ == "__main__":
    run()
