"""Extraction of a layer into a directory that only this process writes to.

Every step goes through directory descriptors (:mod:`cored.archive.tree`), so that no entry gets
out of the target whatever its name or the links before it say.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable

from cored.archive.jobs import Fixups
from cored.archive.marks import (
    OPAQUE,
    OPAQUE_NAME,
    OPAQUE_XATTR,
    WHITEOUT,
    is_overlays,
    is_whiteout,
)
from cored.archive.tar import Entry, TarReader, shown
from cored.archive.tree import Directory, Tree, joined, normal, remove
from cored.errors import InvalidArgument

__all__ = ["Extractor"]

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DEVICES = {b"3": stat.S_IFCHR, b"4": stat.S_IFBLK, b"6": stat.S_IFIFO}
_LATEST = 1 << 63  # nanoseconds, in the year 2262: the most that filesystems and Go can say


class Extractor:
    """Extracts one layer; see :class:`cored.archive.jobs.LayerJob` for ``overlay``.

    Needs root for owners, devices and xattrs. Use it as a context manager.
    """

    def __init__(self, target: str, *, overlay: bool = False, most_entries: int = 0) -> None:
        self._overlay = overlay
        self._most_entries = most_entries
        # whiteouts only concern what this layer has not made; None: it is all this layer's
        self._made: set[bytes] | None = None if overlay and not os.listdir(target) else set()
        self._times: dict[bytes, int] = {}  # of directories, to be set when nothing is added
        self._implied: dict[bytes, None] = {b"": None}
        self._links: dict[bytes, bytes] = {}
        self._whiteouts: dict[bytes, None] = {}
        self._opaque: dict[bytes, None] = {}
        self._tree = Tree(target)
        # directories that do more to a new file than say where it is; None: nobody knows of all
        self._inherited: set[bytes] | None = None
        if self._made is None and _plain(self._tree.root.fd):
            self._inherited = set()

    def __enter__(self) -> Extractor:
        return self

    def __exit__(self, *_: object) -> None:
        self._tree.close()

    def extract(self, reader: TarReader) -> Fixups:
        """Extract all entries, set the directories' times, and say what is left to do.

        InvalidArgument names the entry that is broken or tries to leave the target; OSError is
        the disk's. What was written until then stays.
        """
        for count, entry in enumerate(reader, 1):
            if 0 < self._most_entries < count:
                raise InvalidArgument(f"archive: more than {self._most_entries} entries")
            try:
                self._add(entry, reader)
            except OSError as error:
                if error.errno in (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EINVAL, errno.EISDIR):
                    raise _broken(entry, (error.strerror or "").lower()) from error
                error.filename = os.fsdecode(entry.name)
                raise
        self._set_times()
        if not self._overlay:
            return Fixups()
        return Fixups(
            tuple(sorted(self._implied)), tuple(self._links.items()),
            tuple(self._whiteouts), tuple(self._opaque),
        )  # fmt: skip

    def _set_times(self) -> None:
        for path in sorted(self._times):
            times = (self._times[path],) * 2
            above, _, name = path.rpartition(b"/")
            if name:
                parent = self._tree.directory(above)
                os.utime(name, ns=times, dir_fd=parent.fd, follow_symlinks=False)
            else:
                os.utime(self._tree.root.fd, ns=times)

    def _add(self, entry: Entry, reader: TarReader) -> None:
        path = normal(entry.name)
        if not path:
            if entry.kind != b"5":
                raise _broken(entry, "only a directory can be the root")
            self._describe_directory(entry, self._tree.root)
            return
        if path.startswith(b".wh..wh.") and not path.startswith(OPAQUE_NAME):
            return  # bookkeeping of AUFS
        above, _, name = path.rpartition(b"/")
        parent = self._tree.directory(above, self._imply)
        if name.startswith(WHITEOUT):
            self._whiteout(entry, parent, name)
            return
        if entry.kind == b"0":
            self._file(entry, parent, name, reader)
            if self._made is not None:
                self._made.add(joined(parent.path, name))
            return
        real = joined(parent.path, name)
        match entry.kind:
            case b"5":
                self._directory(entry, parent, name, real)
                return
            case b"1":
                self._link(entry, above, name, real)
            case b"2":
                if not entry.link:
                    raise _broken(entry, "a link to nowhere")
                self._place(parent, name)
                os.symlink(entry.link, name, dir_fd=parent.fd)
                self._describe(entry, parent, name)
            case kind:
                device = os.makedev(*_numbers(entry, self._overlay))
                self._place(parent, name)
                os.mknod(name, _DEVICES[kind] | 0o600, device, dir_fd=parent.fd)
                self._describe(entry, parent, name)
        self._note(real)

    def _note(self, path: bytes) -> None:
        if self._made is not None:
            self._made.add(path)

    def _mine(self, path: bytes) -> bool:
        """Whether what is at ``path`` has come with this layer, and is no whiteout."""
        return path not in self._whiteouts if self._made is None else path in self._made

    # ---- directories

    def _imply(self, parent: Directory, name: bytes, there: os.stat_result | None) -> None:
        """A directory on the way that no entry named."""
        path = joined(parent.path, name)
        if there is not None and not is_whiteout(there):
            raise InvalidArgument(f"archive: path {shown(path)!r}: not a directory")
        new = self._new_directory(parent, name, path)
        os.chmod(name, 0o755, dir_fd=parent.fd)
        os.chown(name, 0, 0, dir_fd=parent.fd, follow_symlinks=False)
        if new:
            self._implied[path] = None
        self._note(path)

    def _new_directory(self, parent: Directory, name: bytes, path: bytes) -> bool:
        """Make a directory or keep the one there; False when it replaced something else."""
        try:
            os.mkdir(name, 0o700, dir_fd=parent.fd)
            if self._links.pop(path, None) is None:
                return True
        except FileExistsError:
            there = os.stat(name, dir_fd=parent.fd, follow_symlinks=False)
            if stat.S_ISDIR(there.st_mode):
                return True
            self._discard(parent, name, there)
            os.mkdir(name, 0o700, dir_fd=parent.fd)
        if self._overlay:  # what it replaced hid what lies below, and so must this
            self._mark_opaque(path, _inside(parent, name))
        return False

    def _directory(self, entry: Entry, parent: Directory, name: bytes, path: bytes) -> None:
        self._new_directory(parent, name, path)
        self._describe_directory(entry, self._tree.directory(path))

    def _describe_directory(self, entry: Entry, directory: Directory) -> None:
        fd, path = directory.fd, directory.path
        os.fchown(fd, entry.uid, entry.gid)
        os.fchmod(fd, entry.mode)
        if entry.xattrs:
            _set_xattrs(entry, fd)
        if self._inherited is not None and (entry.gid or entry.xattrs or entry.mode & stat.S_ISGID):
            self._inherited.add(path)
        self._times[path] = _bounded(entry.mtime_ns)
        self._implied.pop(path, None)
        self._note(path)

    def _mark_opaque(self, path: bytes, place: int | bytes) -> None:
        os.setxattr(place, OPAQUE_XATTR, OPAQUE)
        self._opaque[path] = None

    # ---- the rest

    def _file(self, entry: Entry, parent: Directory, name: bytes, reader: TarReader) -> None:
        ready = (
            not (entry.uid or entry.gid or entry.mode & ~0o777)
            and self._inherited is not None
            and parent.path not in self._inherited
        )
        mode = entry.mode if ready else 0o600
        try:
            fd = os.open(name, _NEW, mode, dir_fd=parent.fd)
        except FileExistsError:
            self._place(parent, name)
            fd = os.open(name, _NEW, mode, dir_fd=parent.fd)
        if self._links:
            self._links.pop(joined(parent.path, name), None)
        try:
            if entry.size:
                _fill(fd, entry, reader)
            if not ready:
                os.fchown(fd, entry.uid, entry.gid)
                os.fchmod(fd, entry.mode)  # after chown, which clears setuid and capabilities
            if entry.xattrs:
                _set_xattrs(entry, fd)
            mtime = _bounded(entry.mtime_ns)
            os.utime(fd, ns=(mtime, mtime))
        finally:
            os.close(fd)

    def _link(self, entry: Entry, above: bytes, name: bytes, real: bytes) -> None:
        goal = normal(entry.link)
        if not goal:
            raise _broken(entry, "a hardlink to the root")
        place, _, last = goal.rpartition(b"/")
        found = self._lookup(place, last)
        parent = self._tree.directory(above, self._imply)
        if found is None:
            if not self._overlay:
                raise _broken(entry, f"hardlink to {shown(goal)!r}, which is not there")
            self._place(parent, name)
            self._links[real] = goal
            return
        source = self._tree.directory(place)
        if joined(source.path, last) == real:
            return
        if stat.S_ISDIR(found.st_mode):
            raise _broken(entry, f"hardlink to {shown(goal)!r}, a directory")
        if self._overlay and is_whiteout(found):
            raise _broken(entry, f"hardlink to {shown(goal)!r}, which this layer removes")
        self._place(parent, name)
        os.link(last, name, src_dir_fd=source.fd, dst_dir_fd=parent.fd, follow_symlinks=False)

    def _lookup(self, place: bytes, name: bytes) -> os.stat_result | None:
        try:
            directory = self._tree.directory(place)
            return os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _describe(self, entry: Entry, parent: Directory, name: bytes) -> None:
        """Owner, mode, xattrs and time of what cannot simply be opened."""
        os.chown(name, entry.uid, entry.gid, dir_fd=parent.fd, follow_symlinks=False)
        if entry.kind != b"2":
            os.chmod(name, entry.mode, dir_fd=parent.fd)
        if entry.xattrs:
            _set_xattrs(entry, _inside(parent, name))
        mtime = _bounded(entry.mtime_ns)
        os.utime(name, ns=(mtime, mtime), dir_fd=parent.fd, follow_symlinks=False)

    def _place(self, parent: Directory, name: bytes) -> None:
        """Make room for something that is not a directory: the last entry of a name wins."""
        try:
            there = os.stat(name, dir_fd=parent.fd, follow_symlinks=False)
        except FileNotFoundError:
            if self._links:
                self._links.pop(joined(parent.path, name), None)
        else:
            self._discard(parent, name, there)

    def _discard(self, parent: Directory, name: bytes, there: os.stat_result) -> None:
        """Remove what is at ``name``, and what was noted of it and below it."""
        remove(parent.fd, name)
        path = joined(parent.path, name)
        self._whiteouts.pop(path, None)
        if self._made is not None:
            self._made.discard(path)
        if stat.S_ISDIR(there.st_mode):
            self._forget_below(path)
        if stat.S_ISDIR(there.st_mode) or stat.S_ISLNK(there.st_mode):
            self._tree.forget(path)

    def _forget_below(self, path: bytes) -> None:
        below = path + b"/"
        notes: Iterable[dict[bytes, None] | dict[bytes, int] | dict[bytes, bytes]] = (
            self._times, self._implied, self._links, self._whiteouts, self._opaque,
        )  # fmt: skip
        for note in notes:
            for noted in [p for p in note if p == path or p.startswith(below)]:
                del note[noted]
        if self._made is not None:
            self._made = {p for p in self._made if p != path and not p.startswith(below)}

    # ---- whiteouts

    def _whiteout(self, entry: Entry, parent: Directory, name: bytes) -> None:
        if name == OPAQUE_NAME:
            self._empty(parent)
            if self._overlay:
                self._mark_opaque(parent.path, parent.fd)
            return
        hidden = name[len(WHITEOUT) :]
        if hidden in (b"", b".", b".."):
            raise _broken(entry, "a whiteout of nothing")
        path = joined(parent.path, hidden)
        try:
            there = os.stat(hidden, dir_fd=parent.fd, follow_symlinks=False)
        except FileNotFoundError:
            there = None
        if there is not None and self._mine(path):  # whiteouts only concern lower layers
            if stat.S_ISDIR(there.st_mode):
                directory = self._tree.directory(path)
                self._empty(directory)
                if self._overlay:
                    self._mark_opaque(path, directory.fd)
            return
        if there is not None:
            self._discard(parent, hidden, there)
        if self._overlay and path not in self._links:
            os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=parent.fd)
            self._whiteouts[path] = None

    def _empty(self, directory: Directory) -> None:
        """Remove what lower layers left in a directory, here and in the directories below."""
        if self._made is None:
            return
        path = directory.path
        for child in os.listdir(directory.fd):
            name = os.fsencode(child)
            place = joined(path, name)
            there = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
            if not self._mine(place) and place not in self._whiteouts:
                self._discard(directory, name, there)
            elif stat.S_ISDIR(there.st_mode):
                self._empty(self._tree.directory(place))


def _plain(root: int) -> bool:
    """Whether a file that is made in a directory is root's and has the mode that open(2) says."""
    mask = os.umask(0)
    os.umask(mask)
    found = os.fstat(root)
    if mask or os.geteuid() or os.getegid() or found.st_gid or found.st_mode & stat.S_ISGID:
        return False
    try:
        os.getxattr(root, "system.posix_acl_default")
    except OSError as error:
        return error.errno in (errno.ENODATA, errno.ENOTSUP)
    return False


def _broken(entry: Entry, why: str) -> InvalidArgument:
    return InvalidArgument(f"archive: entry {shown(entry.name)!r} at byte {entry.offset}: {why}")


def _inside(parent: Directory, name: bytes) -> bytes:
    """A path for the calls that take no dir_fd."""
    return b"/proc/self/fd/%d/%s" % (parent.fd, name)


def _bounded(mtime_ns: int) -> int:
    return mtime_ns if 0 <= mtime_ns < _LATEST else 0


def _numbers(entry: Entry, overlay: bool) -> tuple[int, int]:
    major, minor = entry.device
    if not 0 <= major < 1 << 12 or not 0 <= minor < 1 << 20:
        raise _broken(entry, f"impossible device {major}:{minor}")
    if overlay and entry.kind == b"3" and not major and not minor:
        raise _broken(entry, "device 0:0, which is overlay's whiteout")
    return major, minor


def _fill(fd: int, entry: Entry, reader: TarReader) -> None:
    if entry.sparse is not None:
        _write_sparse(fd, entry, reader.body())
        return
    whole = reader.whole()
    if whole is not None:
        _write(fd, whole)
        return
    for piece in reader.body():
        _write(fd, piece)


def _write(fd: int, data: memoryview) -> None:
    while (written := os.write(fd, data)) < len(data):
        data = data[written:]


def _write_sparse(fd: int, entry: Entry, body: Iterable[memoryview]) -> None:
    piece, pieces = memoryview(b""), iter(body)
    for offset, length in entry.sparse or ():
        os.lseek(fd, offset, os.SEEK_SET)
        while length:
            if not piece:
                piece = next(pieces)
            part = piece[:length]
            _write(fd, part)
            length -= len(part)
            piece = piece[len(part) :]
    os.ftruncate(fd, entry.size)


def _set_xattrs(entry: Entry, place: int | bytes) -> None:
    for name, value in entry.xattrs.items():
        if is_overlays(name):
            continue
        try:
            if isinstance(place, int):
                os.setxattr(place, name, value)
            else:
                os.setxattr(place, name, value, follow_symlinks=False)
        except OSError as error:
            # ENOTSUP: the filesystem has none of that kind. EPERM: no user.* on links and devices
            if error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise
