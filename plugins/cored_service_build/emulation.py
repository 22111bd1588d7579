"""Which platforms' programs run here: the processor's own, and those with an emulator."""

from __future__ import annotations

from pathlib import Path

from cored.errors import Unimplemented
from cored.oci import platforms
from cored.oci.values import Platform

__all__ = ["check_runnable"]

HANDLERS = Path("/proc/sys/fs/binfmt_misc")
# architectures by the names that qemu's handlers have for them
_QEMU = {
    "386": "i386", "amd64": "x86_64", "arm64": "aarch64", "mips64le": "mips64el",
    "mipsle": "mipsel", "loong64": "loongarch64",
}  # fmt: skip


def check_runnable(text: str, handlers: Path = HANDLERS) -> None:
    """Unimplemented where no program for a platform ``os/arch[/variant]`` can run. Blocks."""
    platform, here = platforms.parse(text), platforms.host()
    if platforms.matches(here, platform) or _emulated(platform, handlers):
        return
    raise Unimplemented(
        f"programs for {text} do not run on {platforms.format(here)}",
        hint="compile in a stage FROM --platform=$BUILDPLATFORM, or register an emulator with "
        "binfmt_misc (qemu-user-static)",
    )


def _emulated(platform: Platform, handlers: Path) -> bool:
    name = _QEMU.get(platform.architecture, platform.architecture)
    handler = handlers / f"qemu-{name}"
    if platform.os != "linux" or not handler.is_file():
        return False
    lines = handler.read_text().splitlines()
    flags = next((line.partition(":")[2] for line in lines if line.startswith("flags:")), "")
    # F: the kernel has opened the emulator, which no container has
    return "enabled" in lines and "F" in flags
