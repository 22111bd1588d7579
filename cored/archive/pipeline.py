"""A layer job: fetch and hash, inflate and hash, extract, each in a thread of its own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from hashlib import sha256
from threading import Thread

from cored.archive.channel import Channel
from cored.archive.compression import inflated
from cored.archive.extract import Extractor
from cored.archive.fetch import Fetcher
from cored.archive.fixups import apply_fixups
from cored.archive.jobs import Fixups, LayerJob, LayerResult, Limits
from cored.archive.stream import Stream
from cored.archive.tar import TarReader
from cored.errors import FailedPrecondition, InvalidArgument

__all__ = ["run_layer"]

_DEPTH = 4  # chunks of 128 KiB, compressed and inflated


class _Arrival:
    """The fetch thread: bytes come in, are counted and hashed, and go on to whoever still reads."""

    def __init__(self, job: LayerJob, progress: Callable[[int], None], fetcher: Fetcher) -> None:
        self._job = job
        self._fetcher = fetcher
        self._progress = progress
        self._hash = hashlib.new(job.digest.partition(":")[0])
        self.size = 0
        self.channel: Channel[bytes] = Channel(_DEPTH)
        self._thread = Thread(target=self._run, name="fetch", daemon=True)
        self._error: BaseException | None = None
        self._thread.start()

    def _run(self) -> None:
        job, wanted = self._job, True
        try:
            for chunk in self._fetcher.fetched(job.source, job.size, f"layer {job.digest}"):
                self._hash.update(chunk)
                self.size += len(chunk)
                self._progress(self.size)
                # a consumer that failed is no reason to stop: its cause may be in the digest
                wanted = wanted and self.channel.put(chunk)
        except BaseException as error:
            self._error = error
            self.channel.finish(error)
        else:
            self.channel.finish()

    def verified(self) -> str:
        """Wait for the end and answer the digest; FailedPrecondition when it is not the job's."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        digest = f"{self._hash.name}:{self._hash.hexdigest()}"
        if digest != self._job.digest:
            raise FailedPrecondition(
                f"layer {self._job.digest}: digest mismatch: the data is {digest}",
                hint="damaged or altered on the way; try again",
            )
        return digest


class _Inflation:
    """The inflating thread: from compressed chunks to a counted and hashed tar stream."""

    def __init__(self, arrival: _Arrival, limits: Limits) -> None:
        self._arrival = arrival
        self._limits = limits
        self._hash = sha256()
        self.size = 0
        self.channel: Channel[bytes | memoryview] = Channel(_DEPTH)
        self._thread = Thread(target=self._run, name="inflate", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            for chunk in inflated(iter(self._arrival.channel), _DEPTH):
                self.size += len(chunk)
                self._check()
                self._hash.update(chunk)
                if not self.channel.put(chunk):
                    break
        except BaseException as caught:
            error = caught
        self._arrival.channel.abandon()
        self.channel.finish(error)

    def _check(self) -> None:
        limits = self._limits
        if limits.size and self.size > limits.size:
            raise InvalidArgument(f"layer: more than {limits.size} bytes uncompressed")
        beyond = self.size - limits.grace
        if limits.ratio and beyond > 0 and beyond > self._arrival.size * limits.ratio:
            raise InvalidArgument(
                f"layer: {self.size} bytes out of {self._arrival.size}: taken for a bomb",
                hint="raise the limit if it is meant to be so",
            )

    def finished(self) -> str:
        """Stop reading, wait for the end and answer the digest of what was read."""
        self.channel.abandon()
        self._thread.join()
        return f"sha256:{self._hash.hexdigest()}"


def run_layer(job: LayerJob, progress: Callable[[int], None], fetcher: Fetcher) -> LayerResult:
    """Do the job in this process; ``progress`` is called by another thread with bytes so far."""
    arrival = _Arrival(job, progress, fetcher)
    if not job.target:
        arrival.channel.abandon()
        digest = arrival.verified()
        return LayerResult(digest, arrival.size, "", 0)
    inflation = _Inflation(arrival, job.limits)
    try:
        fixups = _extracted(job, iter(inflation.channel))
    except InvalidArgument as error:
        inflation.finished()
        arrival.channel.abandon()
        arrival.verified()  # a damaged blob is the better explanation
        raise InvalidArgument(f"layer {job.digest}: {error.message}", hint=error.hint) from error
    diff_id = inflation.finished()
    digest = arrival.verified()
    if job.diff_id and diff_id != job.diff_id:
        raise FailedPrecondition(
            f"layer {job.digest}: diff id mismatch: the tar is {diff_id}, "
            f"the image's config says {job.diff_id}"
        )
    if job.lowers is not None and job.overlay:
        apply_fixups(fixups, job.target, job.lowers)
        fixups = Fixups()
    if job.sync:
        _flush(job.target)
    return LayerResult(digest, arrival.size, diff_id, inflation.size, fixups)


def _extracted(job: LayerJob, chunks: Iterator[bytes | memoryview]) -> Fixups:
    stream = Stream(chunks)
    with Extractor(job.target, overlay=job.overlay, most_entries=job.limits.entries) as extractor:
        fixups = extractor.extract(TarReader(stream))
    stream.drain()
    return fixups


def _flush(target: str) -> None:
    from cored.linux import syncfs

    fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syncfs(fd)
    finally:
        os.close(fd)
