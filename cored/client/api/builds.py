"""Images from Dockerfiles."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cored._pb.cored.build.v1 import build_pb2 as pb
from cored.client import builds
from cored.client.api import conversion
from cored.client.api.values import BuildStep, CacheRecord, Pruned
from cored.client.contexts import ContextDirectory, dockerignore, ignore_of
from cored.errors import Internal, NotFound

if TYPE_CHECKING:
    from cored.client.client import Client

__all__ = ["Builds"]


class Builds:
    """The builder, and what it keeps."""

    def __init__(self, client: Client) -> None:
        self._calls = builds.Builds(client.channel)

    def build(
        self,
        context: str | os.PathLike[str],
        *,
        dockerfile: str | None = None,
        tags: Sequence[str] = (),
        args: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        target: str = "",
        platform: str = "",
        secrets: Mapping[str, bytes] | None = None,
        no_cache: bool = False,
        pull: bool = False,
    ) -> str:
        """Build the directory ``context``; the image's id. CoredError says what failed, and where.

        ``dockerfile`` is its text; None reads the file ``Dockerfile`` of the context.

        >>> text = '''FROM busybox
        ... RUN echo built > /made
        ... '''
        >>> id = client.builds.build(directory, dockerfile=text, tags=["example"])
        >>> client.containers.run("example", ["cat", "/made"]).text
        'built\\n'
        """
        options = _options(context, dockerfile, tags, args, labels, target, platform)
        options.secrets.update(secrets or {})
        options.no_cache, options.pull = no_cache, pull
        for event in self._calls.build(options, [_directory(Path(context))]):
            if event.HasField("result"):
                return event.result.config_digest
        raise Internal("build: ended without a result")

    def watch(
        self,
        context: str | os.PathLike[str],
        *,
        dockerfile: str | None = None,
        tags: Sequence[str] = (),
        args: Mapping[str, str] | None = None,
        target: str = "",
    ) -> Iterator[BuildStep]:
        """The same, told as it goes: each step whenever it changes or has written something."""
        options = _options(context, dockerfile, tags, args, None, target, "")
        steps: dict[int, BuildStep] = {}
        for event in self._calls.build(options, [_directory(Path(context))]):
            if event.HasField("step"):
                step = event.step
                steps[step.id] = BuildStep(step.id, step.name, step.state, step.error, b"")
                yield steps[step.id]
            elif event.HasField("output") and event.output.step in steps:
                one = steps[event.output.step]
                yield BuildStep(one.id, one.name, one.state, one.error, event.output.data)

    def cache(self) -> list[CacheRecord]:
        """What is kept, the latest used first."""
        return [conversion.value(CacheRecord, one) for one in self._calls.cache()]

    def prune(self, *, keep_size: int = 0, unused_for: float = 0.0) -> Pruned:
        """Forget what is kept, down to so many bytes, or what was not used for so many seconds."""
        found = self._calls.prune(keep_size=keep_size, unused_for=unused_for)
        return Pruned((), found.freed)


def _directory(context: Path) -> ContextDirectory:
    return ContextDirectory("", context, ignore_of(dockerignore(context, None)))


def _options(
    context: str | os.PathLike[str],
    dockerfile: str | None,
    tags: Sequence[str],
    args: Mapping[str, str] | None,
    labels: Mapping[str, str] | None,
    target: str,
    platform: str,
) -> pb.BuildOptions:
    place = Path(context)
    if dockerfile is None:
        try:
            dockerfile = (place / "Dockerfile").read_text()
        except FileNotFoundError as error:
            raise NotFound(f"Dockerfile {str(place / 'Dockerfile')!r}: not found") from error
    return pb.BuildOptions(
        dockerfile=dockerfile,
        dockerfile_name="Dockerfile",
        tags=tags,
        args=args,
        labels=labels,
        target=target,
        platform=platform,
        named_contexts=[""],
        dockerignore=dockerignore(place, None),
    )
