"""AppArmor: which profiles are loaded, and our own for containers (apparmor.d(5))."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from cored import log

__all__ = ["DEFAULT", "TEXT", "default", "profiles"]

DEFAULT = "cored-default"
TEXT = """\
profile cored-default flags=(attach_disconnected,mediate_deleted) {
  capability,
  file,
  network,
  umount,
  deny mount,
  deny network alg,

  signal (receive) peer=unconfined,
  signal (receive) peer={runc,crun},
  signal (send, receive) peer=cored-default,
  ptrace (trace, read, tracedby, readby) peer=cored-default,

  # settings and memory of the kernel, beyond what is masked
  deny /proc/{kcore,sysrq-trigger} rwklx,
  deny /proc/{acpi,bus,fs,irq,scsi}/** wklx,
  deny /proc/sys/{abi,crypto,debug,dev,sunrpc,user,vm}/** wklx,
  deny /proc/sys/kernel/{core_pattern,modprobe,hotplug,kexec*,panic*,randomize_va_space} wklx,
  deny /sys/{block,bus,class,dev,devices,hypervisor,module,power}/** wklx,
  deny /sys/{firmware,kernel/security,devices/virtual/powercap}/** rwklx,
}
"""


def profiles(root: Path = Path("/")) -> frozenset[str] | None:
    """The names of the profiles that the kernel has; None where AppArmor is not on."""
    try:
        if (root / "sys/module/apparmor/parameters/enabled").read_text().strip() != "Y":
            return None
        lines = (root / "sys/kernel/security/apparmor/profiles").read_text().splitlines()
    except OSError:
        return None
    return frozenset(line.rpartition(" (")[0] for line in lines)


def default(loaded: frozenset[str] | None) -> str:
    """The name of our profile, loaded if it was not; '' where it cannot be. Blocks."""
    if loaded is None or DEFAULT in loaded:
        return "" if loaded is None else DEFAULT
    parser = shutil.which("apparmor_parser") or shutil.which(
        "apparmor_parser", path="/sbin:/usr/sbin"
    )
    if parser is None:
        return ""
    done = subprocess.run(
        [parser, "--replace"], input=TEXT.encode(), capture_output=True, check=False
    )
    if done.returncode != 0:
        log.get("apparmor").warning(
            "profile not loaded", error=done.stderr.decode(errors="replace")
        )
        return ""
    return DEFAULT
