"""A pod's directory: what its containers see in /etc, and the memory that they share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from cored import linux
from cored._pb.cri.v1 import api_pb2 as pb
from cored.engine.networks import files
from cored.errors import from_os_error
from cored_service_cri.values import Pod

__all__ = ["discard", "prepare", "release"]

_SHM = 64 << 20


def prepare(place: Path, pod: Pod) -> None:
    """Make the directory and its files. Blocks."""
    try:
        place.mkdir(mode=0o700, parents=True)
        host = pod.host_network
        name = os.uname().nodename if host or not pod.config.hostname else pod.config.hostname
        (place / "hostname").write_text(f"{name}\n")
        base = files.text(Path("/etc/hosts")) if host else ""
        (place / "hosts").write_text(files.hosts([] if host else [name], (), (), base))
        (place / "resolv.conf").write_text(_resolv_conf(pod))
        if pod.modes.ipc != pb.NODE:
            shm = place / "shm"
            shm.mkdir(mode=0o1777)
            flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
            linux.mount("shm", shm, "tmpfs", flags, f"mode=1777,size={_SHM}")
    except OSError as error:
        raise from_os_error(f"pod directory {place}", error) from error


def release(place: Path) -> None:
    """Give back the memory; fine when it has been. Blocks."""
    linux.unmount_all(place / "shm", lazy=True)


def discard(place: Path) -> None:
    """Remove the directory; fine when it is gone. Blocks."""
    release(place)
    # where a daemon was killed that looked into an image (accounts.py)
    for left in place.glob("cored-mount-*"):
        linux.unmount_all(left, lazy=True)
    shutil.rmtree(place, ignore_errors=not place.exists())


def _resolv_conf(pod: Pod) -> str:
    """As the pod says, whole; the host's when it says nothing."""
    dns = pod.config.dns_config
    if not (dns.servers or dns.searches or dns.options):
        return files.host_resolv_conf()
    lines = []
    if dns.searches:
        lines.append(f"search {' '.join(dns.searches)}\n")
    lines += [f"nameserver {one}\n" for one in dns.servers]
    if dns.options:
        lines.append(f"options {' '.join(dns.options)}\n")
    return "".join(lines)
