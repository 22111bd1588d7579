"""A layer's archive against the tree that it was unpacked into: is all of it still there?"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator

from cored.archive.compression import inflated
from cored.archive.jobs import VerifyJob, VerifyResult
from cored.archive.marks import WHITEOUT, is_overlays
from cored.archive.stream import Stream
from cored.archive.tar import Entry, TarReader, shown
from cored.archive.tree import Directory, Tree, joined, normal
from cored.errors import InvalidArgument

__all__ = ["run_verify"]

_CHUNK = 1 << 20
_TYPES = {
    b"0": stat.S_IFREG, b"2": stat.S_IFLNK, b"3": stat.S_IFCHR, b"4": stat.S_IFBLK,
    b"5": stat.S_IFDIR, b"6": stat.S_IFIFO,
}  # fmt: skip
_NAMES = {
    stat.S_IFREG: "a file", stat.S_IFLNK: "a link", stat.S_IFDIR: "a directory",
    stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
}  # fmt: skip


def run_verify(job: VerifyJob, progress: Callable[[int], None]) -> VerifyResult:
    """Do the job in this process; ``progress`` hears how many bytes of the blob are read."""
    reader = TarReader(Stream(inflated(_read(job.path, progress))))
    verifier = _Verifier(job.target)
    try:
        for entry in reader:
            verifier.look(entry, reader)
    finally:
        verifier.close()
    problems = [f"{shown(path) or '/'}: {why}" for path, why in sorted(verifier.problems.items())]
    return VerifyResult(verifier.entries, len(problems), tuple(problems[: job.most]))


def _read(path: str, progress: Callable[[int], None]) -> Iterator[bytes]:
    with open(path, "rb", buffering=0) as file:
        size = 0
        while data := file.read(_CHUNK):
            size += len(data)
            progress(size)
            yield data


class _Verifier:
    """``problems`` by path: of an archive's several entries for a path, the last one counts."""

    def __init__(self, target: str) -> None:
        self._tree = Tree(target)
        self.entries = 0
        self.problems: dict[bytes, str] = {}

    def close(self) -> None:
        self._tree.close()

    def look(self, entry: Entry, reader: TarReader) -> None:
        self.entries += 1
        path = normal(entry.name)
        above, _, name = path.rpartition(b"/")
        if name.startswith(WHITEOUT):
            return
        problem = self._problem(entry, reader, above, name)
        if entry.kind != b"5" and self.problems:  # it took the place of a directory, perhaps
            below = path + b"/"
            self.problems = {p: w for p, w in self.problems.items() if not p.startswith(below)}
        self.problems.pop(path, None)
        if problem:
            self.problems[path] = problem

    def _problem(self, entry: Entry, reader: TarReader, above: bytes, name: bytes) -> str:
        """What is wrong with an entry's file; '' for nothing."""
        try:
            parent = self._tree.directory(above)
            there = os.stat(name or b".", dir_fd=parent.fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return "is missing"
        except InvalidArgument as error:
            return error.message
        if entry.kind == b"1":  # its content is looked at under the first name
            return "is a directory" if stat.S_ISDIR(there.st_mode) else ""
        kind = stat.S_IFMT(there.st_mode)
        if kind != _TYPES[entry.kind]:
            return f"is {_NAMES[kind]}, not {_NAMES[_TYPES[entry.kind]]}"
        if (there.st_uid, there.st_gid) != (entry.uid, entry.gid):
            return f"belongs to {there.st_uid}:{there.st_gid}, not {entry.uid}:{entry.gid}"
        if entry.kind != b"2" and stat.S_IMODE(there.st_mode) != entry.mode & 0o7777:
            return f"has mode {stat.S_IMODE(there.st_mode):o}, not {entry.mode & 0o7777:o}"
        if entry.kind == b"2" and os.readlink(name, dir_fd=parent.fd) != entry.link:
            return "points elsewhere"
        if entry.kind in b"34" and there.st_rdev != os.makedev(*entry.device):
            return "is another device"
        if entry.kind == b"0":
            if there.st_size != entry.size:
                return f"has {there.st_size} bytes, not {entry.size}"
            if not _same(parent, name, entry, reader.body()):
                return "has other content"
        return _attributes(entry, joined(b"/proc/self/fd/%d" % parent.fd, name or b"."))


def _same(parent: Directory, name: bytes, entry: Entry, body: Iterator[memoryview]) -> bool:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    fd = os.open(name, flags, dir_fd=parent.fd)
    try:
        if entry.sparse is None:
            at = 0
            for piece in body:
                if os.pread(fd, len(piece), at) != piece:
                    return False
                at += len(piece)
            return True
        piece = memoryview(b"")
        for at, length in entry.sparse:
            while length:
                piece = piece or next(body)
                part, piece = piece[:length], piece[length:]
                if os.pread(fd, len(part), at) != part:
                    return False
                at, length = at + len(part), length - len(part)
        return True
    finally:
        os.close(fd)


def _attributes(entry: Entry, place: bytes) -> str:
    """An attribute that is there with another value; some filesystems take not all of them."""
    for name, value in entry.xattrs.items():
        if is_overlays(name):
            continue
        try:
            found = os.getxattr(place, name, follow_symlinks=False)
        except OSError:
            continue
        if found != value:
            return f"attribute {shown(name)} has another value"
    return ""
