"""Writing layers: deterministic tar archives of changes, hashed and compressed on the way."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from threading import Thread

from cored.archive.changes import Change, between, in_upper, xattrs_of
from cored.archive.channel import Channel
from cored.archive.compression import compressed
from cored.archive.jobs import DiffJob, DiffResult
from cored.archive.marks import OPAQUE_NAME, WHITEOUT
from cored.archive.stubs import Stubs
from cored.archive.tar import BLOCK, shown
from cored.archive.tree import joined
from cored.errors import FailedPrecondition

__all__ = ["archived", "run_diff"]

_CHUNK = 1 << 20
_KINDS = {
    stat.S_IFREG: b"0", stat.S_IFLNK: b"2", stat.S_IFCHR: b"3",
    stat.S_IFBLK: b"4", stat.S_IFDIR: b"5", stat.S_IFIFO: b"6",
}  # fmt: skip
_NS = 1_000_000_000


def run_diff(job: DiffJob, progress: Callable[[int], None]) -> DiffResult:
    """Do the job in this process; ``progress`` hears the bytes written so far."""
    upper = os.fsencode(job.upper)
    changes: Iterable[Change] = (
        in_upper(upper) if job.overlay else between(os.fsencode(job.lower), upper)
    )
    if job.mounted:
        stubs = Stubs(os.fsencode(job.lower), upper, job.mounted)
        changes = (one for one in changes if one.stat is None or not stubs.has(one.path))
    plain, packed = sha256(), sha256()
    sizes = [0, 0]
    channel: Channel[bytes] = Channel(8)

    def counted() -> Iterator[bytes]:
        for chunk in channel:
            plain.update(chunk)
            sizes[0] += len(chunk)
            yield chunk

    producer = Thread(
        target=_produce, args=(channel, archived(changes, upper, job.epoch)), daemon=True
    )
    producer.start()
    try:
        with open(job.output, "wb", buffering=0) as output:
            for chunk in compressed(counted(), job.compression):
                packed.update(chunk)
                _write(output.fileno(), chunk)
                sizes[1] += len(chunk)
                progress(sizes[1])
    finally:
        channel.abandon()
        producer.join()
    digests = [f"sha256:{digest.hexdigest()}" for digest in (packed, plain)]
    return DiffResult(digests[0], sizes[1], digests[1], sizes[0])


def _produce(channel: Channel[bytes], chunks: Iterator[bytes]) -> None:
    try:
        pending = bytearray()
        for chunk in chunks:
            pending += chunk
            if len(pending) >= _CHUNK:
                if not channel.put(bytes(pending)):
                    return
                pending.clear()
        channel.put(bytes(pending))
    except BaseException as error:
        channel.finish(error)
    else:
        channel.finish()


def _write(fd: int, chunk: bytes) -> None:
    data = memoryview(chunk)
    while data:
        data = data[os.write(fd, data) :]


def archived(changes: Iterable[Change], root: bytes, epoch: int | None) -> Iterator[bytes]:
    """The archive of ``changes`` under ``root``; sockets are left out, as tar(1) does."""
    names: dict[tuple[int, int], bytes] = {}
    for change in changes:
        there, path = change.stat, change.path
        if there is None:
            above, _, name = path.rpartition(b"/")
            yield _mark(joined(above, WHITEOUT + name), epoch)
            continue
        kind = _KINDS.get(stat.S_IFMT(there.st_mode))
        if kind is None:
            continue
        place = joined(root, path) if path else root
        key = (there.st_dev, there.st_ino)
        first = names.setdefault(key, path) if there.st_nlink > 1 and kind != b"5" else path
        if first != path:
            yield _header(path, b"1", there, epoch, link=first)
            continue
        link = os.readlink(place) if kind == b"2" else b""
        name = (path + b"/" if path else b"./") if kind == b"5" else path
        yield _header(name, kind, there, epoch, link=link, xattrs=xattrs_of(place))
        if kind == b"0":
            yield from _body(place, there)
        if change.opaque:
            yield _mark(joined(path, OPAQUE_NAME), epoch)
    yield bytes(2 * BLOCK)


def _body(place: bytes, there: os.stat_result) -> Iterator[bytes]:
    left = there.st_size
    with open(place, "rb", buffering=0) as file:
        while left and (chunk := file.read(min(left, _CHUNK))):
            left -= len(chunk)
            yield chunk
    if left:
        raise FailedPrecondition(f"file {shown(place)!r}: became shorter while it was archived")
    yield bytes(-there.st_size % BLOCK)


def _mark(path: bytes, epoch: int | None) -> bytes:
    return _packed(path, b"0", 0, (0, 0), 0, (epoch or 0) * _NS, b"", (0, 0), {})


def _header(
    path: bytes,
    kind: bytes,
    there: os.stat_result,
    epoch: int | None,
    *,
    link: bytes = b"",
    xattrs: dict[bytes, bytes] | None = None,
) -> bytes:
    mtime = there.st_mtime_ns if epoch is None else min(there.st_mtime_ns, epoch * _NS)
    device = (0, 0)
    if kind in b"34":
        device = (os.major(there.st_rdev), os.minor(there.st_rdev))
    size = there.st_size if kind == b"0" else 0
    return _packed(
        path, kind, stat.S_IMODE(there.st_mode), (there.st_uid, there.st_gid), size, mtime, link,
        device, xattrs or {},
    )  # fmt: skip


def _packed(
    path: bytes, kind: bytes, mode: int, owner: tuple[int, int], size: int, mtime: int,
    link: bytes, device: tuple[int, int], xattrs: dict[bytes, bytes],
) -> bytes:  # fmt: skip
    """A ustar header, with a PAX header before it for all that does not fit."""
    extra = {b"SCHILY.xattr." + name: value for name, value in sorted(xattrs.items())}
    if len(path) > 100:
        extra[b"path"] = path
    if len(link) > 100:
        extra[b"linkpath"] = link
    for key, number, bits in ((b"uid", owner[0], 21), (b"gid", owner[1], 21), (b"size", size, 33)):
        if number >> bits:
            extra[key] = b"%d" % number
    seconds, fraction = divmod(mtime, _NS)
    if fraction or not 0 <= seconds < 1 << 33:
        sign, value = (b"-", -mtime) if mtime < 0 else (b"", mtime)
        extra[b"mtime"] = b"%s%d.%09d" % (sign, value // _NS, value % _NS)
    head = b""
    if extra:
        records = b"".join(_record(key, value) for key, value in sorted(extra.items()))
        padded = records + bytes(-len(records) % BLOCK)
        head = _block(b"PaxHeaders/0", b"x", 0o644, (0, 0), len(records), 0, b"", (0, 0)) + padded
    return head + _block(path, kind, mode, owner, size, seconds, link, device)


def _block(
    path: bytes, kind: bytes, mode: int, owner: tuple[int, int], size: int, mtime: int,
    link: bytes, device: tuple[int, int],
) -> bytes:  # fmt: skip
    def octal(value: int, width: int) -> bytes:
        fits = 0 <= value < 1 << 3 * (width - 1)
        return b"%0*o\0" % (width - 1, value if fits else 0)  # PAX says it where it does not fit

    fields = b"".join((
        path[:100].ljust(100, b"\0"), octal(mode, 8), octal(owner[0], 8), octal(owner[1], 8),
        octal(size, 12), octal(mtime, 12), b" " * 8, kind, link[:100].ljust(100, b"\0"),
        b"ustar\x0000", bytes(64), octal(device[0], 8), octal(device[1], 8), bytes(167),
    ))  # fmt: skip
    return fields[:148] + b"%06o\0 " % sum(fields) + fields[156:]


def _record(key: bytes, value: bytes) -> bytes:
    """``length key=value\\n``, where the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)
