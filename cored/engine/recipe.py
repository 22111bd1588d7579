"""From a container's description to its OCI spec and the files that it gets from us."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from cored import linux
from cored.abc.runtime import Stdio
from cored.abc.values import Mount
from cored.engine.workload import Binding, ContainerConfig
from cored.errors import InvalidArgument, NotFound, from_mount_error
from cored.oci.manifest import ImageConfig
from cored.oci.spec import Bind, SpecOptions, build, environment
from cored.oci.users import User, resolve, simple

__all__ = ["Recipe", "command_of"]

_CGROUP_V2 = Path("/sys/fs/cgroup/cgroup.controllers")


def command_of(config: ContainerConfig, image: ImageConfig) -> tuple[str, ...]:
    """Entrypoint and arguments, docker's way. InvalidArgument when there are none."""
    if config.entrypoint is not None:
        command = (*config.entrypoint, *config.args)
    else:
        command = (*image.entrypoint, *(config.args or image.cmd))
    if not command or not command[0]:
        raise InvalidArgument(f"image {config.image!r}: no command", hint="name one after it")
    return command


@dataclass(frozen=True, slots=True)
class Recipe:
    """One container's; ``place`` is its directory among ours."""

    id: str
    cgroup: str
    config: ContainerConfig
    image: ImageConfig
    place: Path

    @property
    def hostname(self) -> str:
        if self.config.network == "host" and not self.config.hostname:
            return os.uname().nodename
        return self.config.hostname or self.id[:12]

    @property
    def command(self) -> tuple[str, ...]:
        """What it runs."""
        return command_of(self.config, self.image)

    @property
    def log(self) -> Path:
        """Where its output is kept."""
        return self.place / "log.json"

    def stdio(self, fifos: Stdio) -> Stdio:
        """The log, with a copy to whoever is attached through FIFOs."""
        terminal = self.config.terminal
        return Stdio(
            fifos.stdin,
            self._logged(fifos.stdout),
            "" if terminal else self._logged(fifos.stderr),
            terminal,
        )

    def _logged(self, fifo: str) -> str:
        return f"json-file://{quote(str(self.log))}" + (f"?copy={quote(fifo)}" if fifo else "")

    def check(self) -> None:
        """InvalidArgument, NotFound for what can be told before anything is made."""
        _ = self.command
        if self.config.network not in ("", "private", "none", "host"):
            raise InvalidArgument(
                f"network {self.config.network!r}: unknown", hint="private (loopback only) or host"
            )
        for bind in self.config.mounts:
            _check_bind(bind)

    def prepare(self) -> None:
        """Make the directory with its files, and the sources of binds that want it."""
        self.place.mkdir(mode=0o700, parents=True)
        name = self.hostname
        hosts = (
            f"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{name}\n"
        )
        (self.place / "hostname").write_text(f"{name}\n")
        if self.config.network == "host":
            shutil.copyfile("/etc/hosts", self.place / "hosts")
        else:
            (self.place / "hosts").write_text(hosts)
        try:
            shutil.copyfile("/etc/resolv.conf", self.place / "resolv.conf")
        except FileNotFoundError:
            (self.place / "resolv.conf").touch()
        for bind in self.config.mounts:
            if bind.create_source:
                Path(bind.source).mkdir(parents=True, exist_ok=True)

    def discard(self) -> None:
        """Remove the directory; fine when it is gone."""
        shutil.rmtree(self.place, ignore_errors=not self.place.exists())

    def user(self, rootfs: Sequence[Mount]) -> User:
        """Who it runs as; looks into the root filesystem where names want it. Blocks."""
        wanted = self.config.user or self.image.user
        known = simple(wanted)
        if known is not None:
            return known
        try:
            with linux.mounted(rootfs, self.place) as root:
                return resolve(wanted, lambda path: _read(root, path))
        except OSError as error:
            raise from_mount_error(f"container {self.id[:12]}: root filesystem", error) from error

    def spec(self, user: User) -> dict[str, object]:
        """The OCI spec."""
        config = self.config
        binds = [
            Bind(str(self.place / name), f"/etc/{name}")
            for name in ("hostname", "hosts", "resolv.conf")
        ]
        binds += [Bind(b.source, b.target, b.read_only) for b in config.mounts]
        return build(
            SpecOptions(
                args=self.command,
                env=environment(self.image.env, config.env, self.hostname, config.terminal),
                working_directory=config.working_directory or self.image.working_dir or "/",
                user=user,
                terminal=config.terminal,
                hostname=self.hostname,
                cgroup=self.cgroup,
                binds=binds,
                privileged=config.privileged,
                read_only=config.read_only,
                cap_add=config.cap_add,
                cap_drop=config.cap_drop,
                memory=config.memory,
                cpus=config.nano_cpus,
                pids=config.pids,
                files=_files(),
                host_network=config.network == "host",
                cgroup_v2=_CGROUP_V2.exists(),
            )
        )


def _files() -> int:
    """docker's limit of open files, or ours if that is lower and we may not raise it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 524288 if hard == resource.RLIM_INFINITY else min(hard, 524288)


def _check_bind(bind: Binding) -> None:
    if not bind.source.startswith("/"):
        raise InvalidArgument(
            f"volume {bind.source!r}: the host's path must be absolute", hint="-v /host:/container"
        )
    if not bind.target.startswith("/") or bind.target == "/":
        raise InvalidArgument(f"volume target {bind.target!r}: must be absolute, and not /")
    if not bind.create_source and not Path(bind.source).exists():
        raise NotFound(f"volume {bind.source!r}: no such file or directory")


def _read(root: Path, path: str) -> str:
    """A file of the container's, looked up as the container would; '' where there is none."""
    try:
        with linux.opened_below(str(root), path) as place:
            return Path(place).read_text(errors="replace")
    except OSError:
        return ""
