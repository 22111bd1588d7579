"""What a build is asked for, what it tells, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cored.abc.values import Descriptor
from cored.engine.registry import ANONYMOUS, Access

__all__ = ["Layer", "Output", "Report", "Request", "Result", "StepState", "Told"]


@dataclass(frozen=True, slots=True)
class Request:
    """``contexts`` are directories by name ('' is the main one), ``images`` images for names,
    ``remotes`` URLs of contexts. ``inside``: the Dockerfile is in the main context.

    ``ssh`` are sockets by id; ``secrets`` contents, which nothing may keep or show. ``allow`` are
    the rights that RUN may ask for: security.insecure, device, device=NAME. ``behind`` answers
    whether who is told of the build does not come after with reading.
    """

    dockerfile: str
    dockerfile_name: str = "Dockerfile"
    inside: bool = False
    target: str = ""
    args: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    platforms: tuple[str, ...] = ("",)
    no_cache: bool = False
    pull: bool = False
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    ssh: Mapping[str, str] = field(default_factory=dict)
    contexts: Mapping[str, Path] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    remotes: Mapping[str, str] = field(default_factory=dict)
    network: str = "default"
    memory_limit: int = 0
    milli_cpus: int = 0
    timeout: float = 0.0
    access: Access = ANONYMOUS
    ignore: str = ""
    add_hosts: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    behind: Callable[[], bool] = lambda: False

    @property
    def epoch(self) -> int | None:
        """SOURCE_DATE_EPOCH, if it was given."""
        text = self.args.get("SOURCE_DATE_EPOCH", "")
        return int(text) if text.isdecimal() else None


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer's blob, and the digest of its tar."""

    blob: Descriptor
    diff_id: str


@dataclass(frozen=True, slots=True)
class StepState:
    """Where a step stands: started, cached, done, failed, cancelled; times in ns.

    ``changes`` say why it was not in the cache.
    """

    id: int
    name: str
    state: str
    started_at: int = 0
    ended_at: int = 0
    error: str = ""
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Output:
    """What a step wrote."""

    step: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Told:
    """A warning, with its rule and line."""

    rule: str
    text: str
    line: int


Report = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class Result:
    """An image: its manifest and config in the content store, its snapshot.

    Of several platforms: their index, which has neither config nor snapshot.
    """

    target: Descriptor
    config_digest: str = ""
    chain_id: str = ""
    layers: Sequence[Layer] = ()
