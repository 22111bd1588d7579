"""Assembly of the daemon: the one place that names concrete classes; one exit stack for all.

Everything opens in order and closes in reverse. The runtime is first, for it takes a while until
its shims say that they are there. Then come stages, modules that name the concrete classes:
``first_stage.py`` (tasks), after which the server listens; ``storage_stage.py`` (content,
snapshots, records, containerd's central services) and ``second_stage.py`` (the rest), which are
imported and opened while calls are answered already; calls of their services wait.
``tests/unit/test_daemon_startup.py`` guards what is imported when. Containers are not among what
closes: their shims live on their own.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from types import ModuleType

from cored import log
from cored.config import Config
from cored.directories import directory, private
from cored.errors import FailedPrecondition, PermissionDenied
from cored.hookspecs import PluginKind
from cored.plugins import Context, Plugins, discover, early

__all__ = ["Lock", "assembled", "make_plugins", "notify", "run", "settle_memory"]

_GIVE_WAY = 0.0005
_BREATH = 0.03


async def run(config: Config) -> None:
    """Serve until SIGTERM or SIGINT; then finish what is in flight. Containers stay."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    logger = log.get("daemon")
    async with assembled(config):
        logger.info("serving", address=config.address, root=str(config.root), pid=os.getpid())
        notify("READY=1")
        await stop.wait()
        logger.info("stopping: finishing calls in flight, containers stay")
        notify("STOPPING=1")


@asynccontextmanager
async def assembled(config: Config) -> AsyncIterator[Plugins]:
    """A whole daemon, serving on ``config.address`` while the body runs."""
    if os.geteuid() != 0:
        raise PermissionDenied(
            "cored: needs root to mount and to make namespaces", hint="run it with sudo"
        )
    async with AsyncExitStack() as stack:
        stack.enter_context(Lock(private(config.root) / "lock"))
        directory(config.state, 0o711)
        plugins = make_plugins(config)
        if config.proxies():
            # imported here: few have any
            from cored.proxies import providers

            for kind, provider in providers(config):
                plugins.offer(kind, provider, "configuration: proxy_plugins")
        await plugins.open(PluginKind.RUNTIME, stack)
        # in threads: shims say that they are there meanwhile, and then calls are answered
        first = await asyncio.to_thread(_first_stage)
        services = await first.opened(config, plugins, stack)
        # closed when no call is in flight any more
        rest = await stack.enter_async_context(AsyncExitStack())
        server = await stack.enter_async_context(first.serving(config, plugins, services))
        await asyncio.sleep(_BREATH)  # for those who have waited for the socket
        first.settled(plugins)
        with _calls_first():
            for stage in (_storage_stage, _second_stage):
                module = await asyncio.to_thread(stage, plugins)
                await server.add(await module.opened(config, plugins, rest))
            await server.complete()
        settle_memory()
        yield plugins


@contextmanager
def _calls_first() -> Iterator[None]:
    """Let threads that import give way to the loop sooner than they do by default (5 ms)."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(_GIVE_WAY)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def _first_stage() -> ModuleType:
    from cored import first_stage

    return first_stage


def _storage_stage(plugins: Plugins) -> ModuleType:
    from cored import storage_stage

    plugins.discover_rest()
    return storage_stage


def _second_stage(_: Plugins) -> ModuleType:
    from cored import second_stage

    return second_stage


def settle_memory() -> None:
    """What is there now stays: the collector of cycles, off until here, need not look at it."""
    gc.freeze()
    gc.enable()


def notify(state: str) -> None:
    """Tell systemd (sd_notify(3)); nothing where there is none."""
    target = os.environ.get("NOTIFY_SOCKET")
    if not target:
        return
    import socket

    if target.startswith("@"):
        target = "\0" + target[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(state.encode(), target)


class Lock:
    """One daemon per root: an flock that the kernel lets go of when we die."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._fd, 32, 0).decode(errors="replace").strip()
            os.close(self._fd)
            raise FailedPrecondition(
                f"root {self._path.parent}: in use by another cored (pid {holder or 'unknown'})",
                hint="stop it, or choose another --root",
            ) from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def make_plugins(config: Config) -> Plugins:
    """The plugins of the installation that the first stage needs, none of them open."""
    manager, failed = discover(wanted=early)

    def context(plugins: Plugins, kind: PluginKind, id: str) -> Context:
        return Context(
            id=id,
            kind=kind,
            root=directory(config.root / f"{kind}.{id}", 0o711),
            state=directory(config.state / f"{kind}.{id}", 0o711),
            settings=config.for_plugin(kind, id),
            address=config.address,
            plugins=plugins,
        )

    return Plugins(manager, failed, context, frozenset(config.disabled_plugins))
