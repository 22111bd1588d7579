"""What the shim manager tells of the runtimes that there are."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError

from cored._pb.containerd.types import introspection_pb2
from cored.abc.runtime import RuntimeInfo
from cored.abc.values import Typed
from cored.errors import CoredError
from cored_runtime_shim.choice import Choice, Runtimes
from cored_runtime_shim.foreign import OWN
from cored_runtime_shim.oci import OciRuntime, features_of
from cored_runtime_shim.settings import KINDS

__all__ = ["FEATURES", "About"]

FEATURES = "types.containerd.io/opencontainers/runtime-spec/1/features/Features"
_SHIM = re.compile(r"containerd-shim-(?P<name>[a-zA-Z0-9]+)-(?P<version>v\d+)")
_NUMBER = re.compile(r"\d[^\s,]*")
_PATIENCE = 10.0


class About:
    """Asks each runtime itself."""

    def __init__(self, runtimes: Runtimes) -> None:
        self._runtimes = runtimes

    async def info(self, runtime: str, options: Typed | None) -> RuntimeInfo:
        """One by name, as a container would ask for it. NotFound."""
        choice = await self._runtimes.resolve(runtime, options)
        name = "io.containerd.runc.v2" if runtime in OWN and not choice.shim else runtime
        return await self._told(name, choice, options)

    async def all(self) -> Sequence[RuntimeInfo]:
        """Those of the configuration, then what is installed."""
        names = list(dict.fromkeys((*self._runtimes.settings.runtimes, *_installed(), *_shims())))
        return await asyncio.gather(*map(self._listed, names))

    async def _listed(self, name: str) -> RuntimeInfo:
        try:
            return await self._told(name, await self._runtimes.resolve(name, None), None)
        except CoredError as error:
            table = self._runtimes.settings.runtimes.get(name)
            kind = "shim" if table is not None and table.shim else "oci"
            return RuntimeInfo(name, kind=kind, problem=str(error))  # type: ignore[arg-type]

    async def _told(self, name: str, choice: Choice, options: Typed | None) -> RuntimeInfo:
        if choice.oci is None:
            return await asyncio.to_thread(_shim_told, name, choice.shim, options)
        return await self._oci_told(name, choice.oci)

    async def _oci_told(self, name: str, oci: OciRuntime) -> RuntimeInfo:
        features = await asyncio.to_thread(features_of, oci.path)
        number = _NUMBER.search(oci.version)
        return RuntimeInfo(
            name,
            number[0] if number else "",
            Typed(FEATURES, features) if features else None,
            annotations={"path": oci.path},
            path=oci.path,
            usual=await self._is_usual(oci),
            problem=self._runtimes.problem(oci),
            limits=oci.limits,
        )

    async def _is_usual(self, oci: OciRuntime) -> bool:
        try:
            usual = await self._runtimes.usual()
        except CoredError:
            return False  # there is none that works
        return (oci.path, oci.options, oci.root) == (usual.path, usual.options, usual.root)


def _installed() -> Iterator[str]:
    return (kind for kind in KINDS if shutil.which(kind))


def _shims() -> Iterator[str]:
    """Runtime names of the shims on PATH, but for those that ours stands in for."""
    # some are links to others: /bin to /usr/bin
    directories = os.environ.get("PATH", os.defpath).split(os.pathsep)
    for place in dict.fromkeys(Path(directory).resolve() for directory in directories if directory):
        if not place.is_dir():
            continue
        for path in sorted(place.glob("containerd-shim-*-v*")):
            found = _SHIM.fullmatch(path.name)
            if found is None or not os.access(path, os.X_OK):
                continue
            name = f"io.containerd.{found['name']}.{found['version']}"
            if name == "io.containerd.runc.v2":
                yield str(path)  # the name means our own
            elif name not in OWN:
                yield name


def _shim_told(name: str, path: str, options: Typed | None) -> RuntimeInfo:
    """What a shim answers to ``-info``, containerd's since 2.0; else the version in ``-v``."""
    given = b""
    if options is not None:
        given = AnyMessage(type_url=options.type_url, value=options.value).SerializeToString()
    annotations = {"path": path}
    try:
        found = introspection_pb2.RuntimeInfo.FromString(_output([path, "-info"], given))
    except (OSError, subprocess.SubprocessError, DecodeError):
        return RuntimeInfo(
            name, _version(path), annotations=annotations, kind="shim", path=path,
        )  # fmt: skip
    features = found.features
    return RuntimeInfo(
        name,
        found.version.version,
        Typed(features.type_url, features.value) if found.HasField("features") else None,
        annotations={**annotations, **found.annotations},
        kind="shim",
        path=path,
    )


def _version(path: str) -> str:
    try:
        text = _output([path, "-v"], b"").decode(errors="replace")
    except (OSError, subprocess.SubprocessError):
        return ""
    found = re.search(r"^\s*[Vv]ersion:\s*(\S+)", text, re.M) or re.search(r"\b(\d\S*)", text)
    return found[1] if found else ""


def _output(command: list[str], given: bytes) -> bytes:
    return subprocess.run(
        command, input=given, capture_output=True, timeout=_PATIENCE, check=True
    ).stdout
