"""From a container's description to its OCI spec and the files that it gets from us."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from cored import linux
from cored.abc.runtime import Stdio
from cored.abc.values import Mount
from cored.engine import cdi, devices, init
from cored.engine.networks import files
from cored.engine.sharing import Borrowed
from cored.engine.workload import Binding, ContainerConfig
from cored.errors import InvalidArgument, NotFound, from_mount_error
from cored.oci.manifest import ImageConfig
from cored.oci.mounts import Bind
from cored.oci.resources import WEIGHT, Resources, Throttle, document, fit
from cored.oci.security import Host
from cored.oci.spec import SpecOptions, build, environment
from cored.oci.users import IdRange, User, groups, resolve, simple
from cored.plainfiles import text

__all__ = ["Recipe", "command_of", "joinable"]

# of an input's path, for the shim: that it stays open when who writes goes away
_OPEN = "open://"
# of what a cgroup may be called
_GROUP = re.compile(r"(/[A-Za-z0-9_.@:-]+)*/?")


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
    """One container's; ``place`` is its directory among ours, ``ids`` its user namespace's.

    ``binds`` are what of the host is mounted in it, volumes too.
    """

    id: str
    config: ContainerConfig
    image: ImageConfig
    place: Path
    host: Host
    ids: IdRange | None = None
    borrowed: Borrowed | None = None
    binds: tuple[Bind, ...] = ()

    @property
    def hostname(self) -> str:
        if self.borrowed is not None and self.borrowed.hostname:
            return self.borrowed.hostname
        if self.config.network == "host" and not self.config.hostname:
            return os.uname().nodename
        return self.config.hostname or self.id[:12]

    @property
    def command(self) -> tuple[str, ...]:
        """What it runs, after the init if there is one."""
        return command_of(self.config, self.image)

    @property
    def fifos(self) -> Stdio:
        """Where somebody may join it later, when nobody is there now."""
        kept = "" if "stdin" in self.config.attached else _OPEN
        return Stdio(
            f"{kept}{self.place / 'stdin'}" if self.config.open_stdin else "",
            str(self.place / "stdout"),
            "" if self.config.terminal else str(self.place / "stderr"),
        )

    @property
    def cgroup(self) -> str:
        parent = self.config.cgroup_parent.rstrip("/")
        return f"{parent}/cored-{self.id}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was asked for and cannot be had here, though the container can."""
        config, host, limits = self.config, self.host, self.config.resources
        found = []
        if limits.memory_limit and not host.swap:
            found.append("memory and swap: this kernel does not count swap; only memory is limited")
        weights = limits.blkio_weight or any(one.kind == WEIGHT for one in limits.throttles)
        if weights and not host.blkio_weight:
            found.append("blkio weight: this kernel has none; it has no effect")
        if config.network == "host" and config.ports and not config.publish_all:
            found.append("published ports: the network is the host's; they have no effect")
        if config.oom_score_adj < host.oom_floor:
            found.append(f"OOM score: {host.oom_floor}, the daemon may not go below its own")
        if host.selinux is None and any(label != "disable" for label in config.security.labels):
            found.append("SELinux labels: this host has no SELinux; they have no effect")
        return tuple(found)

    def check(self) -> None:
        """InvalidArgument, NotFound for what can be told before anything is made."""
        _ = self.command
        if self.config.init:
            init.program()
        cdi.found(self.config.cdi_devices)
        for bind in self.config.mounts:
            _check_bind(bind)
        if not _GROUP.fullmatch(self.config.cgroup_parent) or "/." in self.config.cgroup_parent:
            raise InvalidArgument(
                f"cgroup parent {self.config.cgroup_parent!r}: not an absolute path"
            )
        limits = self.config.resources
        document(limits)
        fit(limits, self.host.cpus, self.host.memory_nodes)
        for size in limits.hugepage_limits:
            if size not in self.host.hugepages:
                there = " ".join(sorted(self.host.hugepages)) or "nothing"
                raise InvalidArgument(
                    f"huge pages {size!r}: unknown here", hint=f"there is {there}"
                )
        if (limits.cpu_rt_period or limits.cpu_rt_runtime) and not self.host.realtime:
            raise InvalidArgument("real-time scheduling: this kernel has none for cgroups")
        self._check_storage()
        if self.config.working_directory and not self.config.working_directory.startswith("/"):
            raise InvalidArgument(
                f"working directory {self.config.working_directory!r}: must be absolute"
            )
        if limits.unified and not self.host.cgroup_v2:
            raise InvalidArgument("unified limits: this host has cgroup v1")
        self.spec(User())

    def _check_storage(self) -> None:
        """No snapshotter of ours can keep a container from writing more than so much."""
        for name in self.config.storage_options:
            if name != "size":
                raise InvalidArgument(f"storage option {name!r}: unknown", hint="there is size")
            raise InvalidArgument(
                "storage option 'size': nothing here can limit a container's files",
                hint="give it a volume or --tmpfs PATH:size=BYTES",
            )

    def prepare(self) -> None:
        """Make the directory with its files, and the sources of binds that want it."""
        self.place.mkdir(mode=0o700, parents=True)
        host = self.config.network == "host"
        names = files.names(self.hostname, self.config.domainname)
        base = files.text(Path("/etc/hosts")) if host else ""
        (self.place / "hostname").write_text(f"{self.hostname}\n")
        (self.place / "hosts").write_text(files.hosts([] if host else names, (), (), base))
        resolv_conf = files.resolv_conf(files.host_resolv_conf(), self.config.dns, (), local=host)
        (self.place / "resolv.conf").write_text(resolv_conf)
        ours = joinable(self.fifos)
        for path in filter(None, (ours.stdin, ours.stdout, ours.stderr)):
            os.mkfifo(path, 0o600)
        self.share_memory()
        for bind in self.config.mounts:
            # what is there may be a file, a socket, a device
            if bind.create_source and not Path(bind.source).exists():
                Path(bind.source).mkdir(parents=True, exist_ok=True)

    def share_memory(self) -> None:
        """See that the /dev/shm is there that others may have, too. Blocks."""
        place = self.place / "shm"
        if self.config.namespaces.ipc != "shareable" or place.is_mount():
            return
        place.mkdir(mode=0o700, exist_ok=True)
        size = f"size={self.config.shm_size or 64 << 20}"
        options = ("nosuid", "noexec", "nodev", "mode=1777", size)
        linux.mount_all([Mount("tmpfs", "shm", options=options)], place)

    def discard(self) -> None:
        """Remove the directory; fine when it is gone."""
        if (self.place / "shm").is_mount():
            linux.unmount_all(self.place / "shm", lazy=True)
        # where a daemon was killed that looked into the root filesystem, or created a task
        for left in [*self.place.glob("cored-mount-*"), *self.place.glob("part-*")]:
            linux.unmount_all(left, lazy=True)
        shutil.rmtree(self.place, ignore_errors=not self.place.exists())

    def user(self, rootfs: Sequence[Mount]) -> User:
        """Who it runs as; looks into the root filesystem where names want it. Blocks."""
        wanted, more = self.config.user or self.image.user, self.config.groups
        known = simple(wanted)
        if known is not None and all(map(str.isdecimal, more)):
            return replace(known, groups=(*known.groups, *groups(more, lambda path: "")))
        try:
            with linux.mounted(rootfs, self.place) as root:
                read = partial(text, str(root))
                found = resolve(wanted, read)
                added = groups(more, read)
        except OSError as error:
            raise from_mount_error(f"container {self.id[:12]}: root filesystem", error) from error
        return replace(found, groups=(*found.groups, *added))

    def spec(self, user: User) -> dict[str, object]:
        """The OCI spec. InvalidArgument, NotFound, FailedPrecondition. Blocks."""
        config = self.config
        borrowed = self.borrowed or Borrowed()
        binds = [
            Bind(str((borrowed.files or self.place) / name), f"/etc/{name}")
            for name in ("hostname", "hosts", "resolv.conf")
        ]
        # somebody's own file in the place of one of ours
        there = {bind.target for bind in self.binds}
        binds = [bind for bind in binds if bind.target not in there] + list(self.binds)
        command = self.command
        if config.init:
            binds.append(Bind(init.program(), init.PLACE, read_only=True))
            command = (init.PLACE, "--", *command)
        given = devices.everything() if config.privileged else []
        document = build(
            SpecOptions(
                args=command,
                env=environment(self.image.env, config.env, self.hostname, config.terminal),
                id=self.id,
                working_directory=config.working_directory or self.image.working_dir or "/",
                user=user,
                terminal=config.terminal,
                hostname=self.hostname,
                cgroup=self.cgroup,
                binds=binds,
                tmpfs=config.tmpfs,
                shm_size=config.shm_size,
                privileged=config.privileged,
                read_only=config.read_only,
                cap_add=config.cap_add,
                cap_drop=config.cap_drop,
                resources=self._limits(),
                throttled=devices.throttled(self._throttles()),
                ulimits=config.ulimits,
                sysctls=config.sysctls,
                devices=[*given, *devices.found(config.devices)],
                device_rules=config.device_cgroup_rules,
                security=config.security,
                oom_score_adj=config.oom_score_adj,
                host_network=config.network == "host",
                joined=borrowed.paths,
                shm=str(self.place / "shm")
                if config.namespaces.ipc == "shareable"
                else borrowed.shm,
                umask=config.umask,
                annotations=config.annotations,
                namespaces=config.namespaces,
                ids=self.ids,
                host=self.host,
            )
        )
        for edits in cdi.found(config.cdi_devices):
            edits.apply(document)
        return document

    def _limits(self) -> Resources:
        """Without what this kernel does not have (see :attr:`warnings`)."""
        limits = self.config.resources
        return limits if self.host.blkio_weight else replace(limits, blkio_weight=0)

    def _throttles(self) -> list[Throttle]:
        given = self.config.resources.throttles
        return [one for one in given if one.kind != WEIGHT or self.host.blkio_weight]


def joinable(stdio: Stdio) -> Stdio:
    """The FIFOs in the streams of a task: copies of its log (``LogDrivers.stdio``)."""

    def copy(uri: str, stream: str) -> str:
        if "://" not in uri:
            return uri
        options = dict(parse_qsl(urlsplit(uri).query))
        if uri.startswith("binary://"):  # a program that writes the log
            return copy(options.get(stream, "none://"), stream)
        return options.get("copy", "")

    out, err = copy(stdio.stdout, "stdout"), copy(stdio.stderr, "stderr")
    return Stdio(stdio.stdin.removeprefix(_OPEN), out, err, stdio.terminal)


def _check_bind(bind: Binding) -> None:
    if not bind.source.startswith("/"):
        raise InvalidArgument(
            f"volume {bind.source!r}: the host's path must be absolute", hint="-v /host:/container"
        )
    if not bind.target.startswith("/") or bind.target == "/":
        raise InvalidArgument(f"volume target {bind.target!r}: must be absolute, and not /")
    if not bind.create_source and not Path(bind.source).exists():
        raise NotFound(f"volume {bind.source!r}: no such file or directory")
