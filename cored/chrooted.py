"""Files into and out of a root filesystem, as a program: ``python -m cored.chrooted``.

A process of its own changes its root first, so that no link in a container leads out of it,
whatever the container does meanwhile. Only the standard library, and little of it: from then on
nothing is imported, and nobody's name is looked up (glibc would load what the container's
nsswitch.conf names), for both would run the container's code as the host's root.

    out ROOT PATH [follow|one-file-system ...]   a line of JSON (see Entry), then a tar
    in ROOT DIRECTORY [UID:GID]                  a tar from stdin, with its owners or with these
"""

from __future__ import annotations

# tarfile imports some of these only when it meets an archive that they are for
import bz2  # noqa: F401
import errno
import json
import lzma  # noqa: F401
import os
import stat
import sys
import tarfile
import zlib  # noqa: F401
from collections.abc import Sequence
from typing import BinaryIO

_XATTR = "SCHILY.xattr."
_KEPT = ("user.", "security.capability")
# of a file that was there a moment ago
_GONE = (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.ENODEV)


def main(arguments: Sequence[str]) -> int:
    """1 when it fails, with a line of JSON on stderr: ``errno`` and ``message``."""
    verb, root, path, *words = arguments
    _shut_off()
    try:
        os.chroot(root)
        os.chdir("/")
        if verb == "out":
            _out(path, words, sys.stdout.buffer)
        else:
            _in(path, words, sys.stdin.buffer)
    except (OSError, tarfile.TarError) as error:
        number = getattr(error, "errno", None) or 0
        text = os.strerror(number) if number else str(error)
        print(json.dumps({"errno": number, "message": text}), file=sys.stderr)
        return 1
    return 0


def _shut_off() -> None:
    """Use nothing any more that is not loaded, and no accounts: entries have numbers alone."""
    vars(tarfile).update(pwd=None, grp=None)
    sys.path.clear()
    sys.meta_path.clear()


def _out(path: str, words: Sequence[str], output: BinaryIO) -> None:
    contents = path.endswith("/.") or path == "/"
    place = "/" + path.strip("/")
    link = ""
    if "follow" in words or path.endswith("/"):
        place = os.path.realpath(place)
    status = os.lstat(place)
    if contents or path.endswith("/"):
        # the directory itself, also through a link
        status = os.stat(place)
        if not stat.S_ISDIR(status.st_mode):
            raise OSError(errno.ENOTDIR, "not a directory")
    if stat.S_ISLNK(status.st_mode):
        link = os.readlink(place)
    name = os.path.basename(path.rstrip("/")) or "/"
    if contents:
        name = "."
    entry = {"name": name, "mode": status.st_mode, "size": status.st_size, "link": link}
    output.write(json.dumps(entry).encode() + b"\n")
    output.flush()
    with tarfile.open(
        fileobj=output, mode="w|", format=tarfile.PAX_FORMAT, bufsize=1 << 18
    ) as archive:
        _Writer(archive, status.st_dev if "one-file-system" in words else None).add(place, name)
    output.flush()


class _Writer:
    def __init__(self, archive: tarfile.TarFile, device: int | None) -> None:
        self._archive = archive
        self._device = device

    def add(self, place: str, name: str) -> None:
        """A tree, parents before children."""
        pending = [(place, name)]
        while pending:
            here, known = pending.pop()
            try:
                info = self._archive.gettarinfo(here, known)
            except FileNotFoundError:
                if here == place:
                    raise
                continue  # it has just gone
            if info is None:  # a socket
                continue
            foreign = self._device is not None and os.lstat(here).st_dev != self._device
            if self._device is not None:
                # a whole filesystem: names as docker's export has them, and no root
                info.name = known.removeprefix("./")
            self._attributes(here, info)
            if info.isreg():
                self._file(here, info, empty=foreign)
                continue
            if info.name != "." or self._device is None:
                self._archive.addfile(info)
            if info.isdir() and not foreign:
                names = sorted(os.listdir(here), reverse=True)
                pending += [(os.path.join(here, one), os.path.join(known, one)) for one in names]

    def _file(self, place: str, info: tarfile.TarInfo, *, empty: bool) -> None:
        if empty:
            info.size = 0
            self._archive.addfile(info)
            return
        try:
            # what has become a link, a FIFO or a device meanwhile is not followed, nor waited for
            fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in _GONE:
                return
            raise
        with open(fd, "rb") as file:
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode):
                info.size = status.st_size
                self._archive.addfile(info, _Padded(file))  # type: ignore[arg-type]

    def _attributes(self, place: str, info: tarfile.TarInfo) -> None:
        try:
            names = os.listxattr(place, follow_symlinks=False)
        except OSError:
            return
        for name in names:
            if name.startswith(_KEPT):
                value = os.getxattr(place, name, follow_symlinks=False)
                text = value.decode("utf-8", "surrogateescape")
                info.pax_headers = {**info.pax_headers, _XATTR + name: text}


class _Padded:
    """A file as long as it was: one that shrinks meanwhile ends in zeros."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, count: int) -> bytes:
        return self._file.read(count).ljust(count, b"\0")


def _in(path: str, words: Sequence[str], source: BinaryIO) -> None:
    place = os.path.realpath(path)
    if not stat.S_ISDIR(os.stat(place).st_mode):
        raise OSError(errno.ENOTDIR, "not a directory")
    owner = tuple(map(int, words[0].split(":"))) if words else None
    directories: list[tuple[str, tarfile.TarInfo]] = []
    with tarfile.open(fileobj=source, mode="r|*", bufsize=1 << 18) as archive:
        for member in archive:
            if owner is not None:
                member.uid, member.gid = owner
            target = os.path.join(place, os.path.normpath(member.name).lstrip("/"))
            _clear(target, member)
            member.uname = member.gname = ""
            archive.extract(member, place, numeric_owner=True, set_attrs=not member.isdir())
            if member.isdir():
                directories.append((target, member))
            for name, value in member.pax_headers.items():
                if name.startswith(_XATTR):
                    data = value.encode("utf-8", "surrogateescape")
                    os.setxattr(target, name.removeprefix(_XATTR), data, follow_symlinks=False)
    for target, member in reversed(directories):
        os.chown(target, member.uid, member.gid)
        os.chmod(target, member.mode & 0o7777)
        os.utime(target, (member.mtime, member.mtime))
    while source.read(1 << 18):  # what pads the end
        continue


def _clear(target: str, member: tarfile.TarInfo) -> None:
    """Make way: docker replaces files, keeps directories, and mixes neither."""
    try:
        there = os.lstat(target)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(there.st_mode):
        if not member.isdir():
            raise OSError(errno.EISDIR, "is a directory")
    elif member.isdir():
        if not (stat.S_ISLNK(there.st_mode) and os.path.isdir(target)):
            raise OSError(errno.ENOTDIR, "not a directory")
    else:
        os.unlink(target)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
