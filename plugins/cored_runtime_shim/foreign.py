"""Anybody's shim: found by the runtime's name, started and cleaned up by its command line."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from cored.abc.runtime import Exit
from cored.dataclass import dataclass
from cored.errors import Internal, InvalidArgument, NotFound
from cored_runtime_shim.bundle import OWN, Bundle

__all__ = ["OWN", "Started", "delete", "find", "record", "start", "version_of"]

_TIMEOUT = 60.0
_NAME = re.compile(r"[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)*\.(?P<name>[a-zA-Z0-9-]+)\.(?P<version>v\d+)")


@dataclass(frozen=True, slots=True)
class Started:
    """Where a shim listens, and the version of its Task service."""

    address: str
    version: int


def find(runtime: str) -> str:
    """The executable for ``io.containerd.runc.v2``, or for an absolute path. NotFound."""
    if runtime.startswith("/"):
        if not os.access(runtime, os.X_OK):
            raise NotFound(f"runtime {runtime!r}: no such executable")
        return runtime
    found = _NAME.fullmatch(runtime)
    if found is None:
        raise InvalidArgument(
            f"runtime {runtime!r}: invalid name", hint="like io.containerd.runc.v2, or a path"
        )
    binary = f"containerd-shim-{found['name']}-{found['version']}"
    path = shutil.which(binary)
    if path is None:
        raise NotFound(f"runtime {runtime!r}: {binary} is not on PATH")
    return path


async def start(binary: str, bundle: Bundle, address: str, options: bytes) -> Started:
    """Run the shim's ``start`` in the bundle."""
    output = await _run(binary, bundle, address, "start", options)
    text = output.decode(errors="replace").strip()
    if text.startswith("{"):
        answer = json.loads(text)
        if answer.get("protocol", "ttrpc") != "ttrpc":
            raise Internal(f"shim {binary}: speaks {answer['protocol']}, only ttrpc is understood")
        started = Started(answer["address"], int(answer["version"]))
    else:
        started = Started(text, 2)
    record(bundle, started)
    return started


def record(bundle: Bundle, started: Started) -> None:
    """Note in a bundle where its shim listens, as every daemon does that knows shims."""
    (bundle.path / "address").write_text(started.address)
    (bundle.path / "bootstrap.json").write_text(
        json.dumps({"version": started.version, "address": started.address, "protocol": "ttrpc"})
    )


def version_of(bundle: Bundle) -> int:
    """The Task service's version of a shim that an earlier daemon started."""
    try:
        return int(json.loads((bundle.path / "bootstrap.json").read_text())["version"])
    except FileNotFoundError:
        return 2


async def delete(binary: str, bundle: Bundle, address: str) -> Exit:
    """Run the shim's ``delete``, after it has died."""
    from cored._pb.containerd.task.v2 import shim_pb2

    output = await _run(binary, bundle, address, "delete", b"")
    found = shim_pb2.DeleteResponse.FromString(output)
    at = found.exited_at
    return Exit(found.pid, found.exit_status, at.seconds * 10**9 + at.nanos)


async def _run(binary: str, bundle: Bundle, address: str, action: str, stdin: bytes) -> bytes:
    # a thread, not asyncio: uvloop lets children inherit pipes, and a shim that stays would keep
    # the end of our own from coming
    try:
        done = await asyncio.to_thread(_call, binary, bundle, address, action, stdin)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Internal(f"shim {binary} {action}: {error}") from error
    if done.returncode != 0:
        text = done.stderr.decode(errors="replace").strip() or f"exit status {done.returncode}"
        raise Internal(f"shim {binary} {action}: {text}")
    return done.stdout


def _call(
    binary: str, bundle: Bundle, address: str, action: str, stdin: bytes
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [
            binary,
            *("-namespace", bundle.namespace, "-id", bundle.id, "-address", address),
            *("-publish-binary", _publisher(), "-bundle", str(bundle.path), action),
        ],
        cwd=bundle.path,
        env={
            **os.environ,
            "TTRPC_ADDRESS": f"{address}.ttrpc",
            "GRPC_ADDRESS": address,
            "NAMESPACE": bundle.namespace,
            "MAX_SHIM_VERSION": "3",
        },
        input=stdin,
        capture_output=True,
        check=False,
        timeout=_TIMEOUT,
    )


def _publisher() -> str:
    """The executable that shims of old publish events with; ours takes them over ttrpc."""
    return str(Path(sys.executable).with_name("cored"))
