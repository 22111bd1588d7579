"""``cored-logger``: our logs under anybody's shim, as a logging binary (containerd's shim v2).

``binary:///…/cored-logger?stdout=URI&stderr=URI`` writes each stream to a log's URI, as our own
shim does (:mod:`coreshim.sinks`). Output comes on descriptors 3 and 4; closing 5 says that it is
read.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from coreshim.logged import open_log
from coreshim.loop import Loop
from coreshim.relay import Relay
from coreshim.server import Failure

__all__ = ["main"]

_STREAMS = (("stdout", 3), ("stderr", 4))
_READY = 5


def main() -> int:
    """0 when both streams have ended, 2 for what cannot be opened."""
    # who stops the shim wants the last words all the same
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    loop = Loop()
    try:
        relays = _relays(loop, sys.argv[1:])
    except (Failure, OSError) as error:
        print(f"cored-logger: {error}", file=sys.stderr)
        return 2
    os.close(_READY)
    for relay in relays:
        loop.spawn(_stop_after(loop, relays, relay))
    loop.run()
    return 0


def _relays(loop: Loop, arguments: Sequence[str]) -> list[Relay]:
    """One for each stream that has a log; the order of arguments is nobody's business."""
    uris = dict(zip(arguments[::2], arguments[1::2], strict=False))
    found = []
    for stream, fd in _STREAMS:
        sink = open_log(uris.get(stream, "none://"), stream)
        if sink is None:
            raise OSError(0, f"{stream} {uris[stream]!r}: is no log's URI")
        os.set_blocking(fd, False)
        found.append(Relay(loop, fd, sink))
    return found


async def _stop_after(loop: Loop, relays: Sequence[Relay], relay: Relay) -> None:
    await relay.done
    if all(other.done.done for other in relays):
        loop.stop()


if __name__ == "__main__":
    sys.exit(main())
