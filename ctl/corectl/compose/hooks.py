"""Commands at turns of a container's life: post_start and pre_stop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from corectl.compose.parts import Hook
from cored._pb.cored.workloads.v1 import processes_pb2 as pb
from cored.errors import FailedPrecondition

if TYPE_CHECKING:
    from cored.client.workloads import Workloads

__all__ = ["run_hooks"]


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
