"""The journal under several writers, kill -9, a full disk, and everything else that happens to a file."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from trilho.backends.local.journal import LocalJournal, StateReader
from trilho.core.journal import GENESIS, Head
from trilho.core.ports import Conflict
from trilho.core.records import AlertSent, VersionPackaged
from trilho.errors import JournalError, Unreachable

WRITER = """
import sys
from pathlib import Path
from trilho.backends.local.journal import LocalJournal
from trilho.core.records import AlertSent
journal = LocalJournal(Path(sys.argv[1]))
for n in range(int(sys.argv[3])):
    names = (f"{sys.argv[2]}.{n}.{half}" for half in "ab")
    journal.append(*(AlertSent(model="m", alert=name, incident="i", channel="c", attempts=1) for name in names))
    print(n, flush=True)
"""


def alert(name: str) -> AlertSent:
    return AlertSent(model="m", alert=name, incident="i", channel="slack", attempts=1)


def packaged(number: int) -> VersionPackaged:
    return VersionPackaged(
        model="m",
        version=number,
        run="r",
        dataset="d",
        package="p",
        metric="mae",
        metrics={},
        commit=None,
        commit_time=None,
        data_until=None,
    )


def writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def journal(tmp_path: Path) -> LocalJournal:
    return LocalJournal(tmp_path / "home" / "journal.sqlite")


def test_reading_a_journal_that_does_not_exist_makes_none(journal: LocalJournal) -> None:
    assert journal.head() == Head(0, GENESIS)
    assert list(journal.read_from()) == []
    assert journal.verify().problem is None
    assert not journal.path.parent.exists()


def test_what_was_appended_is_read_in_order(journal: LocalJournal) -> None:
    first, second = journal.append(alert("a"), alert("b"), actor="ana")
    (third,) = journal.append(alert("c"))
    assert [x.seq for x in (first, second, third)] == [1, 2, 3]
    assert second.previous == first.hash
    assert list(journal.read_from()) == [first, second, third]
    assert list(journal.read_from(3)) == [third]
    assert journal.head() == Head(3, third.hash)
    assert first.actor == "ana"
    assert journal.verify(journal.head()).tail_proven


def test_reading_pages_through_a_long_journal(journal: LocalJournal) -> None:
    journal.append(*(alert(str(n)) for n in range(2500)))
    assert [x.seq for x in journal.read_from(2)] == list(range(2, 2501))


def test_an_append_that_expects_another_head_writes_nothing(journal: LocalJournal) -> None:
    journal.append(alert("a"), expect=0)
    with pytest.raises(Conflict):
        journal.append(alert("b"), expect=0)
    assert journal.head().seq == 1
    journal.append(alert("b"), expect=1)


def test_a_failing_append_writes_nothing(journal: LocalJournal) -> None:
    journal.append(alert("a"))
    with pytest.raises(ValueError, match="JSON compliant"):
        journal.append(alert("b"), AlertSent(model="m", alert="c", incident="i", channel="c", attempts=float("nan")))  # type: ignore[arg-type]
    assert journal.head().seq == 1
    assert journal.append(alert("b"))[0].seq == 2


def test_writers_of_several_processes_lose_nothing(journal: LocalJournal) -> None:
    writers = [writer(journal.path, f"w{n}", 40) for n in range(4)]
    for process in writers:
        assert process.wait(60) == 0
        assert process.stdout is not None
        process.stdout.close()
    names = [x.data["alert"] for x in journal.read_from()]
    assert Counter(names) == Counter(f"w{w}.{n}.{half}" for w in range(4) for n in range(40) for half in "ab")
    assert journal.verify().problem is None
    for at in range(0, len(names), 2):  # a pair is one transaction: nobody gets in between
        assert names[at].removesuffix("a") == names[at + 1].removesuffix("b")


def test_threads_share_a_journal(journal: LocalJournal) -> None:
    threads = [
        threading.Thread(target=lambda n=n: [journal.append(alert(f"{n}.{i}")) for i in range(20)]) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert journal.head().seq == 80
    assert journal.verify().problem is None


def test_killed_writers_leave_whole_transactions(journal: LocalJournal) -> None:
    chance = random.Random(7)
    told: list[str] = []
    for attempt in range(12):
        process = writer(journal.path, f"k{attempt}", 10_000)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.random() * 0.05)  # a random point of a random transaction
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        lines = process.stdout.read().split()
        process.stdout.close()
        told += [f"k{attempt}.{n}.{half}" for n in ["0", *lines[:-1]] for half in "ab"]  # the last may be cut
        assert journal.verify().problem is None
    names = {x.data["alert"] for x in journal.read_from()}
    assert set(told) <= names  # what was told to be appended is there
    assert len(names) % 2 == 0
    journal.append(alert("after"))


def test_a_lock_that_stays_taken_is_unreachable(journal: LocalJournal) -> None:
    journal.append(alert("a"))
    other = sqlite3.connect(journal.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unreachable) as caught:
        LocalJournal(journal.path, patience=0.1).append(alert("b"))
    assert "has held the journal for 0.1 seconds" in caught.value.fact
    assert [x.seq for x in journal.read_from()] == [1]  # readers go on meanwhile
    other.close()


def _tamper(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("statements", "problem"),
    [
        (["UPDATE records SET text = replace(text, 'x3', 'y3') WHERE seq = 3"], "record 3 was changed"),
        (["DELETE FROM records WHERE seq = 2"], "record 2 is missing"),
        (["UPDATE records SET seq = -seq WHERE seq = 1"], "record 1 is missing"),
        (
            [
                "UPDATE records SET seq = 90 WHERE seq = 3",
                "UPDATE records SET seq = 3 WHERE seq = 4",
                "UPDATE records SET seq = 4 WHERE seq = 90",
            ],
            "record 3 does not follow record 2",
        ),
    ],
)
def test_tampering_with_the_file_is_found(journal: LocalJournal, statements: list[str], problem: str) -> None:
    journal.append(*(alert(f"x{n}") for n in range(1, 6)))
    _tamper(journal.path, *statements)
    found = journal.verify().problem
    assert found is not None
    assert found.startswith(problem)


def test_a_cut_tail_is_found_with_an_anchor(journal: LocalJournal) -> None:
    journal.append(*(alert(f"x{n}") for n in range(1, 6)))
    anchor = journal.head()
    _tamper(journal.path, "DELETE FROM records WHERE seq > 3")
    assert journal.verify().problem is None
    assert not journal.verify().tail_proven
    assert journal.verify(anchor).problem == "the tail was cut: 3 records, anchored at 5"


def test_an_unreadable_record_is_named(journal: LocalJournal) -> None:
    journal.append(alert("a"), alert("b"))
    _tamper(journal.path, "UPDATE records SET text = '{' WHERE seq = 2")
    with pytest.raises(JournalError, match="record 2 cannot be read"):
        list(journal.read_from())


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_text("not a database, but long enough to be looked at as one" * 20)
    with pytest.raises(JournalError) as caught:
        LocalJournal(path).append(alert("a"))
    assert caught.value.fact == f"{path}: the journal: the file is not a SQLite database"
    assert path.read_text().startswith("not a database")


def test_a_newer_schema_is_refused(journal: LocalJournal) -> None:
    journal.append(alert("a"))
    journal.close()
    _tamper(journal.path, "PRAGMA user_version = 7")
    with pytest.raises(JournalError, match="schema 7; this trilho reads up to 1"):
        journal.head()


def test_a_full_disk_leaves_the_journal_whole(journal: LocalJournal) -> None:
    journal.append(alert("a"))
    script = """
import resource, sys
from pathlib import Path
from trilho.backends.local.journal import LocalJournal
from trilho.core.records import AlertSent
from trilho.errors import JournalError
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
journal = LocalJournal(Path(sys.argv[1]))
try:
    for n in range(10_000):
        journal.append(AlertSent(model="m", alert="x" * 2000, incident="i", channel="c", attempts=1))
except JournalError as error:
    print(n, error)
"""
    done = subprocess.run([sys.executable, "-c", script, str(journal.path)], capture_output=True, text=True, check=True)
    appended, said = done.stdout.split(" ", 1)
    assert said.count("\n") == 2
    assert "the journal: the disk" in said
    assert journal.head().seq == 1 + int(appended) > 10
    assert journal.verify().problem is None
    journal.append(alert("there is room again"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes to read-only folders")
def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o500)
    with pytest.raises(JournalError, match="cannot be opened"):
        LocalJournal(tmp_path / "home" / "journal.sqlite").append(alert("a"))


def test_a_backup_is_one_file_and_restores(journal: LocalJournal, tmp_path: Path) -> None:
    journal.append(alert("a"), alert("b"))
    head = journal.backup(tmp_path / "out" / "backup.sqlite")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["backup.sqlite"]
    journal.append(alert("c"))
    other = LocalJournal(journal.path)  # a process that has it open
    assert other.head().seq == 3
    assert journal.restore(tmp_path / "out" / "backup.sqlite") == head
    assert other.head() == head
    assert other.append(alert("d"))[0].seq == 3
    (kept,) = journal.path.parent.glob("*.before-restore-*")
    assert LocalJournal(kept).head().seq == 3


def test_a_restore_replaces_a_damaged_journal(journal: LocalJournal, tmp_path: Path) -> None:
    journal.append(alert("a"), alert("b"))
    backup = tmp_path / "backup.sqlite"
    head = journal.backup(backup)
    journal.close()
    journal.path.write_bytes(b"garbage" * 1000)
    assert journal.restore(backup) == head
    assert journal.verify(head).tail_proven
    (kept,) = journal.path.parent.glob("*.before-restore-*")
    assert kept.read_bytes().startswith(b"garbage")


def test_a_restore_on_a_new_machine(journal: LocalJournal, tmp_path: Path) -> None:
    journal.append(alert("a"))
    head = journal.backup(tmp_path / "backup.sqlite")
    assert LocalJournal(tmp_path / "new" / "journal.sqlite").restore(tmp_path / "backup.sqlite") == head


@pytest.mark.parametrize("content", ["empty", "foreign", "tampered", "missing"])
def test_a_wrong_backup_changes_nothing(journal: LocalJournal, tmp_path: Path, content: str) -> None:
    journal.append(alert("a"), alert("b"))
    backup = tmp_path / "backup.sqlite"
    if content == "tampered":
        journal.backup(backup)
        _tamper(backup, "UPDATE records SET text = text || ' ' WHERE seq = 1")
    elif content == "foreign":
        _tamper(backup, "CREATE TABLE other (x)")
    elif content == "empty":
        backup.touch()
    with pytest.raises(JournalError) as caught:
        journal.restore(backup)
    assert str(backup) in caught.value.fact
    assert journal.head().seq == 2


def test_a_backup_of_nothing_is_refused(journal: LocalJournal, tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="no journal yet"):
        journal.backup(tmp_path / "backup.sqlite")


def test_a_journal_that_was_removed_begins_anew(journal: LocalJournal) -> None:
    journal.append(alert("a"))
    shutil.rmtree(journal.path.parent)
    assert journal.append(alert("b"))[0].seq == 1


def test_a_state_is_read_on_and_never_changed_once_given(journal: LocalJournal) -> None:
    reader = StateReader(journal)
    assert reader.state().models == {}
    journal.append(packaged(1))
    before = reader.state()
    journal.append(packaged(2))
    after = reader.state()
    assert list(before.model("m").versions) == [1]
    assert list(after.model("m").versions) == [1, 2]
    assert after.model("m").versions[1] is before.model("m").versions[1]  # a record costs no copy of what was before
    assert reader.state() is after
    assert after == StateReader(journal).state()


def test_a_state_follows_a_restore(journal: LocalJournal, tmp_path: Path) -> None:
    reader = StateReader(journal)
    journal.append(packaged(1))
    journal.backup(tmp_path / "backup.sqlite")
    journal.append(packaged(2), packaged(3))
    assert list(reader.model("m").versions) == [1, 2, 3]
    journal.restore(tmp_path / "backup.sqlite")
    assert list(reader.model("m").versions) == [1]
    journal.append(packaged(4), packaged(5))  # as long as before, with another content
    assert list(reader.model("m").versions) == [1, 4, 5]
