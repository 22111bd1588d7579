"""Names in networks: a dnsmasq beside each network's bridge, which outlives the daemon.

A file for each container in ``<state>/<network>/hosts`` is all that dnsmasq needs to be told: it
watches the directory. What it does not know it asks the host's own servers.
"""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cored import log
from cored.errors import Internal

__all__ = ["Resolvers"]

_PROGRAM = "dnsmasq"
_PATIENCE = 5.0


class Resolvers:
    """The servers of all networks, with their files in ``state``."""

    def __init__(self, state: Path, program: str = _PROGRAM) -> None:
        self._state = state
        self._program = program
        self._watched: dict[str, int] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._warned = False
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def available(self) -> bool:
        """Whether this host has the server."""
        if shutil.which(self._program) is not None:
            return True
        if not self._warned:
            self._warned = True
            log.get("networks").warning(
                "names of containers are not resolved: dnsmasq is not installed",
                hint="apt-get install dnsmasq-base",
            )
        return False

    async def enter(
        self, network: str, gateways: Sequence[str], id: str, entries: Sequence[tuple[str, str]]
    ) -> None:
        """Let names be found: ``entries`` are (address, names with blanks between)."""
        if not self.available or not gateways:
            return
        lock = self._locks.setdefault(network, asyncio.Lock())
        async with lock:
            await asyncio.to_thread(self._write, network, id, entries)
            await self._ensure(network, gateways)

    async def begin(self, network: str, gateways: Sequence[str]) -> None:
        """Start a network's server; its addresses may come later."""
        if not self.available or not gateways:
            return
        async with self._locks.setdefault(network, asyncio.Lock()):
            if not self._pid(network):
                await asyncio.to_thread(self._hosts(network).mkdir, 0o755, True, True)
                await self._ensure(network, gateways)

    def leave(self, network: str, id: str) -> None:
        """Forget a container's names; fine when they are gone. Blocks."""
        (self._state / network / "hosts" / id).unlink(missing_ok=True)

    def end(self, network: str) -> None:
        """End a network's server; fine when there is none. Blocks."""
        if (self._state / network).exists():
            self._end(network)

    async def adopt(self, networks: dict[str, Sequence[str]]) -> None:
        """After a start: the servers of earlier daemons go on, those that died start again.

        ``networks`` are those in use, with their gateways; any other's server ends.
        """
        if not self._state.exists():
            return
        for place in sorted(self._state.iterdir()):
            for half in place.glob("hosts/.*"):
                half.unlink()  # a crash came between
            if place.name not in networks:
                await asyncio.to_thread(self._end, place.name)
            elif self.available:
                await self._ensure(place.name, networks[place.name])

    def close(self) -> None:
        """Stop looking after the servers; they go on."""
        loop = asyncio.get_running_loop()
        for fd in self._watched.values():
            loop.remove_reader(fd)
            os.close(fd)
        self._watched.clear()

    def _write(self, network: str, id: str, entries: Sequence[tuple[str, str]]) -> None:
        hosts = self._hosts(network)
        hosts.mkdir(mode=0o755, parents=True, exist_ok=True)
        # a name with a dot in front is none that dnsmasq looks at
        new = hosts / f".{id}"
        new.write_text("".join(f"{address}\t{names}\n" for address, names in entries))
        new.replace(hosts / id)

    def _hosts(self, network: str) -> Path:
        return self._state / network / "hosts"

    async def _ensure(self, network: str, gateways: Sequence[str]) -> None:
        pid = self._pid(network)
        if not pid:
            await asyncio.to_thread(self._start, network, gateways)
            pid = self._pid(network)
        if pid and network not in self._watched:
            self._watch(network, pid, gateways)

    def _start(self, network: str, gateways: Sequence[str]) -> None:
        place = self._state / network
        command = [
            self._program,
            "--conf-file=/dev/null",
            f"--pid-file={place}/pid",
            f"--log-facility={place}/log",
            "--bind-dynamic",
            *(f"--listen-address={gateway}" for gateway in gateways),
            "--no-hosts",
            # a name without a dot is a container's or nobody's, and not for others to hear of
            "--domain-needed",
            f"--hostsdir={place}/hosts",
            *self._user(),
            # names of containers change from second to second
            "--local-ttl=0",
            "--no-negcache",
            "--cache-size=1000",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = done.stderr.strip().removeprefix("dnsmasq:").strip()
            raise Internal(f"network {network!r}: its name server does not start: {said}")
        end = time.monotonic() + _PATIENCE
        while not self._pid(network) and time.monotonic() < end:
            time.sleep(0.005)

    def _user(self) -> list[str]:
        """Who serves once the port is open: nobody in particular, who may come to the files."""
        for place in (self._state, *self._state.parents):
            if not place.stat().st_mode & 0o001:
                log.get("networks").warning(
                    "a name server runs as root: others may not enter a directory above its files",
                    directory=str(place),
                    hint=f"chmod o+x {place}",
                )
                return ["--user=root"]
        nobody = pwd.getpwnam("nobody")
        return ["--user=nobody", f"--group={grp.getgrgid(nobody.pw_gid).gr_name}"]

    def _pid(self, network: str) -> int:
        """The server's pid; 0 when it does not run."""
        place = self._state / network
        try:
            pid = int((place / "pid").read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ValueError, ProcessLookupError):
            return 0
        return pid if f"--pid-file={place}/pid".encode() in command.split(b"\0") else 0

    def _end(self, network: str) -> None:
        # first: a server that is gone with its files there is started again
        place = self._state / network
        if (place / "hosts").exists():
            (place / "hosts").rename(place / "ending")
        pid = self._pid(network)
        if pid:
            with suppress(ProcessLookupError):
                fd = os.pidfd_open(pid)
                try:
                    signal.pidfd_send_signal(fd, signal.SIGTERM)
                    # it removes its pid file itself
                    select.select([fd], [], [], _PATIENCE)
                finally:
                    os.close(fd)
        shutil.rmtree(place)

    def _watch(self, network: str, pid: int, gateways: Sequence[str]) -> None:
        """Start it again when it dies while it is wanted."""
        loop = asyncio.get_running_loop()
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        self._watched[network] = fd

        def ended() -> None:
            loop.remove_reader(fd)
            os.close(fd)
            self._watched.pop(network, None)
            if (self._state / network / "hosts").exists():
                log.get("networks").warning("a name server died, starting another", network=network)
                task = loop.create_task(self._again(network, gateways))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

        loop.add_reader(fd, ended)

    async def _again(self, network: str, gateways: Sequence[str]) -> None:
        async with self._locks.setdefault(network, asyncio.Lock()):
            if (self._state / network / "hosts").exists():
                await self._ensure(network, gateways)
