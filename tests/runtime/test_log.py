from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from trilho_runtime.prediction.log import LabelError, LineLog, label_lines, now


def lines_of(folder: Path) -> list[Any]:
    return [json.loads(line) for path in sorted(folder.iterdir()) for line in path.read_bytes().splitlines()]


def test_lines_go_to_one_file_until_it_is_full_then_to_another(tmp_path: Path) -> None:
    log = LineLog(tmp_path / "deep" / "log", "v1-", limit=10)
    for number in range(4):
        log.append(b'{"n":%d}\n' % number)
    names = [path.name for path in (tmp_path / "deep" / "log").iterdir()]
    assert len(names) == 2
    assert all(name.startswith(f"v1-{os.getpid()}-") and name.endswith(".jsonl") for name in names)
    assert sorted(line["n"] for line in lines_of(tmp_path / "deep" / "log")) == [0, 1, 2, 3]


def test_a_file_that_was_deleted_is_replaced(tmp_path: Path) -> None:
    log = LineLog(tmp_path, fsync=True)
    log.append(b'{"n":1}\n')
    next(tmp_path.iterdir()).unlink()
    log.append(b'{"n":2}\n')
    assert lines_of(tmp_path) == [{"n": 2}]


def test_a_full_disk_refuses_the_line_and_leaves_whole_lines_only(tmp_path: Path) -> None:
    """A limit of file size stands for a full disk: the write is cut short in the same way."""
    code = f"""
import resource, signal
from pathlib import Path
from trilho_runtime.prediction.log import LineLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = LineLog(Path({str(tmp_path)!r}))
log.append(b'{{"n":1}}\\n')
resource.setrlimit(resource.RLIMIT_FSIZE, (30, resource.RLIM_INFINITY))
for _ in range(2):
    try: log.append(b'{{"n":2}}\\n' + b'{{"n":3, "long": "................................"}}\\n')
    except OSError as error: print(error.errno)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.append(b'{{"n":4}}\\n')
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "28\n28\n", done.stderr
    assert [line["n"] for line in lines_of(tmp_path)] == [1, 2, 2, 4]


def test_files_that_were_filled_since_are_synced_with_the_one_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(file: int) -> None:
        synced.append(Path(f"/proc/self/fd/{file}").readlink().name)
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    log = LineLog(tmp_path, "v1-", fsync=True, limit=10)
    for number in range(3):
        log.write(b'{"n":%d}\n' % (100 + number))
    assert set(synced) == {tmp_path.name}  # the folder, for each new file's name
    synced.clear()
    log.sync()
    assert sorted(synced) == sorted(path.name for path in tmp_path.iterdir())
    synced.clear()
    log.sync()
    assert len(synced) == 1  # the others are closed
    log.append(b'{"n":3}\n')
    assert len(synced) >= 2


def test_after_a_failed_sync_lines_go_to_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system has thrown away then, a later sync would call written."""
    log = LineLog(tmp_path)
    log.write(b'{"n":1}\n')
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(OSError, match="Input/output error"):
            log.sync()
    log.write(b'{"n":2}\n')
    assert sorted(path.read_bytes() for path in tmp_path.iterdir()) == [b'{"n":1}\n', b'{"n":2}\n']


def test_threads_write_whole_lines(tmp_path: Path) -> None:
    log = LineLog(tmp_path, limit=5000)

    def write(first: int) -> None:
        for number in range(first, first + 200):
            log.append(b'{"n":%d}\n' % number)

    threads = [threading.Thread(target=write, args=(first,)) for first in (1000, 2000, 3000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(line["n"] for line in lines_of(tmp_path)) == [
        n + own for own in (1000, 2000, 3000) for n in range(200)
    ]


def test_the_time_of_a_line_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([1767268800_123_456_789, 1767268800_999_999_999, 1767268801_000_000_000])
    monkeypatch.setattr(time, "time_ns", lambda: next(moments))
    assert [now() for _ in range(3)] == [
        "2026-01-01T12:00:00.123Z",
        "2026-01-01T12:00:00.999Z",
        "2026-01-01T12:00:01.000Z",
    ]


def test_labels_become_lines() -> None:
    payload = {"labels": [{"id": "q.0", "value": 3}, {"key": {"event": "b1", "day": 2}, "value": 0.5}]}
    lines, number = label_lines(payload)
    found = [json.loads(line) for line in lines.splitlines()]
    assert number == 2
    assert [{k: v for k, v in line.items() if k != "t"} for line in found] == [
        {"v": 1, "id": "q.0", "y": 3.0},
        {"v": 1, "key": {"event": "b1", "day": 2}, "y": 0.5},
    ]


@pytest.mark.parametrize(
    ("label", "says"),
    [
        ({"id": "a"}, 'it has "id"; wanted an object with a value'),
        ({"id": "a", "label": 1}, 'it has "id", "label"; wanted an object with a value'),
        ({"id": "a", "value": None}, "value is null"),
        ({"id": "a", "value": "1"}, 'value is "1"; wanted a finite number'),
        ({"id": "a", "value": True}, "value is true; wanted a finite number"),
        ({"id": "a", "value": 10**400}, "value is 1000"),
        ({"id": "a", "value": 1.7e308}, "value is 1.7e"),  # losses of it would be infinite
        ({"id": "", "value": 1}, 'id is ""'),
        ({"id": 5, "value": 1}, "id is 5"),
        ({"id": "a", "key": {"b": 1}, "value": 1}, "either an id or a key"),
        ({"value": 1}, "either an id or a key"),
        ({"key": {}, "value": 1}, "key is {}"),
        ({"key": {"a": 1.5}, "value": 1}, 'key is {"a":1.5}'),
        ([], "it is []; wanted an object"),
    ],
)
def test_a_wrong_label_is_named(label: object, says: str) -> None:
    with pytest.raises(LabelError, match="label 1: ") as caught:
        label_lines({"labels": [{"id": "a", "value": 1}, label]}, ())
    assert says in str(caught.value)
    assert caught.value.row == 1


@pytest.mark.parametrize(
    ("classes", "right", "wrong", "says"),
    [
        ((0, 1), [0, 1, 1.0], [7, 0.5, "1", True, None], "one of 0, 1"),
        (("no", "yes"), ["no", "yes"], ["maybe", "Yes", "", 1, True], 'one of "no", "yes"'),
        ((False, True), [False, True], [1, 0, "true"], "one of false, true"),
        ((1, "a"), [1, "a"], [2, "1", True], 'one of 1, "a"'),
        ((), [7, -0.5], ["7", True, 1e31], "a finite number"),
        (None, [7, "a", True], [[1], {}, None, "", "x" * 1001], "a finite number, a text, true or false"),
    ],
)
def test_a_label_is_one_of_the_models_classes(classes: Any, right: list[Any], wrong: list[Any], says: str) -> None:
    lines, _ = label_lines({"labels": [{"id": "a", "value": value} for value in right]}, classes)
    kept = [json.loads(line)["y"] for line in lines.splitlines()]
    assert kept == right
    assert [type(value) is bool for value in kept] == [type(value) is bool for value in right]
    for value in wrong:
        with pytest.raises(LabelError, match=f"wanted {re.escape(says)}$"):
            label_lines({"labels": [{"id": "a", "value": value}]}, classes)


def test_many_classes_are_not_all_told() -> None:
    with pytest.raises(LabelError, match=r"18, 19 and 80 more$"):
        label_lines({"labels": [{"id": "a", "value": 500}]}, tuple(range(100)))


@pytest.mark.parametrize("payload", [None, [], {}, {"labels": {}}, "labels"])
def test_labels_of_another_shape_are_refused(payload: object) -> None:
    with pytest.raises(LabelError, match="wanted"):
        label_lines(payload)
