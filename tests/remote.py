"""Daemons that listen on the network of their namespace, their clients, and wires to cut."""

from __future__ import annotations

import os
import re
import select
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.certificates import Authority, authority
from tests.daemons import CORECTL, Daemon, cored

__all__ = ["Remote", "Wire", "certificates", "listening", "remote", "settings"]


def certificates(place: Path, ca: Authority, name: str) -> Path:
    """A directory as CORED_CERT_PATH names it, of a client that ``ca`` vouches for."""
    certificate, key = ca.issue(name)
    place.mkdir()
    for source, target in ((ca.certificate, "ca"), (certificate, "cert"), (key, "key")):
        (place / f"{target}.pem").write_bytes(source.read_bytes())
    return place


@dataclass(frozen=True)
class Remote:
    """A daemon, the port that it listens on, and the files of a client that it accepts."""

    daemon: Daemon
    port: int
    ca: Authority
    files: Path

    @property
    def host(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "CORED_HOST": self.host, "CORED_CERT_PATH": str(self.files)}

    def corectl(
        self, *arguments: str, check: bool = True, host: str = "", **options: object
    ) -> subprocess.CompletedProcess[bytes]:
        """corectl as on another host."""
        environment = dict(self.environment) | ({"CORED_HOST": host} if host else {})
        done = subprocess.run(
            [*CORECTL, *arguments],
            env=environment,
            **{"capture_output": True, "timeout": 120, **options},  # type: ignore[call-overload]
        )
        if check and done.returncode != 0:
            raise RuntimeError(
                f"corectl {' '.join(arguments)}: {done.stderr!r}\n{self.daemon.log[-3000:]}"
            )
        return done


def settings(ca: Path, certificate: Path, key: Path, address: str = "tcp://127.0.0.1:0") -> str:
    """The table of a daemon's configuration."""
    return f"""
[tcp]
address = "{address}"
ca = "{ca}"
certificate = "{certificate}"
key = "{key}"
"""


@contextmanager
def listening(place: Path) -> Iterator[Remote]:
    """A daemon on a port of 127.0.0.1; its files are below ``place``."""
    ca = authority(place / "ca")
    files = certificates(place / "client", ca, "client")
    with cored(settings(ca.certificate, *ca.issue("server"))) as daemon:
        port = re.search(r"tcp://127\.0\.0\.1:(\d+)", daemon.log)
        assert port is not None
        yield Remote(daemon, int(port[1]), ca, files)


@contextmanager
def remote(busybox: Path, place: Path) -> Iterator[Remote]:
    """The same, and it knows busybox."""
    with listening(place) as running:
        running.daemon.ctr("images", "import", str(busybox))
        yield running


class Wire:
    """A port whose connections all lead to another, until they are cut."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def host(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Break all connections, and take no more."""
        self._listener.close()
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            self._ends += [near, far]
            threading.Thread(target=_between, args=(near, far), daemon=True).start()


def _between(near: socket.socket, far: socket.socket) -> None:
    others = {near: far, far: near}
    with near, far, suppress(OSError):
        while True:
            for source in select.select([near, far], [], [])[0]:
                data = source.recv(1 << 16)
                if not data:
                    return
                others[source].sendall(data)
