"""What is to be done, step by step: a plan is a graph of steps, each after some others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

__all__ = ["CONDITIONS", "Action", "Await", "Build", "CreateContainer", "CreateNetwork",
           "CreateVolume", "Kill", "Plan", "Pull", "Push", "RemoveContainer", "RemoveImage",
           "RemoveNetwork", "RemoveVolume", "Restart", "RunFirst", "StartContainer", "StaysMade",
           "StaysRunning", "Step", "StopContainer"]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Action:
    """Something to do to ``name``; ``doing`` and ``done`` are how it is told.

    One that is empty is not told.
    """

    name: str
    kind: ClassVar[str] = "Container"
    doing: ClassVar[str] = ""
    done: ClassVar[str] = ""


@dataclass(frozen=True, slots=True)
class CreateNetwork(Action):
    request: Any
    kind: ClassVar[str] = "Network"
    doing: ClassVar[str] = "Creating"
    done: ClassVar[str] = "Created"


@dataclass(frozen=True, slots=True)
class RemoveNetwork(Action):
    kind: ClassVar[str] = "Network"
    doing: ClassVar[str] = "Removing"
    done: ClassVar[str] = "Removed"


@dataclass(frozen=True, slots=True)
class CreateVolume(Action):
    request: Any
    kind: ClassVar[str] = "Volume"
    doing: ClassVar[str] = "Creating"
    done: ClassVar[str] = "Created"


@dataclass(frozen=True, slots=True)
class RemoveVolume(Action):
    kind: ClassVar[str] = "Volume"
    doing: ClassVar[str] = "Removing"
    done: ClassVar[str] = "Removed"


@dataclass(frozen=True, slots=True)
class Pull(Action):
    platform: str
    # without it only this image is missing, which its service says when it is made
    needed: bool = True
    kind: ClassVar[str] = "Image"
    doing: ClassVar[str] = "Pulling"
    done: ClassVar[str] = "Pulled"


@dataclass(frozen=True, slots=True)
class Push(Action):
    kind: ClassVar[str] = "Image"
    doing: ClassVar[str] = "Pushing"
    done: ClassVar[str] = "Pushed"


@dataclass(frozen=True, slots=True)
class Build(Action):
    service: str
    kind: ClassVar[str] = "Image"
    doing: ClassVar[str] = "Building"
    done: ClassVar[str] = "Built"


@dataclass(frozen=True, slots=True)
class RemoveImage(Action):
    kind: ClassVar[str] = "Image"
    doing: ClassVar[str] = "Removing"
    done: ClassVar[str] = "Removed"


@dataclass(frozen=True, slots=True)
class CreateContainer(Action):
    """``config`` is the daemon's message; ``service`` whose files it gets."""

    service: str
    config: Any
    doing: ClassVar[str] = "Creating"
    done: ClassVar[str] = "Created"


@dataclass(frozen=True, slots=True)
class StaysRunning(Action):
    """Nothing to do: it runs, and is as its service says."""

    done: ClassVar[str] = "Running"


@dataclass(frozen=True, slots=True)
class StaysMade(Action):
    """Nothing to do: it is there, is as its service says, and is not to be started."""

    done: ClassVar[str] = "Created"


@dataclass(frozen=True, slots=True)
class RunFirst(Action):
    """A container that runs to its end and goes; ``config`` is the daemon's message."""

    service: str
    config: Any
    doing: ClassVar[str] = "Running"
    done: ClassVar[str] = "Completed"


@dataclass(frozen=True, slots=True)
class StartContainer(Action):
    service: str
    doing: ClassVar[str] = "Starting"
    done: ClassVar[str] = "Started"


CONDITIONS = {"service_healthy": "healthy", "service_completed_successfully": "completed"}
"""The specification's conditions that have to be waited for, as Await calls them."""


@dataclass(frozen=True, slots=True)
class Await(Action):
    """``condition``: healthy, completed, or ready (healthy where that is checked).

    ``required`` False: a failure is told and goes no further.
    """

    condition: str
    required: bool = True
    doing: ClassVar[str] = "Waiting"
    done: ClassVar[str] = "Ready"


@dataclass(frozen=True, slots=True)
class StopContainer(Action):
    """``timeout`` in seconds; None is the container's own."""

    service: str
    timeout: int | None = None
    doing: ClassVar[str] = "Stopping"
    done: ClassVar[str] = "Stopped"


@dataclass(frozen=True, slots=True)
class Restart(StopContainer):
    doing: ClassVar[str] = "Restarting"
    done: ClassVar[str] = "Restarted"


@dataclass(frozen=True, slots=True)
class Kill(Action):
    signal: int = 9
    doing: ClassVar[str] = "Killing"
    done: ClassVar[str] = "Killed"


@dataclass(frozen=True, slots=True)
class RemoveContainer(Action):
    volumes: bool = False
    doing: ClassVar[str] = "Removing"
    done: ClassVar[str] = "Removed"


@dataclass(frozen=True, slots=True)
class Step:
    number: int
    action: Action
    after: frozenset[int]


@dataclass(slots=True)
class Plan:
    """Steps in an order in which they could be done one by one."""

    steps: list[Step] = field(default_factory=list)

    def add(self, action: Action, after: Iterable[int] = ()) -> int:
        """One more step, after those with these numbers; its own number."""
        step = Step(len(self.steps), action, frozenset(after))
        self.steps.append(step)
        return step.number
