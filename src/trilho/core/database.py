"""SQLite, opened the one way that survives: several processes, kill -9 at any point, a full disk.

Write-ahead logging lets readers go on while one writes; `BEGIN IMMEDIATE` takes the write lock before anything is
read, since a transaction that reads first and upgrades later loses writes. A connection is shared by the threads of
a process behind a lock, opened late, and opened again after a fork or when the file was replaced.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from trilho.errors import TrilhoError, Unreachable

PATIENCE_SECONDS = 30.0
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
T = TypeVar("T")


class Database:
    """One SQLite file and its schema.

    `schema` holds statements that may run again ("IF NOT EXISTS"); `version` goes into the file, and a file of a
    newer version is refused. `error` is the class that carries what went wrong, `what` the file's name in its text.
    """

    def __init__(
        self,
        path: Path,
        schema: str,
        *,
        what: str,
        error: type[TrilhoError] = TrilhoError,
        version: int = 1,
        durable: bool = True,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self.path = path
        self._schema, self._what, self._error, self._version = schema, what, error, version
        self._durable, self._patience = durable, patience
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._opened_as: tuple[int, int, int] | None = None

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Hold the write lock for a block: all of its changes are kept when it ends well, none otherwise.

        Raises Unreachable when another process keeps the lock for longer than the patience.
        """
        with self._lock, self._explained():
            connection = self._patiently(self._begin)
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def read(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """Give a query's rows; none when the file does not exist, and the file is not made for it."""
        with self._lock, self._explained():
            if self._connection is None and not self.path.exists():
                return []
            return self._patiently(lambda: self._open().execute(query, values).fetchall())

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Hold one unchanging view of the file for a block of several queries."""
        with self._lock, self._explained():
            connection = self._patiently(self._open)
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
        with self._lock:
            if self._connection is not None and self._opened_as is not None and self._opened_as[0] == os.getpid():
                self._connection.close()
            self._connection = None

    def _begin(self) -> sqlite3.Connection:
        connection = self._open()
        connection.execute("BEGIN IMMEDIATE")
        return connection

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and self._opened_as == self._identity():
            return self._connection
        self.close()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._error(f"{self.path}: {self._what}: {error.strerror}", hint="check the folder") from error
        connection = sqlite3.connect(
            self.path, timeout=min(1.0, self._patience), isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        self._connection, self._opened_as = connection, self._identity()
        return connection

    def _identity(self) -> tuple[int, int, int]:
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return os.getpid(), 0, 0
        return os.getpid(), stat.st_dev, stat.st_ino

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA synchronous={'FULL' if self._durable else 'NORMAL'}")
        connection.execute(f"PRAGMA fullfsync={int(self._durable)}")  # macOS: fsync alone does not reach the disk
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found == self._version:
            return
        if found > self._version:
            raise self._error(
                f"{self.path}: {self._what} of schema {found}; this trilho reads up to {self._version}",
                hint="a newer trilho wrote it: upgrade this one",
            )
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(f"BEGIN IMMEDIATE; {self._schema}; PRAGMA user_version={self._version}; COMMIT;")

    def _patiently(self, act: Callable[[], T]) -> T:
        """Try again while another process holds the lock; SQLite's own timeout does not cover every way to be busy."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return act()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in BUSY:
                    raise
                if time.monotonic() > deadline:
                    raise Unreachable(
                        f"{self.path}: another process has held {self._what} for {self._patience:g} seconds",
                        hint="try again; fuser or lsof names the process",
                    ) from None
            time.sleep(0.005)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._explain(error) from error

    def _explain(self, error: sqlite3.Error) -> TrilhoError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        why, hint = {
            sqlite3.SQLITE_FULL: (
                "the disk is full",
                "free some space and repeat the command; nothing was half-written",
            ),
            sqlite3.SQLITE_IOERR: (
                "the disk does not take it",
                "look for a full or failing disk; nothing was half-written",
            ),
            sqlite3.SQLITE_READONLY: ("it is read-only", "make the file and its folder writable"),
            sqlite3.SQLITE_CANTOPEN: ("it cannot be opened", "make its folder writable, or free some space"),
            sqlite3.SQLITE_NOTADB: ("the file is not a SQLite database", "restore a backup of it"),
            sqlite3.SQLITE_CORRUPT: ("the file is damaged", "restore a backup of it"),
        }.get(code, (str(error), "trilho journal verify, or restore a backup"))
        return self._error(f"{self.path}: {self._what}: {why}", hint=hint)
