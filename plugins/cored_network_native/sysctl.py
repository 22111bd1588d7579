"""Kernel settings of networks, by their files (sysctl(8))."""

from __future__ import annotations

from pathlib import Path

from cored.errors import from_os_error

__all__ = ["forward", "write"]

_FORWARDING = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}


def write(key: str, value: str) -> None:
    """Set one, unless it is so already or this kernel has none such (no IPv6)."""
    path = Path("/proc/sys") / key
    try:
        if path.read_text().strip() != value:
            path.write_text(value)
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os_error(f"setting {key}", error) from error


def forward(family: int) -> None:
    """Let the host forward packets of a family."""
    write(_FORWARDING[family], "1")
