"""One stage: its instructions in order, each a change of the config or a step with files."""

from __future__ import annotations

import asyncio
import posixpath
import re
from collections.abc import Mapping
from dataclasses import replace

from cored.errors import CoredError, PermissionDenied, by_code
from cored_service_build.building import Build
from cored_service_build.cache import Made
from cored_service_build.configuration import configure, working_directory
from cored_service_build.copies import CopyStep
from cored_service_build.devices import allowed_devices
from cored_service_build.dockerfile import instructions as i
from cored_service_build.dockerfile.lexer import Heredoc
from cored_service_build.dockerfile.parser import Stage, parse_trigger
from cored_service_build.dockerfile.scopes import PREDEFINED
from cored_service_build.dockerfile.source import DockerfileError
from cored_service_build.dockerfile.words import Expansion, WordError
from cored_service_build.emulation import check_runnable
from cored_service_build.mounting import Mounts
from cored_service_build.running import Work
from cored_service_build.state import StageState
from cored_service_build.steps import Step

__all__ = ["StageRun"]

_STEPS = (i.Run, i.Copy, i.Workdir)


class StageRun:
    """Runs a stage's instructions on a state; ``label`` is how its steps are called."""

    def __init__(self, build: Build, stage: Stage, state: StageState, label: str) -> None:
        self._build = build
        self._stage = stage
        self._state = state
        self._label = label
        self._number = 1
        self._total = 1

    async def run(self) -> StageState:
        """To the end. CoredError; of what a Dockerfile's line is to blame for, with the line."""
        base = self._stage.base.image
        triggers = [parse_trigger(text, base) for text in self._state.triggers]
        entries = [*triggers, *self._stage.instructions]
        self._total += sum(isinstance(entry, _STEPS) for entry in entries)
        for entry in entries:
            try:
                await self._one(entry)
            except DockerfileError:
                raise
            except WordError as error:
                raise self._located(entry, str(error)) from error
            except CoredError as error:
                name = self._build.file.source.name
                if entry in triggers or error.message.startswith(f"{name}:"):
                    raise
                located = self._located(entry, f"{entry.word.upper()}: {error.message}", error.hint)
                raise by_code(error.code)(located.message) from error
        return self._state

    def _located(self, entry: i.Instruction, what: str, hint: str | None = None) -> DockerfileError:
        return self._build.file.source.error(entry.where, what, hint)

    async def _one(self, entry: i.Instruction) -> None:
        match entry:
            case i.Run():
                await self._run(entry)
            case i.Copy():
                await self._copy(entry)
            case i.Workdir():
                await self._workdir(entry)
            case i.Arg():
                self._arg(entry)
            case _:
                words = Expansion(self._state.variables, self._build.file.escape)
                text = configure(self._state, entry, words.word, words.words)
                assert text is not None, entry
                self._remember(text, None)

    def _remember(self, text: str, made: Made | None) -> None:
        epoch = self._build.request.epoch
        if epoch is not None:
            self._state.remember(text, created_at=epoch * 10**9, layer=made.layer if made else None)
        elif made is None:
            self._state.remember(text)
        else:
            self._state.remember(text, created_at=made.created_at, layer=made.layer)

    def _expand(self, text: str) -> str:
        return Expansion(self._state.variables, self._build.file.escape).word(text)

    def _arg(self, entry: i.Arg) -> None:
        request, globals_ = self._build.request, self._build.plan.globals_
        for name, default in entry.pairs:
            value: str | None = None
            if name in request.args:
                value = request.args[name]
            elif default is not None:
                value = self._expand(default)
            elif name in globals_:
                value = globals_[name]
            if value is not None:
                self._state.args[name] = value
        self._remember(entry.text, None)

    def _step(self, entry: i.Instruction, text: str = "") -> Step:
        self._number += 1
        prefix = f"{self._label} {self._number}/{self._total}".strip()
        return self._build.steps.new(f"[{prefix}] {text or entry.text}", entry.text)

    async def _workdir(self, entry: i.Workdir) -> None:
        path = working_directory(self._state, self._expand(entry.path))
        self._state.config["WorkingDir"] = path
        copying = CopyStep(self._build, self._state)
        made = await copying.directory(self._step(entry), path)
        self._state.chain_id = made.chain_id
        self._remember(f"WORKDIR {path}", made)

    async def _copy(self, entry: i.Copy) -> None:
        words = self._expand
        target = words(entry.target)
        entry = replace(
            entry,
            sources=tuple(words(source) for source in entry.sources),
            target=posixpath.join(self._state.directory, target)
            + ("/" if target.rstrip("/").endswith((".", "/.")) or target == "." else ""),
            chown=words(entry.chown),
            chmod=words(entry.chmod),
            exclude=tuple(words(pattern) for pattern in entry.exclude),
            heredocs=tuple(
                replace(d, content=self._raw(d)) if d.expand else d for d in entry.heredocs
            ),
        )
        if isinstance(entry, i.Add):
            entry = replace(entry, checksum=words(entry.checksum))
        made = await CopyStep(self._build, self._state).run(entry, self._step(entry))
        self._state.chain_id = made.chain_id
        self._remember(entry.text, made)

    def _raw(self, document: Heredoc) -> str:
        return Expansion(self._state.variables, self._build.file.escape).raw(document.content)

    async def _run(self, entry: i.Run) -> None:
        build, state = self._build, self._state
        request = build.request
        expanded = tuple(
            i.Mount(tuple((name, self._expand(value)) for name, value in mount.options))
            for mount in entry.mounts
        )
        mounts = Mounts(
            expanded, request, build.place, build.caches, build.layers.state, state.directory
        )
        proxies = {name: request.args[name] for name in PREDEFINED if name in request.args}
        env = {**state.args, **state.env}
        args, script = self._command(entry)
        network = entry.network if entry.network != "default" else request.network
        insecure, devices = entry.security == "insecure", allowed_devices(entry, request.allow)
        if insecure and "security.insecure" not in request.allow:
            raise PermissionDenied(
                "security insecure: is not allowed", hint="--allow security.insecure"
            )
        work = Work(
            args=args, env=(), directory=state.directory, user=state.user, network=network,
            memory_limit=request.memory_limit, milli_cpus=request.milli_cpus,
            add_hosts=request.add_hosts, privileged=insecure, devices=devices,
        )  # fmt: skip
        inputs: Mapping[str, object] = {
            "kind": "run", "parent": state.chain_id, "command": list(args), "script": script,
            "env": {k: v for k, v in env.items() if k not in PREDEFINED or k in state.args},
            "directory": state.directory, "user": state.user, "network": network,
            "mounts": await mounts.inputs(), "epoch": request.epoch,
        }  # fmt: skip
        if insecure or devices:
            inputs = {**inputs, "security": entry.security, "devices": list(devices)}

        async def execute(step: Step) -> Made:
            await asyncio.to_thread(check_runnable, state.platform)
            return await build.executed(step, state, work, {**proxies, **env}, mounts, script)

        made = await self._step(entry).made(inputs, execute)
        state.chain_id = made.chain_id
        shown = " ".join(args) if entry.command.shell else entry.text.removeprefix("RUN ")
        declared = [f"{name}={value}" for name, value in sorted(state.args.items())]
        prefix = f"|{len(declared)} {' '.join(declared)} " if declared else ""
        self._remember(f"RUN {prefix}{shown} # cored", made)

    def _command(self, entry: i.Run) -> tuple[tuple[str, ...], str]:
        """The arguments, and the script that a here-document with its own interpreter is."""
        command, documents = entry.command, entry.heredocs
        if not command.shell:
            return command.args, ""
        text = command.args[0]
        if documents and len(documents) == 1 and re.fullmatch(r"<<-?\S+", text):
            document = documents[0]
            content = self._raw_run(document)
            if content.startswith("#!"):
                return (*self._state.shell, "/dev/pipes/script"), content
            return (*self._state.shell, content), ""
        if documents:
            text += "\n" + "".join(f"{d.content}{d.name}\n" for d in documents)
        return (*self._state.shell, text), ""

    def _raw_run(self, document: Heredoc) -> str:
        """Variables of RUN are the shell's business."""
        return document.content
