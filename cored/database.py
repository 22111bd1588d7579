"""SQLite with one writer thread and group commit: durable, and quick under many writers.

Writes from all tasks queue up for one thread, which runs each in a savepoint of a shared
transaction and commits them together (WAL, synchronous=FULL); a write's awaiter goes on when the
commit is on disk. Where all of them can do without (synchronous=NORMAL), a power cut may forget
the last commits, but never one before another: https://www.sqlite.org/pragma.html#pragma_synchronous
Reads go straight to a connection of the calling thread's.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cored.errors import CoredError, FailedPrecondition, Internal, ResourceExhausted

__all__ = ["Database"]

T = TypeVar("T")
_BATCH = 256


@dataclass(slots=True)
class _Write:
    work: Callable[[sqlite3.Connection], Any]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[Any]
    durable: bool
    result: Any = None
    error: BaseException | None = None

    def settle(self) -> None:
        """Hand the outcome to the awaiter, unless it has gone away."""
        if self.done.done():
            return
        if self.error is not None:
            self.done.set_exception(self.error)
        else:
            self.done.set_result(self.result)


class Database:
    """One SQLite file. ``migrations[i]`` is the script that leads from schema i to i + 1."""

    def __init__(self, path: Path, migrations: Sequence[str]) -> None:
        self._path = path
        self._migrations = migrations
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"db:{path.name}", daemon=True)
        self._writer: sqlite3.Connection
        self._reader: sqlite3.Connection

    @classmethod
    @asynccontextmanager
    async def opened(cls, path: Path, migrations: Sequence[str]) -> AsyncIterator[Database]:
        """Open the file, bring its schema up to date, and close it at the end."""
        database = cls(path, migrations)
        await asyncio.to_thread(database._open)
        try:
            yield database
        finally:
            await asyncio.to_thread(database._close)

    async def write(self, work: Callable[[sqlite3.Connection], T], *, durable: bool = True) -> T:
        """Run ``work`` in a transaction and return when it is durable.

        Not ``durable``: when all see it; a power cut may forget it, and all writes after it that
        are not durable either. The daemon's death forgets neither.

        ``work`` runs in the writer thread and must touch nothing but the connection; what it
        raises undoes what it did, and nothing of its neighbours.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._queue.put(_Write(work, loop, done, durable))
        return await done

    @property
    def read(self) -> sqlite3.Connection:
        """A read-only connection for short queries on the event loop's thread."""
        return self._reader

    def _connect(self, *, readonly: bool) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, timeout=30
        )
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        if readonly:
            connection.execute("PRAGMA query_only = ON")
        return connection

    def _open(self) -> None:
        try:
            self._writer = self._connect(readonly=False)
            self._writer.execute("PRAGMA journal_mode = WAL")
            self._migrate()
            self._reader = self._connect(readonly=True)
        except sqlite3.DatabaseError as error:
            raise Internal(
                f"metadata store {self._path}: {error}",
                hint="if the file is damaged, move it and its -wal away and start again",
            ) from error
        self._thread.start()

    def _migrate(self) -> None:
        (version,) = self._writer.execute("PRAGMA user_version").fetchone()
        if version > len(self._migrations):
            raise FailedPrecondition(
                f"metadata store {self._path}: schema {version} is newer than this cored knows",
                hint="use the cored that wrote it, or a newer one",
            )
        for number in range(version, len(self._migrations)):
            self._writer.executescript(
                f"BEGIN IMMEDIATE;\n{self._migrations[number]}\n"
                f"PRAGMA user_version = {number + 1};\nCOMMIT;"
            )

    def _close(self) -> None:
        self._queue.put(None)
        self._thread.join()
        self._reader.close()
        self._writer.close()

    def _run(self) -> None:
        closing = False
        while not closing:
            first = self._queue.get()
            if first is None:
                return
            batch = [first]
            while len(batch) < _BATCH and not self._queue.empty():
                item = self._queue.get_nowait()
                if item is None:
                    closing = True
                    break
                batch.append(item)
            self._commit(batch)
            for write in batch:
                try:
                    write.loop.call_soon_threadsafe(write.settle)
                except RuntimeError:  # the loop has closed: nobody waits for the answer
                    continue

    def _commit(self, batch: list[_Write]) -> None:
        level = "FULL" if any(write.durable for write in batch) else "NORMAL"
        try:
            self._writer.execute(f"PRAGMA synchronous = {level}")
            self._writer.execute("BEGIN IMMEDIATE")
            for write in batch:
                self._one(write)
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            for write in batch:
                write.error = _translated(self._path, error)

    def _one(self, write: _Write) -> None:
        self._writer.execute("SAVEPOINT request")
        try:
            write.result = write.work(self._writer)
        except Exception as error:
            self._writer.execute("ROLLBACK TO request")
            write.error = error
        self._writer.execute("RELEASE request")


def _translated(path: Path, error: sqlite3.Error) -> CoredError:
    if getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":
        return ResourceExhausted(f"metadata store {path}: no space left on the filesystem")
    return Internal(f"metadata store {path}: {error}")
