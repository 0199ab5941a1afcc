"""Labels by id on a server that stands alone: counted, kept before the answer, refused by row."""

from __future__ import annotations

import asyncio
import errno
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.serving import Launcher, call

from trilho_runtime.prediction.log import LineLog
from trilho_runtime.protocols.labelling import MAX_LABELS, Labelling, repeated
from trilho_runtime.web.http import HttpError

SERVER = "tests.runtime.protocol_server"


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_bytes().splitlines()]


@pytest.fixture
def labelling(tmp_path: Path) -> Iterator[Labelling]:
    log = LineLog(tmp_path)
    yield Labelling(log, classes=lambda: ())
    log.close()


def test_labels_are_counted_and_kept(labelling: Labelling, tmp_path: Path) -> None:
    given = [
        {"id": "a.0", "value": 1},
        {"id": "a.0", "value": 0},
        {"key": {"s": 1, "d": "x"}, "value": 2},
        {"key": {"d": "x", "s": 1}, "value": 2},
    ]
    answer = labelling.take({"labels": given})
    assert (answer.status, answer.payload) == (200, {"accepted": 4, "repeated": 2, "refused": 0})
    assert [line.get("id") or line["key"] for line in lines_of(tmp_path)] == [
        "a.0",
        "a.0",
        {"s": 1, "d": "x"},
        {"d": "x", "s": 1},
    ]


def test_no_labels_are_none(labelling: Labelling, tmp_path: Path) -> None:
    assert labelling.take({"labels": []}).payload == {"accepted": 0, "repeated": 0, "refused": 0}
    assert lines_of(tmp_path) == []


def test_one_wrong_label_refuses_all_unless_the_caller_wants_the_others(labelling: Labelling, tmp_path: Path) -> None:
    given = [{"id": "a.0", "value": 1}, {"id": "b.0", "value": "1"}, {"id": "", "value": 1}, {"id": "c.0", "value": 0}]
    with pytest.raises(HttpError) as raised:
        labelling.take({"labels": given})
    told = raised.value.answer.payload
    assert (raised.value.answer.status, told["row"], told["accepted"], told["refused"]) == (422, 1, 0, 2)
    assert [error["row"] for error in told["errors"]] == [1, 2]
    assert told["error"] == (
        'label 1: value is "1"; wanted a finite number, and 1 more are wrong; no label of this request was kept,'
        ' {"partial": true} beside "labels" keeps the 2 right ones'
    )
    assert lines_of(tmp_path) == []
    answer = labelling.take({"labels": given, "partial": True})
    assert {k: answer.payload[k] for k in ("accepted", "repeated", "refused")} == {
        "accepted": 2,
        "repeated": 0,
        "refused": 2,
    }
    assert [error["row"] for error in answer.payload["errors"]] == [1, 2]
    assert answer.payload["errors"][0]["error"] == 'value is "1"; wanted a finite number'
    assert [line["id"] for line in lines_of(tmp_path)] == ["a.0", "c.0"]


@pytest.mark.parametrize("payload", [None, [], {}, {"labels": {}}, {"labels": [3]}, {"labels": [{"value": 1}]}])
def test_what_is_no_labels_is_422(labelling: Labelling, payload: Any) -> None:
    with pytest.raises(HttpError) as raised:
        labelling.take(payload)
    assert (raised.value.answer.status, raised.value.answer.payload["field"]) == (422, "labels")


def test_partial_is_true_or_false(labelling: Labelling) -> None:
    with pytest.raises(HttpError, match="partial is neither true nor false"):
        labelling.take({"labels": [], "partial": 1})


def test_too_many_labels_are_413(labelling: Labelling) -> None:
    with pytest.raises(HttpError) as raised:
        labelling.take({"labels": [0] * (MAX_LABELS + 1)})
    assert raised.value.answer.status == 413


def test_a_full_disk_is_507_and_is_heard_of() -> None:
    class Full:
        def append(self, lines: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    heard: list[Any] = []
    full: Any = Full()
    labelling = Labelling(full, counted=heard.append, failed=lambda: heard.append("failed"))
    with pytest.raises(HttpError, match="could not be kept: No space left") as raised:
        labelling.take({"labels": [{"id": "a.0", "value": 1}]})
    assert raised.value.answer.status == 507
    assert heard == ["failed"]


def test_keys_and_ids_are_told_apart() -> None:
    assert repeated([{"id": "1"}, {"key": {"id": "1"}}, {"key": {"id": 1}}]) == 0


def test_whole_numbers_in_a_key_are_integers_however_they_are_written(labelling: Labelling, tmp_path: Path) -> None:
    given = [{"key": {"store": 7.0}, "value": 1}, {"key": {"store": 7}, "value": 1}]
    assert labelling.take({"labels": given}).payload["repeated"] == 1
    assert [line["key"] for line in lines_of(tmp_path)] == [{"store": 7}] * 2
    for wrong in (7.5, 1e30, True, None):
        with pytest.raises(HttpError, match="wanted an object of strings or integers"):
            labelling.take({"labels": [{"key": {"store": wrong}, "value": 1}]})


def test_labels_come_by_http(tmp_path: Path) -> None:
    launcher = Launcher(tmp_path, Path(sys.executable))
    address = launcher.run(Path(sys.executable), SERVER).wait_until_ready()
    answer = call(address, "/labels", {"labels": [{"id": "a.0", "value": 1.5}]})
    assert (answer.status, answer.json["accepted"]) == (200, 1)
    assert [(line["id"], line["y"]) for line in lines_of(tmp_path / "labels")] == [("a.0", 1.5)]
    assert call(address, "/labels", b"{").status == 400
    assert call(address, "/labels").status == 405
    launcher.end()


def test_the_handler_counts_rows_for_the_log(labelling: Labelling) -> None:
    class Given:
        rows = 0

        async def body(self) -> bytes:
            return b'{"labels": [{"id": "a.0", "value": 1}]}'

    given: Any = Given()
    assert asyncio.run(labelling.label(given)).status == 200
    assert given.rows == 1
