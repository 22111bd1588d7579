"""``RUN --mount``: what each one means for the cache, and what it is while the step runs."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cored import scope
from cored.abc.values import Mount as FileMount
from cored.errors import InvalidArgument, NotFound
from cored.oci.mounts import Bind, Tmpfs
from cored_service_build.dockerfile.instructions import Mount
from cored_service_build.layers import mounted
from cored_service_build.places import Place
from cored_service_build.trees import located, resolved
from cored_service_build.values import Request

__all__ = ["Caches", "Mounted", "Mounts"]

Resolve = Callable[[str], Awaitable[Place]]


@dataclass(slots=True)
class Caches:
    """Directories that steps share from build to build, below ``root``, with who has them."""

    root: Path
    locks: dict[Path, asyncio.Lock] = field(default_factory=dict)
    users: Counter[Path] = field(default_factory=Counter)

    def place(self, id: str) -> Path:
        name = hashlib.sha256(id.encode()).hexdigest()[:32]
        return self.root / scope.namespace() / name

    @contextmanager
    def used(self, place: Path) -> Iterator[None]:
        """Nobody removes it while the body runs."""
        self.users[place] += 1
        try:
            yield
        finally:
            self.users[place] -= 1

    async def prune(self) -> int:
        """Remove those of the namespace that no step has now; how many."""
        place = self.root / scope.namespace()
        gone = [p for p in place.iterdir() if not self.users[p]] if place.exists() else []
        for path in gone:
            # at once, so that the next step that wants one makes it anew
            trash = path.with_name(f".gone-{uuid.uuid4().hex}")
            path.rename(trash)
            await asyncio.to_thread(shutil.rmtree, trash)
        return len(gone)

    def lock(self, place: Path) -> asyncio.Lock:
        return self.locks.setdefault(place, asyncio.Lock())


@dataclass(slots=True)
class Mounted:
    """What a step gets of its mounts."""

    binds: list[Bind] = field(default_factory=list)
    tmpfs: list[Tmpfs] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    secrets: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Mounts:
    """One step's; options with their variables replaced. ``directory`` is where it works."""

    mounts: tuple[Mount, ...]
    request: Request
    resolve: Resolve
    caches: Caches
    state: Path
    directory: str

    async def inputs(self) -> list[Mapping[str, object]]:
        """What of them decides the step's result: all but secrets and what caches hold."""
        found: list[Mapping[str, object]] = []
        for mount in self.mounts:
            entry: dict[str, object] = dict(mount.options)
            if mount.type == "bind":
                place = await self.resolve(mount.get("from") or "")
                source = mount.get("source", "src") or "."
                entry["content"] = dict(await place.files([source], ()))
            found.append(entry)
        return found

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Mounted]:
        """Everything in its place while the body runs. NotFound, InvalidArgument."""
        there = Mounted()
        async with AsyncExitStack() as stack:
            for number, mount in enumerate(self.mounts):
                match mount.type:
                    case "bind":
                        await self._bind(mount, there, stack)
                    case "cache":
                        await self._cache(mount, there, stack)
                    case "tmpfs":
                        size = mount.get("size")
                        options = f"size={size}" if size else ""
                        there.tmpfs.append(Tmpfs(self._target(mount), options))
                    case "secret":
                        await self._secret(mount, there, stack)
                    case "ssh":
                        self._ssh(mount, there, number)
            yield there

    def _target(self, mount: Mount) -> str:
        target = mount.get("target", "dst", "destination") or ""
        return os.path.normpath(os.path.join(self.directory, target))

    async def _bind(self, mount: Mount, there: Mounted, stack: AsyncExitStack) -> None:
        place = await self.resolve(mount.get("from") or "")
        root = await stack.enter_async_context(place.opened())
        wanted = mount.get("source", "src") or "."
        source = resolved(root, wanted)
        if not source.exists():
            raise NotFound(f"mount source {wanted!r}: not found")
        writable = _yes(mount, "rw", "readwrite")
        if writable:
            source = await self._discarding(source, stack)
        there.binds.append(Bind(os.fspath(source), self._target(mount), not writable))

    async def _discarding(self, lower: Path, stack: AsyncExitStack) -> Path:
        """A directory or file whose changes go nowhere."""
        above = self.state / f"writable-{uuid.uuid4().hex}"
        for name in ("upper", "work"):
            (above / name).mkdir(parents=True)
        stack.push_async_callback(asyncio.to_thread, shutil.rmtree, above)
        if not lower.is_dir():
            return Path(await asyncio.to_thread(shutil.copy2, lower, above / "upper"))
        options = (f"lowerdir={lower}", f"upperdir={above}/upper", f"workdir={above}/work")
        mount = FileMount("overlay", "overlay", "", options)
        return await stack.enter_async_context(mounted([mount], self.state))

    async def _cache(self, mount: Mount, there: Mounted, stack: AsyncExitStack) -> None:
        target = self._target(mount)
        place = self.caches.place(mount.get("id") or target)
        sharing = mount.get("sharing") or "shared"
        if sharing == "locked":
            await stack.enter_async_context(self.caches.lock(place))
        elif sharing == "private":
            number = 0
            while self.caches.lock(place).locked():
                number += 1
                place = place.with_name(f"{place.name.partition('.')[0]}.{number}")
            await stack.enter_async_context(self.caches.lock(place))
        stack.enter_context(self.caches.used(place))
        if not place.exists():
            await self._new_cache(mount, place)
        read_only = _yes(mount, "ro", "readonly")
        there.binds.append(Bind(os.fspath(place), target, read_only))

    async def _new_cache(self, mount: Mount, place: Path) -> None:
        made = place.with_name(f"{place.name}.new-{uuid.uuid4().hex}")
        made.mkdir(parents=True)
        origin = mount.get("from")
        if origin:
            source = await self.resolve(origin)
            async with source.opened() as root:
                path = root / located(root, mount.get("source", "src") or "")
                await asyncio.to_thread(
                    shutil.copytree, path, made, symlinks=True, dirs_exist_ok=True
                )
        made.chmod(int(mount.get("mode") or "0755", 8))
        os.chown(made, int(mount.get("uid") or 0), int(mount.get("gid") or 0))
        if not place.exists():
            made.rename(place)
        else:  # somebody was quicker
            await asyncio.to_thread(shutil.rmtree, made)

    async def _secret(self, mount: Mount, there: Mounted, stack: AsyncExitStack) -> None:
        target, variable = mount.get("target", "dst", "destination"), mount.get("env")
        id = mount.get("id") or os.path.basename(target or "")
        if not id:
            raise InvalidArgument("mount of type secret: needs an id or a target")
        secret = self.request.secrets.get(id)
        if secret is None:
            if _yes(mount, "required"):
                raise NotFound(f"secret {id!r}: was not given", hint=f"--secret id={id},src=FILE")
            return
        there.secrets.append(secret)
        if variable:
            there.env[variable] = secret.decode(errors="surrogateescape")
            if not target:
                return
        # in memory: nothing of it may reach a disk
        memory = FileMount("tmpfs", "tmpfs", "", ("mode=0700", "size=1m"))
        place = await stack.enter_async_context(mounted([memory], self.state)) / "secret"
        place.touch(0o600)
        place.write_bytes(secret)
        os.chown(place, int(mount.get("uid") or 0), int(mount.get("gid") or 0))
        place.chmod(int(mount.get("mode") or "0400", 8))
        where = os.path.join(self.directory, target) if target else f"/run/secrets/{id}"
        there.binds.append(Bind(os.fspath(place), where, True))

    def _ssh(self, mount: Mount, there: Mounted, number: int) -> None:
        id = mount.get("id") or "default"
        agent = self.request.ssh.get(id)
        if agent is None:
            if _yes(mount, "required"):
                raise NotFound(f"ssh agent {id!r}: was not given", hint=f"--ssh {id}")
            return
        target = mount.get("target", "dst", "destination")
        where = target or f"/run/buildkit/ssh_agent.{number}"
        there.binds.append(Bind(agent, where))
        there.env["SSH_AUTH_SOCK"] = where


def _yes(mount: Mount, *names: str) -> bool:
    value = mount.get(*names)
    return value is not None and value.lower() in ("", "true", "1")
