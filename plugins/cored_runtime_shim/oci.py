"""OCI runtimes: what one is, what it says of itself, what it cannot do, and where it works."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from cored.dataclass import dataclass
from cored_runtime_shim.host import Host
from cored_runtime_shim.settings import KINDS

__all__ = ["OciRuntime", "features_of", "kind_of", "version_of"]

# whose state directories, and the FIFO in them, the shim knows
_KNOWN = r"runc version 1\.[0-3]\.|crun version 1\.8\."
# the first crun that takes specs of version 1.2
_CRUN_FOR_1_2 = (1, 15)
_PATIENCE = 10.0
# runsc takes a network namespace for the host's where rmem_default is seen in it, as it is from
# Linux 6.11 on, until this release (github.com/google/gvisor/issues/10704)
_RMEM_KERNEL, _RMEM_FIXED = (6, 11), 20240807
_RUNSC_LIMITS = {
    "update": "runsc has no update command",
    "host-pids": "pids are those inside its sandbox",
}


@dataclass(frozen=True, slots=True)
class OciRuntime:
    """A runtime's executable, what it says when asked for its version, and how it is called.

    ``root`` is where its state is to be, '' for the shim manager's own place; ``options`` begin
    every call; ``kind`` is whose command line it has.
    """

    path: str
    version: str = ""
    name: str = ""
    kind: str = ""
    root: str = ""
    options: tuple[str, ...] = ()
    systemd_cgroup: bool = False

    @property
    def program(self) -> str:
        return self.kind or kind_of(self.path)

    @property
    def limits(self) -> Mapping[str, str]:
        """What it cannot do, and why."""
        return _RUNSC_LIMITS if self.program == "runsc" else {}

    @property
    def known(self) -> bool:
        """Whether the shim may do without ``start`` and ``delete`` commands (coreshim.fast)."""
        plain = not self.options and not self.systemd_cgroup
        return plain and re.match(_KNOWN, self.version) is not None

    def takes(self, spec: bytes) -> bool:
        """Whether it starts containers with a spec of this version: older cruns are strict."""
        if self.program != "crun":
            return True
        asked = re.search(rb'"ociVersion"\s*:\s*"(\d+)\.(\d+)', spec)
        own = re.match(r"crun version (\d+)\.(\d+)", self.version)
        if asked is None or own is None or (int(own[1]), int(own[2])) >= _CRUN_FOR_1_2:
            return True
        return (int(asked[1]), int(asked[2])) < (1, 2)

    def problem(self, host: Host) -> str:
        """Why it cannot run containers on a host; '' when nothing is known against it."""
        if not os.access(self.path, os.X_OK) or not Path(self.path).is_file():
            return "it is not an executable"
        if not self.version:
            return "it does not run: --version fails"
        if self.systemd_cgroup and not host.systemd:
            return "systemd_cgroup is set, and systemd does not run here"
        if self.program == "crun" and host.layout == "hybrid" and host.unified:
            there = ", ".join(host.unified)
            return f"it refuses hybrid cgroups with controllers in the v2 tree (here: {there})"
        if (
            self.program == "runc"
            and host.layout == "v2"
            and "runc version 1.0.0-rc" in self.version
        ):
            return "this release candidate does not know cgroup v2"
        return self._runsc_problem(host) if self.program == "runsc" else ""

    def _runsc_problem(self, host: Host) -> str:
        platform = self._option("platform")
        if platform == "kvm" and not host.kvm:
            return "its platform kvm needs /dev/kvm, which cannot be opened here"
        if platform != "kvm" and not host.ptrace:
            fix = "; --platform=kvm would work" if host.kvm else ", and there is no /dev/kvm either"
            return f"its platform needs ptrace, which kernel.yama.ptrace_scope=3 forbids{fix}"
        date = re.search(r"\b(20\d{6})\b", self.version)
        old = date is not None and int(date[1]) < _RMEM_FIXED
        if old and host.kernel >= _RMEM_KERNEL and self._option("network") not in ("none", "host"):
            return (
                "its network stack takes every network namespace for the host's on Linux 6.11"
                " and later; --network=none or --network=host in its options would work"
            )
        return ""

    def _option(self, name: str) -> str:
        """The value of a flag among its options; '' if it is not there."""
        found = ""
        for option in self.options:
            flag, _, value = option.lstrip("-").partition("=")
            if flag == name:
                found = value
        return found


def kind_of(path: str) -> str:
    """Whose command line a program has, by its name; runc's where nothing else is known."""
    name = Path(path).name
    return next((kind for kind in KINDS if name.startswith(kind)), "runc")


def version_of(path: str) -> str:
    """The output of ``--version``; '' when it has none, or cannot be run."""
    return _asked([path, "--version"])


def features_of(path: str) -> bytes:
    """The output of ``features``, JSON of the runtime specification; b'' where it has no such."""
    text = _asked([path, "features"])
    try:
        known = isinstance(json.loads(text), dict)
    except ValueError:
        return b""
    return text.encode() if known else b""


def _asked(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return ""
    return done.stdout if done.returncode == 0 else ""
