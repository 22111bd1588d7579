"""The verbs of cored.workloads.v1.Workloads about what goes on in containers, typed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from google.protobuf.empty_pb2 import Empty

from cored._pb.cored.workloads.v1 import processes_pb2, workloads_pb2
from cored.client.channel import Channel, Pending

__all__ = ["ProcessVerbs"]

_SERVICE = "/cored.workloads.v1.Workloads/"


class ProcessVerbs:
    """``container`` is an id, a unique prefix of one, or a name."""

    _channel: Channel

    def restart(self, container: str, timeout_seconds: int | None = None, signal: str = "") -> None:
        """Stop it, if it runs, and start it."""
        request = processes_pb2.RestartRequest(
            container=container, timeout_seconds=timeout_seconds, signal=signal
        )
        self._channel.unary(f"{_SERVICE}Restart", request, Empty)

    def pause(self, container: str) -> None:
        """Freeze all its processes."""
        request = processes_pb2.ContainerRequest(container=container)
        self._channel.unary(f"{_SERVICE}Pause", request, Empty)

    def unpause(self, container: str) -> None:
        """Let them go on."""
        request = processes_pb2.ContainerRequest(container=container)
        self._channel.unary(f"{_SERVICE}Unpause", request, Empty)

    def rename(self, container: str, name: str) -> None:
        """Give it another name."""
        request = processes_pb2.RenameRequest(container=container, name=name)
        self._channel.unary(f"{_SERVICE}Rename", request, Empty)

    def update(self, request: workloads_pb2.UpdateRequest) -> None:
        """Change limits and restart policy."""
        self._channel.unary(f"{_SERVICE}Update", request, Empty)

    def prune_containers(
        self, filters: Iterable[str] = ()
    ) -> processes_pb2.PruneContainersResponse:
        """Remove those that do not run."""
        request = processes_pb2.PruneContainersRequest(filters=filters)
        return self._channel.unary(
            f"{_SERVICE}PruneContainers", request, processes_pb2.PruneContainersResponse
        )

    def attach(
        self, container: str, stdout: str = "", stderr: str = ""
    ) -> processes_pb2.AttachResponse:
        """Its pipe for input; what it writes goes to these pipes, which are being read, too."""
        request = processes_pb2.AttachRequest(container=container, stdout=stdout, stderr=stderr)
        return self._channel.unary(f"{_SERVICE}Attach", request, processes_pb2.AttachResponse)

    def exec(self, request: processes_pb2.ExecRequest) -> processes_pb2.ExecResponse:
        """Start a command in it."""
        return self._channel.unary(f"{_SERVICE}Exec", request, processes_pb2.ExecResponse)

    def wait_exec(self, container: str, exec_id: str) -> Pending[workloads_pb2.WaitResponse]:
        """Ask for a command's end; ``result()`` of what this answers blocks until then."""
        request = processes_pb2.WaitExecRequest(container=container, exec_id=exec_id)
        return self._channel.begin(f"{_SERVICE}WaitExec", request, workloads_pb2.WaitResponse)

    def resize_exec(
        self,
        container: str,
        exec_id: str,
        width: int,
        height: int,
        *,
        timeout: float | None = None,
    ) -> None:
        """Tell a command's terminal how many columns and rows it has."""
        request = processes_pb2.ResizeExecRequest(
            container=container, exec_id=exec_id, width=width, height=height
        )
        self._channel.unary(f"{_SERVICE}ResizeExec", request, Empty, timeout=timeout)

    def kill_exec(
        self, container: str, exec_id: str, signal: int, *, timeout: float | None = None
    ) -> None:
        """Send a command a signal."""
        request = processes_pb2.KillExecRequest(container=container, exec_id=exec_id, signal=signal)
        self._channel.unary(f"{_SERVICE}KillExec", request, Empty, timeout=timeout)

    def top(self, container: str, arguments: Sequence[str] = ()) -> processes_pb2.TopResponse:
        """Its processes, as ps(1) shows them."""
        request = processes_pb2.TopRequest(container=container, arguments=arguments)
        return self._channel.unary(f"{_SERVICE}Top", request, processes_pb2.TopResponse)

    def stats(self, request: processes_pb2.StatsRequest) -> Iterator[processes_pb2.StatsResponse]:
        """What they use, once a second."""
        return self._channel.stream(f"{_SERVICE}Stats", (request,), processes_pb2.StatsResponse)

    def events(self, request: processes_pb2.EventsRequest) -> Iterator[processes_pb2.Happening]:
        """What happened, and happens."""
        return self._channel.stream(f"{_SERVICE}Events", (request,), processes_pb2.Happening)
