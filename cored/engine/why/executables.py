"""Why a command cannot be run: what the kernel and the runtime do not say."""

from __future__ import annotations

import difflib
import os
import platform
import posixpath
import stat
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cored import linux, plainfiles

__all__ = ["Root", "problem"]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# e_machine by what uname says (ELF specification)
_MACHINES = {
    3: "i386", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "arm", 62: "x86_64",
    183: "aarch64", 243: "riscv64", 258: "loongarch64",
}  # fmt: skip
# what else each of them runs
_ALSO = {"x86_64": {"i386"}, "aarch64": {"arm"}}
_PT_INTERP = 3
_HEAD = 4096


@dataclass(frozen=True, slots=True)
class Root:
    """A container's files: ``place`` with its root filesystem, ``binds`` (target, source) in it."""

    place: str
    binds: Sequence[tuple[str, str]] = ()

    def head(self, path: str) -> bytes:
        """The beginning of a file. OSError."""
        base, rest = self._found(path)
        return plainfiles.head(base, rest, _HEAD)

    def mode(self, path: str) -> int:
        """OSError."""
        base, rest = self._found(path)
        with linux.opened_below(base, rest) as place:
            return os.stat(place).st_mode  # noqa: PTH116 - a descriptor's path

    def names(self, path: str) -> list[str]:
        """Of a directory; none where there is none."""
        base, rest = self._found(path)
        try:
            with linux.opened_below(base, rest) as place:
                return sorted(os.listdir(place))  # noqa: PTH208 - a descriptor's path
        except OSError:
            return []

    def _found(self, path: str) -> tuple[str, str]:
        """A directory of the host's, and the path in it."""
        for target, source in sorted(self.binds, key=lambda bind: -len(bind[0])):
            if path == target or path.startswith(f"{target.rstrip('/')}/"):
                rest = path[len(target) :].strip("/")
                if rest or os.path.isdir(source):  # noqa: PTH112 - as above
                    return source, rest or "."
                return posixpath.dirname(source), posixpath.basename(source)
        return self.place, path


def problem(root: Root, process: Mapping[str, Any], command: str) -> str:
    """What is wrong with a command of an OCI process; '' when nothing is."""
    env = dict(entry.partition("=")[::2] for entry in process.get("env") or ())
    cwd = process.get("cwd") or "/"
    if "/" in command:
        return _checked(root, posixpath.normpath(posixpath.join(cwd, command)), env, 0)
    places = [place or cwd for place in (env.get("PATH") or _PATH).split(":")]
    for place in places:
        path = posixpath.join(place, command)
        if _is_file(root, path):
            return _checked(root, path, env, 0)
    return f"there is no {command!r} in {':'.join(places)}{_similar(root, places, command)}"


def _checked(root: Root, path: str, env: Mapping[str, str], depth: int) -> str:
    try:
        mode = root.mode(path)
        if stat.S_ISDIR(mode):
            return f"{path!r} is a directory"
        if not mode & 0o111:
            return f"{path!r} has mode {mode & 0o7777:04o}: make it executable (chmod +x)"
        head = root.head(path)
    except FileNotFoundError:
        near = _similar(root, [posixpath.dirname(path)], posixpath.basename(path))
        return f"there is no {path!r}{near}"
    except OSError as error:
        return f"{path!r}: {error.strerror}"
    if head.startswith(b"#!"):
        return _script(root, path, head, env, depth)
    if head.startswith(b"\x7fELF"):
        try:
            return _elf(root, path, head)
        except struct.error:
            return f"{path!r} is a program with a damaged header"
    what = "is empty" if not head else "is neither a program nor begins with #!"
    return f"{path!r} {what}"


def _script(root: Root, path: str, head: bytes, env: Mapping[str, str], depth: int) -> str:
    line = head[2:].split(b"\n", 1)[0]
    if line.endswith(b"\r"):
        return f"the first line of {path!r} ends as on Windows: save it with Unix line ends"
    words = line.decode(errors="replace").split()
    if not words:
        return f"{path!r} names no interpreter in its first line"
    if depth > 3:
        return ""
    inner = _checked(root, words[0], env, depth + 1)
    if inner:
        return f"{path!r} wants the interpreter {words[0]!r}, and {inner}"
    if posixpath.basename(words[0]) == "env" and len(words) > 1 and words[1][0] not in "-/":
        places = (env.get("PATH") or _PATH).split(":")
        if not any(_is_file(root, posixpath.join(place, words[1])) for place in places):
            return f"{path!r} wants the interpreter {words[1]!r}, which is not in $PATH"
    return ""


def _elf(root: Root, path: str, head: bytes) -> str:
    order = "<" if head[5:6] == b"\x01" else ">"
    (machine,) = struct.unpack_from(f"{order}H", head, 18)
    name, here = _MACHINES.get(machine, f"machine {machine}"), platform.machine()
    if name != here and name not in _ALSO.get(here, ()):
        return f"{path!r} is a program for {name}, this host is {here}"
    loader = _loader(head, order)
    if loader and not _is_file(root, loader):
        return (
            f"{path!r} needs the loader {loader!r}, which the image does not have: it was made for"
            " another system library (glibc, musl)"
        )
    return ""


def _loader(head: bytes, order: str) -> str:
    """PT_INTERP; '' for a static program, or one whose headers are elsewhere."""
    wide = head[4:5] == b"\x02"
    start, size, count = (
        (struct.unpack_from(f"{order}Q", head, 32)[0], *struct.unpack_from(f"{order}2H", head, 54))
        if wide
        else (
            struct.unpack_from(f"{order}I", head, 28)[0],
            *struct.unpack_from(f"{order}2H", head, 42),
        )
    )
    for number in range(count):
        entry = head[start + number * size : start + (number + 1) * size]
        if len(entry) < size:
            return ""
        if struct.unpack_from(f"{order}I", entry)[0] == _PT_INTERP:
            where = (f"{order}Q", entry, 8) if wide else (f"{order}I", entry, 4)
            return head[struct.unpack_from(*where)[0] :].split(b"\0", 1)[0].decode(errors="replace")
    return ""


def _is_file(root: Root, path: str) -> bool:
    try:
        return stat.S_ISREG(root.mode(path))
    except OSError:
        return False


def _similar(root: Root, places: Sequence[str], name: str) -> str:
    there = {other for place in places for other in root.names(place)}
    close = difflib.get_close_matches(name, sorted(there), 2, 0.75)
    return f"; there is {' and '.join(map(repr, close))}" if close else ""
