"""Containers.

Awaited; written by tests/surfaces.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Unpack

from cored.client.aio.container_files import FileVerbs
from cored.client.aio.sessions import Session
from cored.client.aio.watching import WatchingVerbs
from cored.client.api import containers as api
from cored.client.api.options import ContainerOptions
from cored.client.api.values import Container, Output, Pruned

__all__ = ["Containers"]


class Containers(FileVerbs, WatchingVerbs):
    """``container`` is an id, a unique beginning of one, or a name.

    NotFound when there is none, FailedPrecondition when it is not in the state that is needed.
    """

    _inner: api.Containers

    async def create(
        self, image: str, command: Sequence[str] = (), **options: Unpack[ContainerOptions]
    ) -> Container:
        """Make a container without starting it. NotFound when the image is not there: pull it."""
        return await self._call(self._inner.create, image, command, **options)

    async def start(self, container: str) -> None:
        """Start one that does not run."""
        await self._call(self._inner.start, container)

    async def run(
        self,
        image: str,
        command: Sequence[str] = (),
        *,
        input: bytes = b"",
        check: bool = True,
        **options: Unpack[ContainerOptions],
    ) -> Output:
        """Run a container to its end, remove it, and answer what it wrote.

        CommandFailed for an exit status other than 0, unless ``check`` is False.
        """
        return await self._call(
            self._inner.run, image, command, input=input, check=check, **options
        )

    async def begin(
        self,
        image: str,
        command: Sequence[str] = (),
        *,
        stdin: bool = False,
        **options: Unpack[ContainerOptions],
    ) -> Session:
        """Make a container and start it with its streams in our hands."""
        return Session(await self._call(self._inner.begin, image, command, stdin=stdin, **options))

    async def attach(self, container: str, *, stdin: bool = False) -> Session:
        """Join the streams of one that runs, beside whoever else does: what it writes from now on.

        Its end is awaited from now on, too: of one that removes itself it is known all the same.
        """
        return Session(await self._call(self._inner.attach, container, stdin=stdin))

    async def exec(
        self,
        container: str,
        command: Sequence[str],
        *,
        input: bytes = b"",
        check: bool = True,
        env: Mapping[str, str] | None = None,
        user: str = "",
        working_directory: str = "",
        privileged: bool = False,
    ) -> Output:
        """Run a command in one that runs, to its end. CommandFailed as for :meth:`run`."""
        return await self._call(
            self._inner.exec,
            container,
            command,
            input=input,
            check=check,
            env=env,
            user=user,
            working_directory=working_directory,
            privileged=privileged,
        )

    async def begin_exec(
        self,
        container: str,
        command: Sequence[str],
        *,
        stdin: bool = False,
        terminal: bool = False,
        env: Mapping[str, str] | None = None,
        user: str = "",
        working_directory: str = "",
        privileged: bool = False,
    ) -> Session:
        """Start a command in one that runs, with its streams in our hands."""
        return Session(
            await self._call(
                self._inner.begin_exec,
                container,
                command,
                stdin=stdin,
                terminal=terminal,
                env=env,
                user=user,
                working_directory=working_directory,
                privileged=privileged,
            )
        )

    async def stop(self, container: str, *, timeout: int | None = None, signal: str = "") -> None:
        """Stop signal, and SIGKILL after ``timeout`` seconds; None is its own, or 10."""
        await self._call(self._inner.stop, container, timeout=timeout, signal=signal)

    async def restart(
        self, container: str, *, timeout: int | None = None, signal: str = ""
    ) -> None:
        """Stop it, if it runs, and start it."""
        await self._call(self._inner.restart, container, timeout=timeout, signal=signal)

    async def kill(self, container: str, signal: int = 9) -> None:
        """Send its first process a signal, by number."""
        await self._call(self._inner.kill, container, signal)

    async def pause(self, container: str) -> None:
        """Freeze all its processes."""
        await self._call(self._inner.pause, container)

    async def unpause(self, container: str) -> None:
        """Let them go on."""
        await self._call(self._inner.unpause, container)

    async def wait(self, container: str) -> int:
        """Its exit status, once it has ended."""
        return await self._call(self._inner.wait, container)

    async def rename(self, container: str, name: str) -> None:
        """Give it another name. AlreadyExists."""
        await self._call(self._inner.rename, container, name)

    async def update(
        self,
        container: str,
        *,
        memory: int = 0,
        cpus: float = 0.0,
        pids: int = 0,
        restart: str = "",
    ) -> None:
        """Change limits (bytes; how many CPUs; processes) and the restart policy."""
        await self._call(
            self._inner.update, container, memory=memory, cpus=cpus, pids=pids, restart=restart
        )

    async def remove(self, container: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove it; with ``force`` also when it runs, with ``volumes`` its anonymous ones, too."""
        await self._call(self._inner.remove, container, force=force, volumes=volumes)

    async def prune(self, filters: Sequence[str] = ()) -> Pruned:
        """Remove those that do not run."""
        return await self._call(self._inner.prune, filters)

    async def get(self, container: str) -> Container:
        """One."""
        return await self._call(self._inner.get, container)

    async def list(self, *, all: bool = False, filters: Sequence[str] = ()) -> list[Container]:
        """Those that run, or all; ``filters`` are docker's: ``label=app=shop``."""
        return await self._call(self._inner.list, all=all, filters=filters)
