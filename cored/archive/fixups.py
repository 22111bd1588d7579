"""What is left to do in an overlay layer once the layers below it exist."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cored.archive.jobs import Fixups
from cored.archive.layers import Layers, Node
from cored.archive.marks import (
    OPAQUE,
    OPAQUE_XATTR,
    is_opaque,
    is_overlays,
    is_whiteout,
    unmark_opaque,
)
from cored.archive.tar import shown
from cored.archive.tree import Directory, Tree, joined, normal
from cored.errors import InvalidArgument, from_os_error

__all__ = ["apply_fixups"]


def apply_fixups(fixups: Fixups, target: str, lowers: Sequence[str]) -> None:
    """Complete the upper directory ``target`` over the upper directories ``lowers``, top first.

    Blocks; run it in a thread. The lower layers must be complete and fixed up themselves, and
    ``target`` not be mounted. InvalidArgument for a hardlink to a file that is nowhere.
    """
    if fixups == Fixups():
        return
    try:
        _Fixer(target, lowers).run(fixups)
    except OSError as error:
        raise from_os_error(f"layer {target}", error) from error


class _Fixer:
    def __init__(self, target: str, lowers: Sequence[str]) -> None:
        self._target = target
        self._lowers = lowers
        self._below = Layers(lowers)
        self._tree = Tree(target)
        self._copied: set[bytes] = set()

    def run(self, fixups: Fixups) -> None:
        try:
            moved = self._complete_directories(fixups)
            for name, goal in moved.lower_links:
                self._link(name, normal(goal))
            for path in moved.whiteouts:
                self._prune_whiteout(path)
            for path in moved.opaque:
                node = self._below.find(path)
                if node is None or not node.is_directory:
                    unmark_opaque(self._tree.directory(path).fd)
        finally:
            self._tree.close()

    # ---- implied directories

    def _complete_directories(self, fixups: Fixups) -> Fixups:
        """Give implied directories what they have below; the fix-ups with paths as they are now."""
        todo = list(fixups.implied_dirs)
        while todo:
            path = todo.pop(0)
            node = self._below.find(path)
            if node is None:
                continue  # really new
            if node.is_directory:
                copy_attributes(node, self._tree.directory(path).fd)
                continue
            real = self._below.resolve(path) if node.is_link else None
            if real is None or not real.is_directory:
                raise InvalidArgument(
                    f"archive: path {shown(path)!r}: not a directory in the layers below"
                )
            self._move(path, real.path)
            todo = [_moved(p, path, real.path) for p in todo]
            fixups = Fixups(
                (),
                tuple((_moved(n, path, real.path), g) for n, g in fixups.lower_links),
                tuple(_moved(p, path, real.path) for p in fixups.whiteouts),
                tuple(_moved(p, path, real.path) for p in fixups.opaque),
            )
        return fixups

    def _move(self, path: bytes, to: bytes) -> None:
        """Move all from the directory ``path`` to ``to``: below, ``path`` is a link to it."""
        target = self._upper(to)
        with _same_time(target):
            self._merge(self._tree.directory(path), target)
        above, _, name = path.rpartition(b"/")
        parent = self._tree.directory(above)
        self._tree.forget(path)
        with _same_time(parent):
            os.rmdir(name, dir_fd=parent.fd)

    def _merge(self, source: Directory, target: Directory) -> None:
        for child in os.listdir(source.fd):
            name = os.fsencode(child)
            new = os.stat(name, dir_fd=source.fd, follow_symlinks=False)
            old = _seen(target, name)
            if old is None or (not stat.S_ISDIR(old.st_mode) and not is_whiteout(new)):
                if old is not None and stat.S_ISDIR(new.st_mode):
                    os.unlink(name, dir_fd=target.fd)
                os.rename(name, name, src_dir_fd=source.fd, dst_dir_fd=target.fd)
            elif stat.S_ISDIR(old.st_mode) and stat.S_ISDIR(new.st_mode):
                inner = joined(source.path, name), joined(target.path, name)
                below = self._tree.directory(inner[1])
                with _same_time(below):
                    self._merge(self._tree.directory(inner[0]), below)
                self._tree.forget(inner[0])
                os.rmdir(name, dir_fd=source.fd)
            elif is_whiteout(new):  # of the lower one only: what this layer made stays
                os.unlink(name, dir_fd=source.fd)
            else:
                raise InvalidArgument(
                    f"archive: path {shown(joined(target.path, name))!r}: both a file and a "
                    "directory, by way of a link below"
                )
        if is_opaque(source.fd):
            os.setxattr(target.fd, OPAQUE_XATTR, OPAQUE)

    def _upper(self, path: bytes) -> Directory:
        """The directory ``path`` of this layer, made as a copy of that below where it is not."""
        return self._tree.directory(path, self._make)

    def _make(self, parent: Directory, name: bytes, there: os.stat_result | None) -> None:
        path = joined(parent.path, name)
        node = self._below.find(path)
        if there is not None or node is None or not node.is_directory:
            raise InvalidArgument(f"archive: path {shown(path)!r}: not a directory")
        with _same_time(parent):
            os.mkdir(name, 0o700, dir_fd=parent.fd)
        made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent.fd)
        try:
            copy_attributes(node, made)
        finally:
            os.close(made)

    # ---- hardlinks to what lies below

    def _link(self, name: bytes, goal: bytes) -> None:
        merged = Layers((self._target, *self._lowers))
        node = merged.find(goal)
        if node is not None and self._is_upper(node) and node.path not in self._copied:
            node = self._below.find(goal)  # made by this layer, but after the link
        if node is None or node.is_directory:
            raise InvalidArgument(
                f"archive: entry {shown(name)!r}: hardlink to {shown(goal)!r}, "
                + ("which is not there" if node is None else "a directory")
            )
        above, _, last = name.rpartition(b"/")
        parent = self._tree.directory(above)
        source_above, _, source_last = node.path.rpartition(b"/")
        source = self._upper(source_above)
        if not self._is_upper(node):
            if _seen(source, source_last) is not None:
                with _same_time(parent):
                    copy_up(node, parent, last)
                self._copied.add(name)
                return
            with _same_time(source):
                copy_up(node, source, source_last)
        with _same_time(parent):
            os.link(
                source_last, last, src_dir_fd=source.fd, dst_dir_fd=parent.fd,
                follow_symlinks=False,
            )  # fmt: skip
        self._copied |= {node.path, name}

    def _is_upper(self, node: Node) -> bool:
        return node.place == os.path.join(os.fsencode(self._target), node.path)

    # ---- marks without a purpose

    def _prune_whiteout(self, path: bytes) -> None:
        """A base layer shown alone would show the device: take it away where it hides nothing."""
        if self._below.find(path) is not None:
            return
        above, _, name = path.rpartition(b"/")
        parent = self._tree.directory(above)
        there = _seen(parent, name)
        if there is not None and is_whiteout(there):
            with _same_time(parent):
                os.unlink(name, dir_fd=parent.fd)


def _moved(path: bytes, old: bytes, new: bytes) -> bytes:
    return new + path[len(old) :] if path == old or path.startswith(old + b"/") else path


def _seen(directory: Directory, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


@contextmanager
def _same_time(directory: Directory) -> Iterator[None]:
    """Times of a directory survive what is done to it inside: the layer said what they are."""
    before = os.fstat(directory.fd)
    yield
    os.utime(directory.fd, ns=(before.st_atime_ns, before.st_mtime_ns))


def copy_attributes(node: Node, to: int | bytes) -> None:
    """Owner, mode, xattrs and times of ``node`` to another file: a descriptor, or a link's path."""
    there = node.stat
    follow = isinstance(to, int)
    os.chown(to, there.st_uid, there.st_gid, follow_symlinks=follow)
    if not node.is_link:
        os.chmod(to, stat.S_IMODE(there.st_mode))
    for name in os.listxattr(node.place, follow_symlinks=False):
        if not is_overlays(os.fsencode(name)):
            value = os.getxattr(node.place, name, follow_symlinks=False)
            _set_xattr(to, name, value, follow)
    os.utime(to, ns=(there.st_atime_ns, there.st_mtime_ns), follow_symlinks=follow)


def _set_xattr(to: int | bytes, name: str, value: bytes, follow: bool) -> None:
    try:
        if follow:
            os.setxattr(to, name, value)
        else:
            os.setxattr(to, name, value, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.ENOTSUP:  # another filesystem may have none of that kind
            raise


def copy_up(node: Node, parent: Directory, name: bytes) -> None:
    """Copy a file, link or device of a lower layer to ``name`` in a directory of this one."""
    if not stat.S_ISREG(node.stat.st_mode):
        if node.is_link:
            os.symlink(os.readlink(node.place), name, dir_fd=parent.fd)
        else:
            os.mknod(name, node.stat.st_mode, node.stat.st_rdev, dir_fd=parent.fd)
        copy_attributes(node, b"/proc/self/fd/%d/%s" % (parent.fd, name))
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    new = os.open(name, flags, 0o600, dir_fd=parent.fd)
    try:
        old = os.open(node.place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            while os.sendfile(new, old, None, 1 << 24):
                pass
        finally:
            os.close(old)
        copy_attributes(node, new)
    finally:
        os.close(new)
