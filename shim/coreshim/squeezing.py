"""Old log files become smaller, in a thread of their own: ``log.1`` is ``log.1.gz`` after a while.

The name in a gzip header (RFC 1952) is the inode that the plain file had, and when it was changed
last, ns: who was reading that one knows the compressed one again.
"""

from __future__ import annotations

import _thread
import fcntl
import os
import re
import struct
import sys
import time
import zlib
from contextlib import suppress

__all__ = ["PACKED", "Squeezer"]

PACKED = ".gz"
_BLOCK = 256 << 10
# of zlib's; most of what there is to win, for a third of the time
_LEVEL = 3
_PATIENCE = 10.0


class Squeezer:
    """Compresses the old files of the log at ``path``."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._threads = 0
        self._lock = _thread.allocate_lock()

    @property
    def busy(self) -> bool:
        return self._threads > 0

    def take(self, fd: int) -> None:
        """Compress a file that has just been renamed; ``fd`` has its lock, and stays the caller's.

        The lock is also in the copy of the descriptor, and says that somebody is at it.
        """
        self._begin(os.dup(fd))

    def leftovers(self) -> None:
        """Compress what an earlier process has not come to."""
        place, name = os.path.split(self._path)
        for entry in os.listdir(place):
            if entry.startswith(f"{name}.") and entry[len(name) + 1 :].isdecimal():
                fd = os.open(os.path.join(place, entry), os.O_RDONLY | os.O_CLOEXEC)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:  # another one is at it
                    os.close(fd)
                else:
                    self._begin(fd)

    def settle(self) -> None:
        """Wait until all is done; what takes too long stays as it was."""
        end = time.monotonic() + _PATIENCE
        while self.busy and time.monotonic() < end:
            time.sleep(0.005)

    def _begin(self, fd: int) -> None:
        with self._lock:
            self._threads += 1
        _thread.start_new_thread(self._work, (fd,))

    def _work(self, fd: int) -> None:
        inode = os.fstat(fd).st_ino
        aside = f"{self._path}.squeezed-{inode}"
        try:
            _compress(fd, aside)
            self._replace(inode, aside)
        except OSError as error:
            # no space: the plain file is as good
            print(f"log {self._path}: not compressed: {error}", file=sys.stderr, flush=True)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(aside)
            os.close(fd)
            with self._lock:
                self._threads -= 1

    def _replace(self, inode: int, aside: str) -> None:
        """Put the compressed file in the place of the plain one, whatever number that has now."""
        lock = self._locked()
        try:
            for name in _older(self._path):
                if os.stat(name).st_ino == inode:
                    os.replace(aside, name + PACKED)
                    os.unlink(name)
                    return
        finally:
            os.close(lock)

    def _locked(self) -> int:
        """A descriptor with the lock that who renames must have."""
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                # renamed just now, and about to be begun anew
                if time.monotonic() > end:
                    raise
                time.sleep(0.001)
                continue
            fcntl.flock(fd, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if os.fstat(fd).st_ino == os.stat(self._path).st_ino:
                    return fd
            os.close(fd)


def _older(path: str) -> list[str]:
    place, name = os.path.split(path)
    wanted = re.compile(re.escape(name) + r"\.\d+")
    return [os.path.join(place, entry) for entry in os.listdir(place) if wanted.fullmatch(entry)]


def _compress(fd: int, aside: str) -> None:
    status = os.fstat(fd)
    name = b"%d-%d\x00" % (status.st_ino, status.st_mtime_ns)
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    crc = offset = 0
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    with open(os.open(aside, flags, 0o640), "wb") as out:
        out.write(b"\x1f\x8b\x08\x08" + bytes(4) + b"\x00\x03" + name)
        while data := os.pread(fd, _BLOCK, offset):
            offset += len(data)
            crc = zlib.crc32(data, crc)
            out.write(packer.compress(data))
        out.write(packer.flush() + struct.pack("<II", crc, offset & 0xFFFFFFFF))
