from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trilho_runtime.log import LabelError, LineLog, label_lines, prediction_lines


def lines_of(folder: Path) -> list[Any]:
    return [json.loads(line) for path in sorted(folder.iterdir()) for line in path.read_bytes().splitlines()]


def test_a_prediction_line_holds_the_known_fields_as_received() -> None:
    lines = prediction_lines("q", 3, [{"a": None, "z": 1}, {"b": "x"}], frozenset({"a", "b"}), [1.0, 0.25])
    first, second = (json.loads(line) for line in lines.splitlines())
    assert first.pop("t").endswith("Z")
    assert first == {"v": 1, "id": "q.0", "n": 3, "x": {"a": None}, "y": 1.0}
    assert (second["id"], second["x"], second["y"]) == ("q.1", {"b": "x"}, 0.25)


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
from trilho_runtime.log import LineLog
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
        ({"id": "a"}, "value is None"),
        ({"id": "a", "value": "1"}, "value is '1'"),
        ({"id": "a", "value": True}, "value is True"),
        ({"id": "a", "value": 10**400}, "value is 1000"),
        ({"id": "a", "value": 1.7e308}, "value is 1.7e"),  # losses of it would be infinite
        ({"id": "", "value": 1}, "id is ''"),
        ({"id": 5, "value": 1}, "id is 5"),
        ({"id": "a", "key": {"b": 1}, "value": 1}, "either an id or a key"),
        ({"value": 1}, "either an id or a key"),
        ({"key": {}, "value": 1}, "key is {}"),
        ({"key": {"a": 1.5}, "value": 1}, "key is {'a': 1.5}"),
        ([], "wanted an object"),
    ],
)
def test_a_wrong_label_is_named(label: object, says: str) -> None:
    with pytest.raises(LabelError, match="label 1: ") as caught:
        label_lines({"labels": [{"id": "a", "value": 1}, label]})
    assert says in str(caught.value)
    assert caught.value.row == 1


@pytest.mark.parametrize("payload", [None, [], {}, {"labels": {}}, "labels"])
def test_labels_of_another_shape_are_refused(payload: object) -> None:
    with pytest.raises(LabelError, match="wanted"):
        label_lines(payload)
