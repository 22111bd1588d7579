"""What containers write, each line behind the name of who wrote it; and their ends."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from corectl import output
from corectl.compose.existing import Replica
from cored._pb.cored.workloads.v1 import workloads_pb2 as pb
from cored.client.connection import Disconnected
from cored.errors import CoredError, NotFound

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from cored.client.workloads import Workloads

__all__ = ["Ended", "Follower", "Printer"]

_AGAIN = 0.2
_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


@dataclass(frozen=True, slots=True)
class Ended:
    """A container's end; ``code`` is None when nobody could say it."""

    name: str
    service: str
    code: int | None


class Printer:
    """Writes whole lines, one at a time, whoever they are from."""

    def __init__(
        self, names: Sequence[str], *, coloured: bool, prefixed: bool = True, stamped: bool = False
    ) -> None:
        self._width = max(map(len, names), default=0)
        self._coloured, self._prefixed, self._stamped = coloured, prefixed, stamped
        self._colours: dict[str, int] = {}
        self._lock = threading.Lock()

    def line(self, name: str, stamp: str, text: bytes) -> None:
        """One line of a container; ``text`` without its end."""
        if self._stamped:
            text = stamp.encode() + b" " + text
        with self._lock:
            sys.stdout.buffer.write(self._prefix(name).encode() + text + b"\n")
            sys.stdout.buffer.flush()

    def note(self, text: str) -> None:
        """One line of our own."""
        with self._lock:
            sys.stdout.buffer.write(text.encode() + b"\n")
            sys.stdout.buffer.flush()

    def _prefix(self, name: str) -> str:
        if not self._prefixed:
            return ""
        prefix = f"{name.ljust(self._width)}  | "
        if not self._coloured:
            return prefix
        number = self._colours.setdefault(name, len(self._colours))
        return f"\x1b[{_COLOURS[number % len(_COLOURS)]}m{prefix}\x1b[0m"


class Follower:
    """Reads containers' logs, and waits for their ends, in threads that end with the process."""

    def __init__(self, workloads: Workloads, printer: Printer) -> None:
        self._workloads, self._printer = workloads, printer
        self._threads: list[threading.Thread] = []
        self.ends: queue.SimpleQueue[Ended] = queue.SimpleQueue()

    def follow(
        self,
        replica: Replica,
        *,
        follow: bool,
        tail: int = -1,
        since: Timestamp | None = None,
        until: Timestamp | None = None,
        until_end: bool = False,
    ) -> None:
        """Print a container's log; with ``until_end`` put its end into ``ends`` afterwards."""
        request = pb.LogsRequest(
            container=replica.id, follow=follow, tail=tail, since=since, until=until
        )
        thread = threading.Thread(
            target=self._read, args=(replica, request, until_end), daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def watch(self, replica: Replica) -> None:
        """Only wait for its end."""
        threading.Thread(target=self._end, args=(replica,), daemon=True).start()

    def join(self, timeout: float | None = None) -> None:
        """Wait until all that is followed has been printed."""
        for thread in self._threads:
            thread.join(timeout)

    def _read(self, replica: Replica, request: pb.LogsRequest, until_end: bool) -> None:
        self._copied(replica, request)
        while until_end and (end := self._ended(replica)) is None:
            # its restart policy starts it again: on from behind the last line
            time.sleep(_AGAIN)
            self._copied(replica, request)
        if until_end and end is not None:
            # what was written between the last look and the end
            request.follow = False
            self._copied(replica, request)
            self.ends.put(end)

    def _copied(self, replica: Replica, request: pb.LogsRequest) -> None:
        try:
            self._copy(replica, request)
        except (NotFound, Disconnected):
            # removed while it was read, or the daemon went away: the end says more
            pass
        except CoredError as error:
            self._printer.note(f"corectl: {replica.name}: {error}")

    def _copy(self, replica: Replica, request: pb.LogsRequest) -> None:
        rest: dict[str, tuple[str, bytes]] = {}
        for record in self._workloads.logs(request):
            request.since.seconds, request.since.nanos = record.time.seconds, record.time.nanos + 1
            request.tail = -1
            stamp, begun = rest.pop(record.stream, ("", b""))
            stamp = stamp or output.iso(record.time.seconds, record.time.nanos)
            lines = (begun + record.data).split(b"\n")
            for line in lines[:-1]:
                self._printer.line(replica.short, stamp, line)
            if lines[-1]:
                rest[record.stream] = (stamp, lines[-1])
        for stamp, line in rest.values():
            self._printer.line(replica.short, stamp, line)

    def _end(self, replica: Replica) -> None:
        while (end := self._ended(replica)) is None:
            time.sleep(_AGAIN)
        self.ends.put(end)

    def _ended(self, replica: Replica) -> Ended | None:
        """Its end; None when it is started again."""
        code: int | None = None
        try:
            code = self._workloads.wait(replica.id).result().exit_status
            found = self._workloads.inspect(replica.id)
            if found.config.restart.name and found.container.status == "stopped":
                # the daemon tells the end first, and what its policy makes of it then
                time.sleep(_AGAIN)
                found = self._workloads.inspect(replica.id)
            if found.container.status in ("running", "restarting"):
                return None
        except NotFound:
            pass
        except CoredError as error:
            self._printer.note(f"corectl: {replica.name}: {error}")
        return Ended(replica.short, replica.service, code)
