"""Which OCI runtime this host has, and can use."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cored import log
from cored.errors import FailedPrecondition

__all__ = ["OciRuntime", "OciRuntimes"]

# the first crun that takes specs of version 1.2
_CRUN_FOR_1_2 = (1, 15)
_UNIFIED = Path("/sys/fs/cgroup/unified/cgroup.controllers")


@dataclass(frozen=True, slots=True)
class OciRuntime:
    """A runtime's executable and what it says when asked for its version."""

    path: str
    version: str = ""

    @property
    def name(self) -> str:
        return Path(self.path).name

    def takes(self, spec: bytes) -> bool:
        """Whether it starts containers with a spec of this version: older cruns are strict."""
        if self.name != "crun":
            return True
        asked = re.search(rb'"ociVersion"\s*:\s*"(\d+)\.(\d+)', spec)
        own = re.match(r"crun version (\d+)\.(\d+)", self.version)
        if asked is None or own is None or (int(own[1]), int(own[2])) >= _CRUN_FOR_1_2:
            return True
        return (int(asked[1]), int(asked[2])) < (1, 2)

    @property
    def known(self) -> bool:
        """Whether the shim may do without ``start`` and ``delete`` commands (coreshim.fast)."""
        return re.match(r"runc version 1\.[0-3]\.", self.version) is not None


class OciRuntimes:
    """Finds the runtime to use: the configured one, or the first of crun and runc that works."""

    def __init__(self, configured: str = "") -> None:
        self._configured = configured
        self._found: OciRuntime | None = None
        self._newer: OciRuntime | None = None

    def choose(self) -> OciRuntime:
        """The runtime. FailedPrecondition says what to install."""
        if self._found is None or not os.access(self._found.path, os.X_OK):
            path = self._search()
            self._found = OciRuntime(path, _version(path))
            log.get("runtime").info(
                "OCI runtime chosen", path=path, version=self._found.version.splitlines()[:1]
            )
        return self._found

    def choose_for(self, spec: bytes) -> OciRuntime:
        """The runtime for a spec: runc where the usual one is a crun too old for it."""
        usual = self.choose()
        if usual.takes(spec) or self._configured:
            return usual
        if self._newer is None:
            path = shutil.which("runc")
            self._newer = OciRuntime(path, _version(path)) if path else usual
        return self._newer

    def _search(self) -> str:
        if self._configured:
            path = shutil.which(self._configured)
            if path is None:
                raise FailedPrecondition(
                    f"OCI runtime {self._configured!r}: not found on this host",
                    hint="install it, or change runtime in [plugins.runtime.shim]",
                )
            return path
        refused = []
        for name in ("crun", "runc"):
            path = shutil.which(name)
            if path is None:
                continue
            if name == "crun" and _controllers_in_unified():
                refused.append("crun (it refuses hybrid cgroups with controllers in the v2 tree)")
                continue
            return path
        also = f"; there is {', '.join(refused)}" if refused else ""
        raise FailedPrecondition(f"no OCI runtime on this host{also}", hint="apt-get install runc")


def _version(path: str) -> str:
    """The output of ``--version``; '' when it has none."""
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


def _controllers_in_unified() -> bool:
    """Hybrid layout with a controller in the v2 tree, which crun 1.8 does not start on."""
    try:
        text = _UNIFIED.read_text()
    except FileNotFoundError:
        return False
    return bool(re.search(r"\w", text))
