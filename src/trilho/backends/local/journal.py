"""The journal on one machine: a SQLite file, one appender at a time, any number of readers.

Every append is one transaction that reaches the disk before it returns. Each record's text is stored as it was
hashed; nothing is ever changed in place.
"""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from trilho.core.database import PATIENCE_SECONDS, Database
from trilho.core.journal import GENESIS, Head, Proof, Record, now, seal, unseal, verify, whoami
from trilho.core.ports import Conflict, Journal
from trilho.core.projection import ModelState, State, fold
from trilho.core.records import Payload
from trilho.errors import JournalError

SCHEMA = "CREATE TABLE IF NOT EXISTS records (seq INTEGER PRIMARY KEY, text TEXT NOT NULL, hash TEXT NOT NULL)"
PAGE = 1000


class LocalJournal:
    """The Journal port on a SQLite file, which the first append makes."""

    def __init__(self, path: Path, *, patience: float = PATIENCE_SECONDS) -> None:
        self.path = path
        self._database = Database(path, SCHEMA, what="the journal", error=JournalError, patience=patience)

    def append(self, *payloads: Payload, actor: str | None = None, expect: int | None = None) -> Sequence[Record]:
        """Add the payloads in one transaction, all or none, and give them back as records.

        Raises Conflict when `expect` is given and the head is elsewhere, Unreachable when the lock stays taken.
        """
        actor = actor or whoami()
        with self._database.write() as connection:
            head = _head(connection.execute(NEWEST).fetchall())
            if expect is not None and head.seq != expect:
                raise Conflict(f"the journal's head is {head.seq}, expected {expect}")
            sealed = []
            for payload in payloads:
                text, hash_ = seal(payload, previous=head.hash, actor=actor, time=now())
                head = Head(head.seq + 1, hash_)
                sealed.append((head.seq, text, hash_))
            connection.executemany("INSERT INTO records VALUES (?, ?, ?)", sealed)
        return [unseal(*row) for row in sealed]

    def read_from(self, seq: int = 1) -> Iterator[Record]:
        """Give the records from a position on, in order. Raises JournalError for one that cannot be read."""
        for row in self.rows(seq):
            try:
                yield unseal(*row)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise JournalError(
                    f"{self.path}: record {row[0]} cannot be read: {type(error).__name__}: {error}",
                    hint="trilho journal verify",
                ) from error

    def head(self) -> Head:
        """Give the newest record's position and hash."""
        return _head(self._database.read(NEWEST))

    def rows(self, seq: int = 1) -> Iterator[tuple[int, str, str]]:
        """Give what is stored, (seq, text, hash), from a position on, in order."""
        while True:
            page = self._database.read(
                "SELECT seq, text, hash FROM records WHERE seq >= ? ORDER BY seq LIMIT ?", (seq, PAGE)
            )
            yield from page
            if len(page) < PAGE:
                return
            seq = page[-1][0] + 1

    def verify(self, anchor: Head | None = None) -> Proof:
        """Walk the chain and say what, if anything, is broken."""
        return verify(self.rows(-(2**62)), anchor)

    def backup(self, to: Path) -> Head:
        """Write a copy that is one file and give the head it ends at; an older copy there is replaced at once."""
        if not self.path.exists():
            raise JournalError(f"{self.path}: there is no journal yet", hint="trilho train writes the first records")
        if to.is_dir() or (to.exists() and to.samefile(self.path)):
            raise JournalError(f"{to}: a backup is a file other than the journal", hint="name a file")
        to.parent.mkdir(parents=True, exist_ok=True)
        partial = to.with_name(f".{to.name}.partial")
        partial.unlink(missing_ok=True)
        try:
            with self._database.snapshot() as connection:
                _copy(connection, partial)
            head = _proven(partial).head
            partial.replace(to)
        finally:
            partial.unlink(missing_ok=True)
        return head

    def restore(self, source: Path) -> Head:
        """Put a backup in the journal's place and give its head.

        The backup is verified first. What it replaces is kept beside the journal as `NAME.before-restore-TIME`, since
        a restore cannot be told from a cut tail later. Processes that have the journal open go on with the new one.
        """
        proof = _proven(source)
        kept = self.path.with_name(f"{self.path.name}.before-restore-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}")
        if self.path.exists():
            try:
                self.backup(kept)
            except JournalError:  # damaged: no transaction can be trusted to it, so that the file itself gives way
                self._replace(source, kept)
                return proof.head
        with self._database.write() as connection:
            connection.execute("DELETE FROM records")
            connection.executemany("INSERT INTO records VALUES (?, ?, ?)", _stored(source))
        return proof.head

    def _replace(self, source: Path, kept: Path) -> None:
        fresh = self.path.with_name(f"{self.path.name}.restoring")
        shutil.copyfile(source, fresh)
        self._database.close()
        for suffix in ("", "-wal", "-shm"):
            part = self.path.with_name(self.path.name + suffix)
            if part.exists():
                part.replace(kept.with_name(kept.name + suffix))
        fresh.replace(self.path)

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        self._database.close()


NEWEST = "SELECT seq, hash FROM records ORDER BY seq DESC LIMIT 1"


def _head(newest: list[tuple[int, str]]) -> Head:
    return Head(*newest[0]) if newest else Head(0, GENESIS)


def _copy(source: sqlite3.Connection, to: Path) -> None:
    target = sqlite3.connect(to, isolation_level=None)
    try:
        source.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")  # one file, nothing beside it
    finally:
        target.close()


def _stored(path: Path) -> Iterator[tuple[int, str, str]]:
    """Give the rows of a backup without writing to it, not even a lock."""
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        yield from connection.execute("SELECT seq, text, hash FROM records ORDER BY seq")
    finally:
        connection.close()


def _proven(path: Path) -> Proof:
    hint = "choose another backup; nothing was changed"
    if not path.is_file():
        raise JournalError(f"{path}: no such backup", hint="trilho journal backup FILE writes one")
    try:
        proof = verify(_stored(path))
    except sqlite3.Error as error:
        raise JournalError(f"{path} is not a journal: {error}", hint=hint) from error
    if proof.problem or not proof.records:
        raise JournalError(f"{path}: {proof.problem or 'it holds no records'}", hint=hint)
    return proof


class StateReader:
    """The journal's projection, kept and folded on from where it was; safe to share between threads."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._lock = threading.Lock()
        self._state = State()
        self._head = Head(0, GENESIS)

    def state(self) -> State:
        """Give the state at the journal's head. What was given before is never changed."""
        with self._lock:
            head = self._journal.head()
            if head == self._head:
                return self._state
            records = list(self._journal.read_from(max(self._head.seq, 1)))
            if self._head.seq and (not records or records[0].hash != self._head.hash):  # restored meanwhile
                self._state, records = State(), list(self._journal.read_from())
            elif self._head.seq:
                records = records[1:]
            if records:
                self._state = fold(records, _unshared(self._state, {x.payload.model for x in records if x.payload}))
                self._head = Head(records[-1].seq, records[-1].hash)
            return self._state

    def model(self, name: str) -> ModelState:
        """Give one model's state at the journal's head."""
        return self.state().model(name)


def _unshared(state: State, changing: set[str]) -> State:
    """Copy what a fold is about to change in place, so that a thread still reading the old state is left alone."""
    models = {name: model.copy() if name in changing else model for name, model in state.models.items()}
    return replace(state, models=models)
