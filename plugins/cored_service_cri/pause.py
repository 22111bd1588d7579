"""What keeps a pod's namespaces when nothing else runs in it: a process of some two hundred bytes.

It is written here as machine instructions, so that no image has to be pulled for it and no binary
is shipped: ``rt_sigaction(SIGCHLD, SIG_IGN)``, after which the kernel itself reaps whatever is
reparented to it (sigaction(2), NOTES), and then ``ppoll`` without anything to wait for, for ever.
As pid 1 of a namespace it hears no signal but SIGKILL from outside (pid_namespaces(7)).
"""

from __future__ import annotations

import os
import platform
import struct
import tempfile
from pathlib import Path

from cored.errors import Unimplemented

__all__ = ["COMMAND", "executable", "rootfs"]

COMMAND = "/pause"
_BASE = 0x400000
_HEADERS = 64 + 56
_SIGCHLD, _SIG_IGN = 17, 1
# what a runtime mounts has to have a place in a read-only root (gVisor: before its /dev is there)
_DIRECTORIES = ("dev/shm", "etc", "proc", "sys")


def rootfs(place: Path) -> Path:
    """See that there is a root filesystem with nothing but the pause in it. OSError."""
    place.mkdir(mode=0o755, parents=True, exist_ok=True)
    place.chmod(0o755)
    for name in _DIRECTORIES:
        (place / name).mkdir(mode=0o755, parents=True, exist_ok=True)
    target, wanted = place / COMMAND.lstrip("/"), executable(platform.machine())
    if not target.exists() or target.read_bytes() != wanted:
        # the first pods come together: each writes a file of its own
        fd, new = tempfile.mkstemp(dir=place, prefix=".pause-")
        with open(fd, "wb") as file:
            file.write(wanted)
            os.fchmod(fd, 0o755)
        Path(new).replace(target)
    return place


def executable(machine: str) -> bytes:
    """An ELF file for ``machine``, as uname(2) calls it. Unimplemented."""
    match machine:
        case "x86_64":
            number, code = 62, _x86_64()
        case "aarch64":
            number, code = 183, _aarch64()
        case _:
            raise Unimplemented(f"pods on {machine}: there is no pause process for this machine")
    size = _HEADERS + len(code)
    header = struct.pack(
        "<4s5B7xHHIQQQIHHHHHH",
        b"\x7fELF", 2, 1, 1, 0, 0,  # 64 bits, little end first, System V
        2, number, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0,
    )  # fmt: skip
    # one segment, readable and executable, that is the whole file
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return header + segment + code


def _action() -> bytes:
    """The kernel's struct sigaction: handler, flags, and two words that are nothing here."""
    return struct.pack("<QQQQ", _SIG_IGN, 0, 0, 0)


def _x86_64() -> bytes:
    first = b"".join(
        (
            b"\xb8" + struct.pack("<I", 13),  # mov eax, rt_sigaction
            b"\xbf" + struct.pack("<I", _SIGCHLD),  # mov edi, SIGCHLD
            b"\x31\xd2",  # xor edx, edx
            b"\x41\xba" + struct.pack("<I", 8),  # mov r10d, 8
        )
    )
    loop = b"".join(
        (
            b"\xb8" + struct.pack("<I", 271),  # mov eax, ppoll
            b"\x31\xff\x31\xf6\x31\xd2",  # xor edi, edi; xor esi, esi; xor edx, edx
            b"\x45\x31\xd2\x45\x31\xc0",  # xor r10d, r10d; xor r8d, r8d
            b"\x0f\x05",  # syscall
        )
    )
    back = b"\xeb" + struct.pack("<b", -(len(loop) + 2))  # jmp to its beginning
    rest = b"\x0f\x05" + loop + back
    # lea rsi, [rip + what lies between]
    return first + b"\x48\x8d\x35" + struct.pack("<i", len(rest)) + rest + _action()


def _aarch64() -> bytes:
    def move(register: int, value: int) -> int:
        return 0xD2800000 | value << 5 | register  # movz

    call = 0xD4000001  # svc #0
    loop = [*(move(register, 0) for register in range(5)), move(8, 73), call]  # ppoll
    code = [move(0, _SIGCHLD), 0, move(2, 0), move(3, 8), move(8, 134), call, *loop]
    code.append(0x14000000 | (-len(loop) & 0x3FFFFFF))  # b to the beginning of the loop
    distance = 4 * (len(code) - 1)
    code[1] = 0x10000000 | (distance & 3) << 29 | (distance >> 2) << 5 | 1  # adr x1
    return struct.pack(f"<{len(code)}I", *code) + _action()
