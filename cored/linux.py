"""The kernel by ctypes: mounts, namespaces, process handles. stdlib only, errno becomes OSError."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "CLONE_FS",
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWUSER",
    "MountLike",
    "bind_readonly",
    "clone_mapped",
    "has_x32",
    "make_private",
    "mount",
    "mount_all",
    "mounted",
    "opened_below",
    "parse_options",
    "prctl",
    "syncfs",
    "unmount",
    "unmount_all",
    "unshare",
    "user_namespace",
]

_LIBC = ctypes.CDLL(None, use_errno=True)

CLONE_FS = 0x200
CLONE_NEWNS = 0x20000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_SYNCHRONOUS, MS_REMOUNT, MS_MANDLOCK, MS_DIRSYNC, MS_NOSYMFOLLOW = 16, 32, 64, 128, 256
MS_NOATIME, MS_NODIRATIME, MS_BIND, MS_REC, MS_SILENT = 1024, 2048, 4096, 16384, 32768
MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED = 1 << 17, 1 << 18, 1 << 19, 1 << 20
MS_RELATIME, MS_STRICTATIME, MS_LAZYTIME = 1 << 21, 1 << 24, 1 << 25
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
# the bit that makes a number of x86_64 one of x32 (asm/unistd.h)
_X32_GETPID = 0x40000000 | 39

# option -> (flags to set, flags to clear), as in mount(8), "filesystem-independent mount options"
_FLAGS: dict[str, tuple[int, int]] = {
    "defaults": (0, 0), "bind": (MS_BIND, 0), "rbind": (MS_BIND | MS_REC, 0),
    "ro": (MS_RDONLY, 0), "rw": (0, MS_RDONLY), "remount": (MS_REMOUNT, 0),
    "nosuid": (MS_NOSUID, 0), "suid": (0, MS_NOSUID), "nodev": (MS_NODEV, 0), "dev": (0, MS_NODEV),
    "noexec": (MS_NOEXEC, 0), "exec": (0, MS_NOEXEC), "dirsync": (MS_DIRSYNC, 0),
    "sync": (MS_SYNCHRONOUS, 0), "async": (0, MS_SYNCHRONOUS),
    "mand": (MS_MANDLOCK, 0), "nomand": (0, MS_MANDLOCK),
    "nosymfollow": (MS_NOSYMFOLLOW, 0), "symfollow": (0, MS_NOSYMFOLLOW),
    "noatime": (MS_NOATIME, 0), "atime": (0, MS_NOATIME),
    "nodiratime": (MS_NODIRATIME, 0), "diratime": (0, MS_NODIRATIME),
    "relatime": (MS_RELATIME, 0), "norelatime": (0, MS_RELATIME),
    "strictatime": (MS_STRICTATIME, 0), "nostrictatime": (0, MS_STRICTATIME),
    "lazytime": (MS_LAZYTIME, 0), "nolazytime": (0, MS_LAZYTIME),
    "silent": (MS_SILENT, 0), "loud": (0, MS_SILENT),
}  # fmt: skip
_PROPAGATION: dict[str, int] = {
    "private": MS_PRIVATE, "rprivate": MS_PRIVATE | MS_REC,
    "shared": MS_SHARED, "rshared": MS_SHARED | MS_REC,
    "slave": MS_SLAVE, "rslave": MS_SLAVE | MS_REC,
    "unbindable": MS_UNBINDABLE, "runbindable": MS_UNBINDABLE | MS_REC,
}  # fmt: skip


class MountLike(Protocol):
    """A mount as :class:`cored.abc.values.Mount` or a protobuf message describes it."""

    @property
    def type(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def options(self) -> Sequence[str]: ...


def _checked(result: int, *subjects: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), *subjects[:1])
    return result


def _encoded(value: str | os.PathLike[str] | None) -> bytes | None:
    return None if value is None else os.fsencode(value)


def mount(
    source: str | None,
    target: str | os.PathLike[str],
    fstype: str | None = None,
    flags: int = 0,
    data: str | None = None,
) -> None:
    """mount(2)."""
    _checked(
        _LIBC.mount(
            _encoded(source), _encoded(target), _encoded(fstype), ctypes.c_ulong(flags),
            _encoded(data),
        ),
        os.fspath(target),
    )  # fmt: skip


def unshare(flags: int) -> None:
    """unshare(2) for the calling thread."""
    _checked(_LIBC.unshare(flags))


def setns(fd: int, flags: int) -> None:
    """setns(2): put the calling thread into the namespace behind ``fd``."""
    _checked(_LIBC.setns(fd, flags))


def user_namespace(ids: str) -> int:
    """A descriptor of a new user namespace with ``ids`` (lines of uid_map) for users and groups.

    Forks: not for a process with threads.
    """
    ours, theirs = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            unshare(CLONE_NEWUSER)
            os.write(ours[1], b"x")
            os.close(theirs[1])
            os.read(theirs[0], 1)  # until we have the namespace, or are gone
        finally:
            os._exit(0)
    try:
        os.close(ours[1])
        if not os.read(ours[0], 1):
            raise OSError(errno.EPERM, "user namespaces cannot be made here")
        for kind in ("uid_map", "gid_map"):
            with open(f"/proc/{pid}/{kind}", "w") as file:
                file.write(ids)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        for fd in (ours[0], *theirs):
            os.close(fd)
        os.waitpid(pid, 0)


def clone_mapped(source: str, namespace: int, target: str, *, recursive: bool = False) -> None:
    """Bind ``source`` to ``target`` with the ids of a user namespace (mount_setattr(2), 5.12)."""
    deep = _AT_RECURSIVE if recursive else 0
    call = _LIBC.syscall
    # OPEN_TREE_CLONE and O_CLOEXEC
    tree = _checked(
        call(_SYS_OPEN_TREE, -100, os.fsencode(source), 1 | deep | os.O_CLOEXEC), source
    )
    try:
        attributes = struct.pack("QQQQ", _MOUNT_ATTR_IDMAP, 0, 0, namespace)
        size = len(attributes)
        _checked(call(_SYS_MOUNT_SETATTR, tree, b"", 0x1000 | deep, attributes, size), source)
        _checked(call(_SYS_MOVE_MOUNT, tree, b"", -100, os.fsencode(target), 4), target)
    finally:
        os.close(tree)


def syncfs(fd: int) -> None:
    """syncfs(2): write out all that the filesystem of ``fd`` holds in memory."""
    _checked(_LIBC.syncfs(fd))


def prctl(option: int, argument: int | bytes) -> None:
    """prctl(2) with one argument."""
    _checked(_LIBC.prctl(option, argument, 0, 0, 0))


def has_x32() -> bool:
    """Whether the kernel has amd64's third ABI: its getpid answers. A seccomp filter may kill."""
    return os.uname().machine == "x86_64" and bool(_LIBC.syscall(_X32_GETPID) > 0)


def make_private(path: str = "/") -> None:
    """Stop mounts at and below ``path`` from travelling to and from other mount namespaces."""
    mount(None, path, None, MS_REC | MS_PRIVATE)


def bind_readonly(target: str | os.PathLike[str], flags: int = 0) -> None:
    """Make the bind mount at ``target`` read-only; a bind mount ignores flags when it is made."""
    mount(None, target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | flags)


def unmount(target: str | os.PathLike[str], *, lazy: bool = False) -> None:
    """umount2(2) without following a symlink; EINVAL when nothing is mounted there."""
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)
    _checked(_LIBC.umount2(_encoded(target), flags), os.fspath(target))


def unmount_all(target: str | os.PathLike[str], *, lazy: bool = False) -> None:
    """Unmount all that is stacked at ``target``; fine when nothing is, or it does not exist."""
    while True:
        try:
            unmount(target, lazy=lazy)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):  # not a mount (any more)
                return
            raise


def parse_options(options: Sequence[str]) -> tuple[int, list[int], list[str]]:
    """Split fstab options into mount flags, propagation changes, and data for the filesystem."""
    flags, propagation, data = 0, [], []
    for option in options:
        if option in _FLAGS:
            on, off = _FLAGS[option]
            flags = (flags | on) & ~off
        elif option in _PROPAGATION:
            propagation.append(_PROPAGATION[option])
        elif option:
            data.append(option)
    return flags, propagation, data


def _mount_new(entry: MountLike, target: str | os.PathLike[str]) -> None:
    flags, _, data = _parsed(entry)
    if not flags & MS_BIND and sum(map(len, data)) + len(data) >= _PAGE:
        _mount_long(entry.source, os.fspath(target), entry.type, flags, data)
    else:
        mount(entry.source, target, entry.type, flags, ",".join(data) or None)


def _mount_settings(entry: MountLike, target: str | os.PathLike[str]) -> None:
    """What the kernel takes only from a second call, for a mount that is there."""
    flags, propagation, _ = _parsed(entry)
    extra = flags & ~(MS_BIND | MS_REC | MS_REMOUNT | MS_SILENT)
    if flags & MS_BIND and not flags & MS_REMOUNT and extra:
        # ro, nosuid... are ignored where a bind mount is made
        mount(None, target, None, MS_REMOUNT | MS_BIND | extra)
    for change in propagation:
        mount(None, target, None, change)


def _parsed(entry: MountLike) -> tuple[int, list[int], list[str]]:
    flags, propagation, data = parse_options(entry.options)
    if entry.type in ("bind", "rbind"):
        flags |= MS_BIND | (MS_REC if entry.type == "rbind" else 0)
    return flags, propagation, data


def mount_all(mounts: Sequence[MountLike], target: str | os.PathLike[str]) -> None:
    """Mount ``mounts`` in order at ``target``, or below it where a mount says so; all or none.

    A mount's own ``target`` is looked up as if ``target`` were the root: links cannot leave it.
    """
    root = os.fspath(target)
    done: list[str] = []
    try:
        for entry in mounts:
            if not entry.target.strip("/"):
                _mount_new(entry, root)
                done.append(root)
                _mount_settings(entry, root)
                continue
            with opened_below(root, entry.target) as place:
                real = os.readlink(place)  # noqa: PTH115
                _mount_new(entry, place)
            done.append(real)
            # looked up again: a handle from before the mount shows what is under it
            with opened_below(root, entry.target) as place:
                _mount_settings(entry, place)
    except BaseException:
        for mount_point in reversed(done):
            unmount(mount_point, lazy=True)
        raise


@contextmanager
def mounted(mounts: Sequence[MountLike], where: Path | None = None) -> Iterator[Path]:
    """The mounts at a temporary directory (made in ``where``), gone again at the end."""
    from pathlib import Path
    from tempfile import mkdtemp

    place = mkdtemp(prefix="cored-mount-", dir=where)
    try:
        mount_all(mounts, place)
        try:
            yield Path(place)
        finally:
            for _ in mounts:
                _unmount_or_detach(place)
    finally:
        os.rmdir(place)  # noqa: PTH106 - a path that pathlib has not parsed


def _unmount_or_detach(place: str) -> None:
    try:
        unmount(place)
    except OSError as error:
        if error.errno == errno.EBUSY:  # submounts or an open file: it goes when they go
            unmount_all(place, lazy=True)
        elif error.errno != errno.EINVAL:  # that mount had a target below, and went with it
            raise


_PAGE = 4096  # mount(2) copies at most one page of data, and the smallest page counts
_SYS_MOVE_MOUNT, _SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 429, 430, 431, 432
_SYS_OPEN_TREE, _SYS_MOUNT_SETATTR, _MOUNT_ATTR_IDMAP = 428, 442, 0x100000
_AT_RECURSIVE = 0x8000
_SYS_OPENAT2, _RESOLVE_IN_ROOT, _RESOLVE_NO_MAGICLINKS = 437, 0x10, 0x02


@contextmanager
def opened_below(root: str, path: str) -> Iterator[str]:
    """A /proc/self/fd path of ``path`` resolved with ``root`` as its root (openat2, 5.6)."""
    resolve = _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS
    how = (ctypes.c_uint64 * 3)(os.O_PATH | os.O_CLOEXEC, 0, resolve)
    base = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        place = _checked(
            _LIBC.syscall(_SYS_OPENAT2, base, os.fsencode(path), ctypes.byref(how), 24), path
        )
    finally:
        os.close(base)
    try:
        yield f"/proc/self/fd/{place}"
    finally:
        os.close(place)


def _mount_long(source: str, target: str, fstype: str, flags: int, data: list[str]) -> None:
    """Mount an overlay whose options exceed a page.

    First with lower directories relative to what they share, else one by one (``lowerdir+``,
    Linux 6.7). Both need a working directory of their own, which a thread can have.
    """
    lower = next((o[9:].split(":") for o in data if o.startswith("lowerdir=")), None)
    if fstype != "overlay" or not lower or "" in lower:
        raise OSError(errno.E2BIG, f"mount options longer than {_PAGE} bytes", target)
    top = os.path.commonpath(lower)
    short = [os.path.relpath(path, top) for path in lower]
    rest = [option for option in data if not option.startswith("lowerdir=")]
    text = ",".join([*rest, "lowerdir=" + ":".join(short)])
    target = os.path.abspath(target)  # noqa: PTH100 - the thread has another working directory
    if len(os.fsencode(text)) < _PAGE:
        _in_directory(top, lambda: mount(source, target, fstype, flags, text))
    else:
        rest += [f"lowerdir+={path}" for path in short]
        _in_directory(top, lambda: _mount_by_parts(source, target, fstype, flags, rest))


def _mount_by_parts(source: str, target: str, fstype: str, flags: int, data: list[str]) -> None:
    call = _LIBC.syscall
    context = _checked(call(_SYS_FSOPEN, os.fsencode(fstype), 1), target)
    try:
        for option in (f"source={source}", *data, *(["ro"] if flags & MS_RDONLY else ())):
            name, equals, value = option.partition("=")
            kind, text = (1, os.fsencode(value)) if equals else (0, None)  # SET_STRING, SET_FLAG
            _checked(call(_SYS_FSCONFIG, context, kind, os.fsencode(name), text, 0), option)
        _checked(call(_SYS_FSCONFIG, context, 6, None, None, 0), target)  # CMD_CREATE
        # MOUNT_ATTR_RDONLY, NOSUID, NODEV and NOEXEC have the numbers of their MS_ twins
        tree = _checked(call(_SYS_FSMOUNT, context, 1, flags & 0xF), target)
    finally:
        os.close(context)
    try:
        _checked(call(_SYS_MOVE_MOUNT, tree, b"", -100, os.fsencode(target), 4), target)
    finally:
        os.close(tree)


def _in_directory(path: str, work: Callable[[], None]) -> None:
    """Run ``work`` in a thread whose working directory alone is ``path``."""
    import threading

    failure: list[BaseException] = []

    def run() -> None:
        try:
            unshare(CLONE_FS)
            os.chdir(path)
            work()
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
