"""One build: its stages, each once, those that are independent at the same time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from cored.abc.values import Mount
from cored.engine.gather import together
from cored.errors import CoredError, FailedPrecondition, by_code
from cored.oci.mounts import Bind
from cored_service_build.base_images import Bases
from cored_service_build.cache import Made
from cored_service_build.dockerfile.parser import Dockerfile, Stage
from cored_service_build.graph import Plan, base_stage
from cored_service_build.layers import Layers
from cored_service_build.mounting import Caches, Mounts
from cored_service_build.places import Memory, Place
from cored_service_build.running import Runner, Work
from cored_service_build.state import StageState
from cored_service_build.steps import Step, Steps
from cored_service_build.values import Request

__all__ = ["Build"]

_TAIL = 4096


@dataclass(slots=True)
class Build:
    """Everything that the stages of one build share. ``spool`` is for files of the moment;
    ``label`` tells the steps of several platforms apart."""

    request: Request
    file: Dockerfile
    plan: Plan
    platform: str
    steps: Steps
    layers: Layers
    runner: Runner
    bases: Bases
    caches: Caches
    memory: Memory
    spool: Path
    label: str = ""
    _stages: dict[int, asyncio.Task[StageState]] = field(default_factory=dict)
    _places: dict[str, Place] = field(default_factory=dict)
    _views: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def run(self) -> None:
        """All stages that the target needs; the first error ends the others."""
        try:
            await together(self.stage(stage) for stage in self.plan.needed)
        finally:
            for task in self._stages.values():
                task.cancel()
            await asyncio.gather(*self._stages.values(), return_exceptions=True)
            await asyncio.shield(self._views.aclose())

    @property
    def state(self) -> StageState:
        """What the target came to, when all has run."""
        return self._stages[self.plan.target.number].result()

    async def stage(self, stage: Stage) -> StageState:
        """What a stage comes to; it runs once, whoever asks first."""
        task = self._stages.get(stage.number)
        if task is None:
            task = asyncio.create_task(self._stage(stage), name=f"stage {stage.name}")
            self._stages[stage.number] = task
        return await asyncio.shield(task)

    async def _stage(self, stage: Stage) -> StageState:
        from cored_service_build.stages import StageRun

        several = len(self.plan.needed) > 1
        label = stage.base.name or (f"stage-{stage.number}" if several else "")
        label = f"{self.label} {label}".strip()
        base = self.plan.bases[stage.number]
        earlier = base_stage(self.file, stage, base, self._named)
        if earlier is not None:
            state = (await self.stage(earlier)).following()
        elif base == "scratch" and base not in self._named:
            state = StageState.scratch(self.plan.platforms[stage.number] or self.platform)
        else:
            state = await self._based(stage, base, label)
        return await StageRun(self, stage, state, label).run()

    async def _based(self, stage: Stage, base: str, label: str) -> StageState:
        if base in self.request.contexts:
            raise FailedPrecondition(
                f"context {base!r}: is a directory, no image", hint="use it with --from"
            )
        step = self.steps.new(f"[{f'{label} 1'.strip()}] FROM {base}", "")
        step.begin()
        image = self.request.images.get(base, base)
        platform = self.plan.platforms[stage.number] or self.platform
        try:
            state = await self.bases.image(image, platform, self.request)
        except CoredError as error:
            step.end("failed", error.message)
            located = self.file.source.error(stage.base.where, error.message, error.hint)
            raise by_code(error.code)(located.message) from error
        step.end()
        return state

    @property
    def _named(self) -> set[str]:
        return {*self.request.contexts, *self.request.images} - {""}

    async def place(self, name: str) -> Place:
        """Where ``--from`` NAME leads ('' is the context): a context, a stage, or an image."""
        place = self._places.get(name)
        if place is None:
            place = self._places[name] = await self._place(name)
        return place

    async def _place(self, name: str) -> Place:
        if name in self.request.contexts:
            return Place(self.layers, self.memory, self.request.contexts[name])
        if not name:
            empty = self.spool / "empty"
            empty.mkdir(exist_ok=True)
            return Place(self.layers, self.memory, empty)
        stage = self.file.stage(name) if name not in self.request.images else None
        if stage is not None:
            state = await self.stage(stage)
        else:
            image = self.request.images.get(name, name)
            state = await self.bases.image(image, self.platform, self.request)
        return Place(self.layers, self.memory, None, state.chain_id, self._views)

    async def executed(
        self,
        step: Step,
        state: StageState,
        work: Work,
        env: Mapping[str, str],
        mounts: Mounts,
        script: str,
    ) -> Made:
        """RUN: the command in a container over the stage's files."""
        tail = bytearray()

        def tell(data: bytes) -> None:
            tail.extend(data)
            del tail[:-_TAIL]
            step.tell(data)

        async with mounts.opened() as there:
            binds = list(there.binds)
            if script:
                path = self.spool / f"script-{step.id}"
                path.write_text(script)
                path.chmod(0o755)
                binds.append(Bind(os.fspath(path), "/dev/pipes/script", True))
            variables = {**env, **there.env}
            wanted = replace(
                work,
                env=tuple(f"{name}={value}" for name, value in variables.items()),
                binds=binds,
                tmpfs=there.tmpfs,
                secrets=there.secrets,
            )

            async def run(rootfs: Sequence[Mount], key: str, after: AsyncExitStack) -> None:
                snapshot, behind = (self.layers.id, key), self.request.behind
                exit = await self.runner.run(wanted, rootfs, snapshot, tell, after, behind)
                if exit.status:
                    raise FailedPrecondition(_failure(work, exit.status, bytes(tail)))

            return await self.layers.made(state.chain_id, run, self.request.epoch)


def _failure(work: Work, status: int, tail: bytes) -> str:
    lines = tail.decode(errors="replace").rstrip("\n").split("\n")[-10:]
    shown = "".join(f"\n  | {line}" for line in lines if line)
    return f"{' '.join(work.args)!r}: exit code {status}{shown}"
