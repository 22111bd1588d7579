"""COPY, ADD and WORKDIR as steps: what goes into their keys, and how they are done."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cored import plainfiles
from cored.abc.values import Mount
from cored.errors import FailedPrecondition
from cored.oci.users import resolve
from cored_service_build import remote
from cored_service_build.cache import Made
from cored_service_build.copying import Copying
from cored_service_build.dockerfile import instructions as i
from cored_service_build.dockerfile.urls import is_git, is_url
from cored_service_build.layers import Work, mounted
from cored_service_build.places import Place
from cored_service_build.state import StageState
from cored_service_build.steps import Step
from cored_service_build.trees import Selected, resolved, selected

if TYPE_CHECKING:
    from cored_service_build.building import Build

__all__ = ["CopyStep"]


@dataclass(slots=True)
class _Brought:
    """What came from elsewhere for one ADD."""

    files: list[remote.Fetched]
    trees: list[remote.Clone]


@dataclass(frozen=True, slots=True)
class CopyStep:
    """In one stage, on what it has come to."""

    build: Build
    state: StageState

    async def directory(self, step: Step, path: str) -> Made:
        """Make a directory unless it is there, for the stage's user."""
        user = self.state.user
        inputs = {
            "kind": "workdir", "parent": self.state.chain_id, "path": path, "user": user,
            "epoch": self.build.request.epoch,
        }  # fmt: skip

        async def execute(_: Step) -> Made:
            async def work(mounts: Sequence[Mount], key: str, after: AsyncExitStack) -> None:
                mount = mounted(mounts, self.build.layers.state)
                root = await after.enter_async_context(mount)
                owner = await asyncio.to_thread(_owner, root, user)
                copying = Copying(root, owner)
                await asyncio.to_thread(copying.directory, path)

            return await self._made(self.state.chain_id, work)

        return await step.made(inputs, execute)

    async def run(self, entry: i.Copy, step: Step) -> Made:
        """Copy. NotFound for sources that are not there; InvalidArgument, FailedPrecondition."""
        far = [s for s in entry.sources if is_url(s) or is_git(s)]
        if not isinstance(entry, i.Add) and far:
            raise FailedPrecondition(f"{far[0]!r}: COPY takes no URLs", hint="use ADD")
        near = [source for source in entry.sources if source not in far]
        repositories = [source for source in far if is_git(source)]
        place = await self.build.place(entry.from_)
        async with self._brought(entry, far) as brought:
            files = dict(await place.files(near, entry.exclude)) if near else {}
            files |= {f"<<{d.name}": d.content for d in entry.heredocs}
            files |= {fetched.name: fetched.digest for fetched in brought.files}
            # what git keeps beside the files is another with each clone
            files |= {
                source: c.commit for source, c in zip(repositories, brought.trees, strict=True)
            }
            inputs: Mapping[str, object] = {
                "kind": "copy", "parent": "" if entry.link else self.state.chain_id,
                "sources": list(near), "files": files, "target": entry.target,
                "chown": entry.chown, "chmod": entry.chmod, "parents": entry.parents,
                "exclude": list(entry.exclude), "epoch": self.build.request.epoch,
                "unpack": entry.unpack if isinstance(entry, i.Add) else False,
                "git": entry.keep_git_dir if isinstance(entry, i.Add) else False,
                "link": self.state.chain_id if entry.link else None,
            }  # fmt: skip

            async def execute(_: Step) -> Made:
                return await self._executed(entry, near, place, brought)

            return await step.made(inputs, execute)

    async def _executed(
        self, entry: i.Copy, near: Sequence[str], place: Place, brought: _Brought
    ) -> Made:
        async def work(mounts: Sequence[Mount], key: str, after: AsyncExitStack) -> None:
            root = await after.enter_async_context(mounted(mounts, self.build.layers.state))
            async with place.opened() as source:
                await self._copied(entry, near, source, brought, root, place.owned)

        if not entry.link:
            return await self._made(self.state.chain_id, work)
        alone = await self._made("", work)
        if alone.layer is None:
            return Made(self.state.chain_id, None)
        if alone.stored is not None:
            await alone.stored
        return await self.build.layers.applied(self.state.chain_id, alone.layer)

    async def _made(self, parent: str, work: Work) -> Made:
        return await self.build.layers.made(parent, work, self.build.request.epoch)

    async def _copied(
        self,
        entry: i.Copy,
        near: Sequence[str],
        source: Path,
        brought: _Brought,
        root: Path,
        owned: bool,
    ) -> None:
        owner: tuple[int, int] | None = None if owned else (0, 0)
        if entry.chown:
            owner = await asyncio.to_thread(_owner, root, entry.chown)
        copying = Copying(root, owner, entry.chmod)
        found = [s for name in near for s in selected(source, name, entry.exclude)]
        if isinstance(entry, i.Add) and entry.unpack is not False:
            found = await self._unpacked(found, entry.target, copying)
        found += [Selected(tree.path, "") for tree in brought.trees]
        many = len(found) + len(entry.heredocs) + len(brought.files) > 1
        target = entry.target if not many or entry.target.endswith("/") else f"{entry.target}/"
        if found:
            await asyncio.to_thread(copying.copy, found, target, parents=entry.parents)
        for document in entry.heredocs:
            copying.write(document.content.encode(), target, document.name)
        for fetched in brought.files:
            await self._fetched(entry, fetched, target, copying)

    async def _unpacked(
        self, found: list[Selected], target: str, copying: Copying
    ) -> list[Selected]:
        """Extract those that are archives; the others."""
        rest = []
        for source in found:
            if await asyncio.to_thread(remote.is_archive, source.place):
                directory = await asyncio.to_thread(copying.directory, target)
                await remote.unpack(
                    self.build.layers.pool, source.place, directory, self.build.layers.state
                )
            else:
                rest.append(source)
        return rest

    async def _fetched(
        self, entry: i.Copy, fetched: remote.Fetched, target: str, copying: Copying
    ) -> None:
        wanted = isinstance(entry, i.Add) and bool(entry.unpack)
        if wanted and await asyncio.to_thread(remote.is_archive, fetched.path):
            directory = await asyncio.to_thread(copying.directory, target)
            state = self.build.layers.state
            await remote.unpack(self.build.layers.pool, fetched.path, directory, state)
            return
        if not fetched.name and resolved(copying.root, target).is_dir():
            raise FailedPrecondition("the URL names no file", hint="name one in the target")
        alone = Copying(copying.root, copying.owner or (0, 0), copying.mode or "600")
        await asyncio.to_thread(alone.write, fetched.path, target, fetched.name, fetched.modified)

    @asynccontextmanager
    async def _brought(self, entry: i.Copy, far: Sequence[str]) -> AsyncIterator[_Brought]:
        """Fetch what is elsewhere, for as long as the body runs."""
        found = _Brought([], [])
        if not far:
            yield found
            return
        assert isinstance(entry, i.Add)
        into = Path(tempfile.mkdtemp(prefix="add-", dir=self.build.spool))
        try:
            for source in far:
                if is_git(source):
                    keep = entry.keep_git_dir
                    found.trees.append(await remote.clone(source, into, keep_git_dir=keep))
                else:
                    checksum = entry.checksum
                    found.files.append(
                        await asyncio.to_thread(remote.download, source, into, checksum)
                    )
            yield found
        finally:
            await asyncio.to_thread(shutil.rmtree, into)


def _owner(root: Path, text: str) -> tuple[int, int]:
    """``USER[:GROUP]`` by the image's own files; a number alone is the group too. Blocks."""
    if not text:
        return 0, 0
    if text.isdecimal():
        return int(text), int(text)
    found = resolve(text, partial(plainfiles.text, str(root)))
    return found.uid, found.gid
