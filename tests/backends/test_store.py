"""The artifact store: whole artifacts or nothing, whoever else is at it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from trilho.backends.local import store as local_store
from trilho.backends.local.store import LocalStore
from trilho.core.digest import digest_path
from trilho.errors import DataError

PUTTER = """
import sys
from pathlib import Path
from trilho.backends.local.store import LocalStore
print("up", flush=True)
while True:
    print(LocalStore(Path(sys.argv[1])).put(Path(sys.argv[2])), flush=True)
"""


def folder(path: Path, files: int = 3, size: int = 1000) -> Path:
    (path / "code").mkdir(parents=True)
    for n in range(files):
        (path / "code" / f"{n}.bin").write_bytes(bytes([n % 256]) * size)
    return path


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def test_a_file_is_kept_under_its_digest(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    digest = store.put(tmp_path / "a.txt")
    assert digest == digest_path(tmp_path / "a.txt")
    assert store.path(digest) == store.root / digest[:2] / digest
    assert store.path(digest).read_text() == "hello"
    assert store.has(digest)
    assert not store.has("0" * 64)


def test_a_folder_is_kept_under_its_digest(store: LocalStore, tmp_path: Path) -> None:
    source = folder(tmp_path / "package")
    digest = store.put(source)
    assert digest_path(store.path(digest)) == digest == digest_path(source)
    assert store.put(source) == digest
    assert list((store.root / "partial").iterdir()) == []


def test_what_is_missing_is_named(store: LocalStore, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="artifact 000000000000 is not in"):
        store.path("0" * 64)
    with pytest.raises(DataError, match="no such file or folder"):
        store.put(tmp_path / "absent")


def _put(root: Path, source: Path) -> str:
    return LocalStore(root).put(source)


def test_two_at_once_keep_one_artifact(store: LocalStore, tmp_path: Path) -> None:
    source = folder(tmp_path / "package", files=20)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        digests = pool.starmap(_put, [(store.root, source)] * 8)
    assert set(digests) == {digest_path(source)}
    assert store.damaged() == []
    assert list((store.root / "partial").iterdir()) == []


def test_a_killed_put_leaves_nothing_half(store: LocalStore, tmp_path: Path) -> None:
    for attempt in range(6):
        source = folder(tmp_path / f"package{attempt}", files=40, size=20_000 + attempt)
        process = subprocess.Popen(
            [sys.executable, "-c", PUTTER, str(store.root), str(source)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.003 * attempt)  # a different point each time
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        process.stdout.close()
        assert store.damaged() == []
        assert store.put(source) == digest_path(source)
    store.gc(set(), dry_run=False)
    assert list((store.root / "partial").iterdir()) == []


def test_damage_is_found_and_mended(store: LocalStore, tmp_path: Path) -> None:
    source = folder(tmp_path / "package")
    digest = store.put(source)
    (store.path(digest) / "code" / "1.bin").write_bytes(b"other")
    assert store.damaged() == [digest]
    assert store.put(source) == digest
    assert store.damaged() == []


def test_collection_says_first_and_then_frees(store: LocalStore, tmp_path: Path) -> None:
    digests = []
    for name, size in (("a", 10), ("b", 20), ("c", 30)):
        (tmp_path / name).write_bytes(name.encode() * size)
        digests.append(store.put(tmp_path / name))
    a, b, c = digests
    said = store.gc({b}, dry_run=True)
    assert sorted(said) == sorted([(a, 10), (c, 30)])
    assert all(store.has(digest) for digest in digests)
    assert store.gc({b}, dry_run=False) == said
    assert [store.has(digest) for digest in digests] == [False, True, False]
    assert store.gc({b}, dry_run=False) == []


def test_collection_spares_what_is_young(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    digest = store.put(tmp_path / "a")
    os.utime(store.path(digest), (time.time() - 7200, time.time() - 7200))
    assert store.gc(set(), dry_run=True, spare=timedelta(hours=1)) == [(digest, 1)]
    store.put(tmp_path / "a")  # in use again
    assert store.gc(set(), dry_run=True, spare=timedelta(hours=1)) == []


def test_collection_spares_what_is_used_while_it_looks(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = []
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
        digests.append(store.put(tmp_path / name))
        os.utime(store.path(digests[-1]), (time.time() - 7200, time.time() - 7200))
    measure = local_store._size

    def measured(place: Path) -> int:
        store.use(digests[0])  # by a run that finds it finished, after the collection chose it
        return measure(place)

    monkeypatch.setattr(local_store, "_size", measured)
    assert store.gc(set(), dry_run=False, spare=timedelta(hours=1)) == [(digests[1], 1)]
    assert [store.use(digest) for digest in digests] == [True, False]


def test_the_copy_of_an_old_folder_is_young(store: LocalStore, tmp_path: Path) -> None:
    source = folder(tmp_path / "package")
    os.utime(source, (time.time() - 7200, time.time() - 7200))
    store.put(source)
    assert store.gc(set(), dry_run=True, spare=timedelta(hours=1)) == []


def test_a_full_disk_is_named_and_leaves_nothing(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 300_000)
    script = """
import resource, sys
from pathlib import Path
from trilho.backends.local.store import LocalStore
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
LocalStore(Path(sys.argv[1])).put(Path(sys.argv[2]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(store.root), str(tmp_path / "big")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "cannot be stored: File too large" in done.stderr
    assert [path for path in store.root.rglob("*") if path.is_file()] == []
