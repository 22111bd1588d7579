"""cored.workloads.v1.Workloads, typed: images and containers as people think of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from google.protobuf.empty_pb2 import Empty

from cored._pb.cored.workloads.v1 import workloads_pb2 as pb
from cored.client.channel import Pending
from cored.client.files import FileVerbs
from cored.client.images import ImageVerbs
from cored.client.processes import ProcessVerbs

__all__ = ["Workloads"]

_SERVICE = "/cored.workloads.v1.Workloads/"


class Workloads(ImageVerbs, ProcessVerbs, FileVerbs):
    """The verbs of docker on a channel that has a namespace.

    ``container`` is an id, a unique prefix of one, or a name. Errors are those of
    :mod:`cored.errors`.
    """

    def create(
        self, config: pb.ContainerConfig, stdio: pb.Stdio | None = None
    ) -> pb.CreateResponse:
        """Make a container without starting it."""
        request = pb.CreateRequest(config=config, stdio=stdio)
        return self._channel.unary(f"{_SERVICE}Create", request, pb.CreateResponse)

    def start(self, container: str, stdio: pb.Stdio | None = None) -> int:
        """Start it; its pid. ``stdio`` replaces the FIFOs given at creation."""
        request = pb.StartRequest(container=container, stdio=stdio)
        return self._channel.unary(f"{_SERVICE}Start", request, pb.StartResponse).pid

    def wait(self, container: str) -> Pending[pb.WaitResponse]:
        """Ask for its end; ``result()`` of what this answers blocks until then."""
        return self._channel.begin(
            f"{_SERVICE}Wait", pb.WaitRequest(container=container), pb.WaitResponse
        )

    def kill(
        self, container: str, signal: int, *, everyone: bool = False, timeout: float | None = None
    ) -> None:
        """Send a signal to its first process, or to all of its processes."""
        request = pb.KillRequest(container=container, signal=signal, all=everyone)
        self._channel.unary(f"{_SERVICE}Kill", request, Empty, timeout=timeout)

    def stop(self, container: str, timeout_seconds: int | None = None, *, signal: str = "") -> None:
        """Stop signal, then SIGKILL after the time-out; None is the container's own, or 10 s."""
        request = pb.StopRequest(
            container=container,
            timeout_seconds=timeout_seconds,
            at_once=timeout_seconds == 0,
            signal=signal,
        )
        self._channel.unary(f"{_SERVICE}Stop", request, Empty)

    def remove(self, container: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove it; with ``force`` also when it runs, with ``volumes`` its anonymous ones, too."""
        request = pb.RemoveRequest(container=container, force=force, volumes=volumes)
        self._channel.unary(f"{_SERVICE}Remove", request, Empty)

    def containers(
        self, *, everyone: bool = False, filters: Iterable[str] = (), size: bool = False
    ) -> list[pb.Container]:
        """Those that run, or all, that pass docker's filters."""
        request = pb.ListRequest(all=everyone, filters=filters, size=size)
        answer = self._channel.unary(f"{_SERVICE}List", request, pb.ListResponse)
        return list(answer.containers)

    def inspect(self, container: str) -> pb.InspectResponse:
        """Everything about one."""
        request = pb.InspectRequest(container=container)
        return self._channel.unary(f"{_SERVICE}Inspect", request, pb.InspectResponse)

    def resize(
        self, container: str, width: int, height: int, *, timeout: float | None = None
    ) -> None:
        """Tell its terminal how many columns and rows it has."""
        request = pb.ResizeRequest(container=container, width=width, height=height)
        self._channel.unary(f"{_SERVICE}Resize", request, Empty, timeout=timeout)

    def logs(self, request: pb.LogsRequest) -> Iterator[pb.LogRecord]:
        """What it wrote, oldest first; with ``follow`` until it ends."""
        return self._channel.stream(f"{_SERVICE}Logs", (request,), pb.LogRecord)
