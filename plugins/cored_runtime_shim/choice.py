"""Which shim and which OCI runtime a container gets: what it asked for, or what works here.

A runtime is asked for by the name of a configured one, of an OCI runtime (``crun``), of a shim as
containerd has them (``io.containerd.kata.v2``), or by a path; and by runc's options.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

from google.protobuf.message import DecodeError

from cored import log
from cored._pb.containerd.runc.v1 import oci_pb2
from cored._pb.runtimeoptions.v1 import api_pb2
from cored.abc.values import Typed
from cored.dataclass import dataclass
from cored.errors import FailedPrecondition, InvalidArgument, NotFound
from cored_runtime_shim import foreign
from cored_runtime_shim.foreign import OWN
from cored_runtime_shim.host import Host
from cored_runtime_shim.oci import OciRuntime, version_of
from cored_runtime_shim.settings import KINDS, RuntimeSettings, Settings, runsc_settings

__all__ = ["Choice", "Runtimes"]

# tried in this order where none is configured; runsc is no replacement for the others
_USUAL = ("crun", "runc", "youki")
# names that people use for a shim without a command line of an OCI runtime
_SHIMS = {"kata": "io.containerd.kata.v2"}
_INSTALL = "install it, or change [plugins.runtime.shim]"
_SHIM_NAME = re.compile(r"io\.containerd\.(?P<name>[a-z]+)\.v\d+")


@dataclass(frozen=True, slots=True)
class Choice:
    """``shim`` is '' for our own, which drives ``oci``, or the executable of another."""

    shim: str = ""
    oci: OciRuntime | None = None


class Runtimes:
    """Answers by name. What is known of an executable is kept until the file changes."""

    def __init__(self, settings: Settings, host: Host | None = None) -> None:
        self.settings = settings
        self._fixed = host
        self._host = host or Host.here()
        self._versions: dict[str, tuple[int, str]] = {}
        self._usual: OciRuntime | None = None

    async def choose(self, runtime: str, options: Typed | None, spec: bytes = b"") -> Choice:
        """For a container. NotFound, InvalidArgument; FailedPrecondition for what cannot work."""
        if runtime in OWN and options is None and runtime not in self.settings.runtimes:
            usual = await self.usual()
            if usual.takes(spec):
                return Choice(oci=usual)
            if not self.settings.runtime and (path := shutil.which("runc")):
                return Choice(oci=await self._inspected(OciRuntime(path, name="runc")))
        choice = await self.resolve(runtime, options)
        if choice.oci is not None:
            self._check(choice.oci, spec)
        return choice

    async def resolve(self, runtime: str, options: Typed | None) -> Choice:
        """As :meth:`choose`, without a look at whether it works."""
        named = self._named(runtime)
        if isinstance(named, str):
            return Choice(shim=named)
        wanted = _adjusted(named, options)
        if wanted is None or not wanted.path:
            usual = await self.usual()
            if wanted is not None:
                cgroup = usual.systemd_cgroup or wanted.systemd_cgroup
                usual = replace(usual, root=wanted.root or usual.root, systemd_cgroup=cgroup)
            return Choice(oci=usual)
        return Choice(oci=await self._made(wanted, runtime))

    async def usual(self) -> OciRuntime:
        """The one for who does not ask. FailedPrecondition says what to install."""
        if self._usual is None or not os.access(self._usual.path, os.X_OK):
            self._usual = await self._search()
            first = self._usual.version.splitlines()[:1]
            log.get("runtime").info("OCI runtime chosen", path=self._usual.path, version=first)
        return self._usual

    def problem(self, oci: OciRuntime) -> str:
        """Why it cannot work here; ''."""
        problem = oci.problem(self._host)
        if problem and self._fixed is None:  # the host may have been changed since
            self._host = Host.here()
            problem = oci.problem(self._host)
        return problem

    def _named(self, runtime: str) -> str | RuntimeSettings | None:
        """A shim's executable, an OCI runtime, or None for the usual one."""
        table = self.settings.runtimes.get(runtime)
        if table is not None:
            return (
                foreign.find(table.shim)
                if table.shim
                else replace(table, path=table.path or runtime)
            )
        if runtime in OWN:
            return None
        if runtime in KINDS or (runtime.startswith("/") and Path(runtime).name in KINDS):
            return RuntimeSettings(path=runtime)
        try:
            return foreign.find(_SHIMS.get(runtime, runtime))
        except NotFound:
            # without gVisor's own shim, ours drives its runsc
            named = _SHIM_NAME.fullmatch(runtime)
            if named is None or named["name"] not in KINDS or not shutil.which(named["name"]):
                raise
            table = self.settings.runtimes.get(named["name"], RuntimeSettings())
            return replace(table, path=table.path or named["name"])
        except InvalidArgument as error:
            known = sorted({*self.settings.runtimes, *KINDS, *_SHIMS})
            raise NotFound(
                f"runtime {runtime!r}: not known, there are {', '.join(known)}, and paths",
                hint="see: corectl runtime ls",
            ) from error

    async def _search(self) -> OciRuntime:
        name = self.settings.runtime
        if name:
            if name.startswith("/") and not Path(name).name.startswith("containerd-shim-"):
                # the setting is of OCI runtimes: a wrapper may be called what it likes
                return await self._made(RuntimeSettings(path=name), name)
            choice = await self.resolve(name, None) if name not in OWN else Choice()
            if choice.oci is None:
                raise InvalidArgument(
                    f"config: plugins.runtime.shim.runtime {name!r}: must be an OCI runtime",
                    hint="a shim is asked for by the container",
                )
            return choice.oci
        refused = []
        for name in _USUAL:
            path = shutil.which(name)
            if path is None:
                continue
            found = await self._inspected(OciRuntime(path, name=name))
            problem = self.problem(found)
            if not problem:
                return found
            refused.append(f"{name} ({problem})")
        also = f"; there is {', '.join(refused)}" if refused else ""
        raise FailedPrecondition(f"no OCI runtime on this host{also}", hint="apt-get install runc")

    async def _made(self, wanted: RuntimeSettings, runtime: str) -> OciRuntime:
        path = shutil.which(wanted.path)
        if path is None:
            raise FailedPrecondition(
                f"OCI runtime {wanted.path!r}: not found on this host", hint=_INSTALL
            )
        name = runtime if runtime not in OWN else Path(path).name
        return await self._inspected(
            OciRuntime(
                path, name=name, kind=wanted.kind, root=wanted.root, options=wanted.options,
                systemd_cgroup=wanted.systemd_cgroup,
            )
        )  # fmt: skip

    async def _inspected(self, oci: OciRuntime) -> OciRuntime:
        """With its version; asked once for each state of the executable."""
        changed = Path(oci.path).stat().st_mtime_ns
        known = self._versions.get(oci.path)
        if known is None or known[0] != changed:
            version = await asyncio.to_thread(version_of, oci.path)
            known = self._versions[oci.path] = (changed, version)
        return replace(oci, version=known[1])

    def _check(self, oci: OciRuntime, spec: bytes) -> None:
        if problem := self.problem(oci):
            raise FailedPrecondition(
                f"OCI runtime {oci.path}: cannot work here: {problem}",
                hint="see: corectl runtime ls",
            )
        if not oci.takes(spec):
            raise FailedPrecondition(
                f"OCI runtime {oci.path}: takes no spec of version 1.2 or later before crun 1.15",
                hint="use runc, or a newer crun",
            )


def _adjusted(named: RuntimeSettings | None, options: Typed | None) -> RuntimeSettings | None:
    """With what the container's options say; None where nothing is asked for."""
    if options is None:
        return named
    kind = options.type_url.rpartition("/")[2]
    try:
        if kind == oci_pb2.Options.DESCRIPTOR.full_name:
            return _with_runc(named, oci_pb2.Options.FromString(options.value))
        if kind == api_pb2.Options.DESCRIPTOR.full_name and named is not None:
            return _with_file(named, api_pb2.Options.FromString(options.value))
    except DecodeError as error:
        raise InvalidArgument(f"runtime options of type {kind}: are damaged") from error
    return named


def _with_runc(named: RuntimeSettings | None, given: oci_pb2.Options) -> RuntimeSettings | None:
    if not (given.binary_name or given.root or given.systemd_cgroup):
        return named
    asked = named or RuntimeSettings()
    if given.binary_name:
        asked = RuntimeSettings(path=given.binary_name)
    return replace(
        asked,
        root=given.root or asked.root,
        systemd_cgroup=given.systemd_cgroup or asked.systemd_cgroup,
    )


def _with_file(named: RuntimeSettings, given: api_pb2.Options) -> RuntimeSettings:
    """gVisor's options: a file, or its text."""
    text = given.config_body
    try:
        text = text or (Path(given.config_path).read_bytes() if given.config_path else b"")
    except OSError as error:
        raise InvalidArgument(f"runtime options: {given.config_path}: {error.strerror}") from error
    if not text:
        return named
    found = runsc_settings(text, given.config_path or "config_body")
    return replace(found, path=found.path or named.path, options=(*named.options, *found.options))
