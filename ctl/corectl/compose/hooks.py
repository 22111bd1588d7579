"""Commands at turns of a container's life: pre_start, post_start and pre_stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from corectl.compose.parts import Hook
from cored._pb.cored.workloads.v1 import processes_pb2 as pb
from cored.errors import FailedPrecondition, NotFound, Unimplemented

if TYPE_CHECKING:
    from cored._pb.cored.workloads.v1 import workloads_pb2
    from cored.client.workloads import Workloads

__all__ = ["run_first", "run_hooks"]

_TAIL = 5


def run_hooks(workloads: Workloads, container: str, hooks: Sequence[Hook], kind: str) -> None:
    """Run them in the container, one after the other. FailedPrecondition when one fails."""
    for hook in hooks:
        request = pb.ExecRequest(
            container=container,
            args=hook.command,
            env=[f"{key}={value or ''}" for key, value in hook.environment.items()],
            working_directory=hook.working_dir,
            user=hook.user,
            privileged=hook.privileged,
        )
        begun = workloads.exec(request)
        code = workloads.wait_exec(container, begun.exec_id).result().exit_status
        if code:
            raise FailedPrecondition(
                f"container '{container}': {kind} '{' '.join(hook.command)}': exited with {code}"
            )


def run_first(
    workloads: Workloads,
    config: workloads_pb2.ContainerConfig,
    make: Callable[[workloads_pb2.ContainerConfig], object],
    hear: Callable[[str], None],
) -> None:
    """Run a container, made by ``make``, to its end and remove it; ``hear`` gets its lines.

    FailedPrecondition, with its last words.
    """
    # one of an up that was killed
    _remove(workloads, config.name)
    try:
        make(config)
        workloads.start(config.name)
        _listen(workloads, config.name, hear)
        code = workloads.wait(config.name).result().exit_status
        words = _last_words(workloads, config.name) if code else ""
    finally:
        _remove(workloads, config.name)
    if code:
        raise FailedPrecondition(f"container '{config.name}': exited with {code}{words}")


def _remove(workloads: Workloads, name: str) -> None:
    with suppress(NotFound):
        workloads.remove(name, force=True, volumes=True)


def _listen(workloads: Workloads, name: str, hear: Callable[[str], None]) -> None:
    """Until it ends, or at once where its log driver keeps nothing that could be read."""
    from cored._pb.cored.workloads.v1 import workloads_pb2 as messages

    rest: dict[str, bytes] = {}
    try:
        for record in workloads.logs(messages.LogsRequest(container=name, follow=True, tail=-1)):
            *lines, rest[record.stream] = (rest.get(record.stream, b"") + record.data).split(b"\n")
            for line in lines:
                hear(line.decode(errors="replace"))
    except (FailedPrecondition, Unimplemented):
        return
    for line in filter(None, rest.values()):
        hear(line.decode(errors="replace"))


def _last_words(workloads: Workloads, name: str) -> str:
    from cored._pb.cored.workloads.v1 import workloads_pb2 as messages

    records = workloads.logs(messages.LogsRequest(container=name, tail=_TAIL))
    lines = b"".join(record.data for record in records).decode(errors="replace").rstrip()
    return f":\n{lines}" if lines else ""
