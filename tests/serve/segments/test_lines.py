"""What servers wrote becomes segments, each line once: torn, glued, retried, of both formats, in the shadow."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from tests.serve.segments.written import START, Served, dead_pid, dumps, label, prediction

from trilho.errors import DataError
from trilho.serve import sealing
from trilho.serve.lines import gone
from trilho.serve.segments import LocalPredictionLog


def test_only_complete_lines_move_while_their_writer_lives(log: LocalPredictionLog, served: Served) -> None:
    whole = dumps(prediction(0), prediction(1))
    served.predictions.write_bytes(whole[:-10])
    assert log.seal() == 1
    assert log.seal() == 0
    with served.predictions.open("ab") as handle:
        handle.write(whole[-10:])
    assert log.seal() == 1
    assert log.labels().served == 2
    assert log.counters()["torn"] == 0
    assert served.predictions.exists()


def test_a_dead_writers_torn_line_is_counted_and_its_file_goes(log: LocalPredictionLog, served: Served) -> None:
    path = served.folder / "predictions" / f"v1-{dead_pid()}-1000.jsonl"
    path.write_bytes(dumps(prediction(0), prediction(1))[:-10])
    assert log.seal() == 1
    assert log.counters()["torn"] == 1
    assert not path.exists()
    assert log.seal() == 0
    assert log.labels().served == 1


def test_a_file_whose_writer_went_on_to_a_newer_one_goes(log: LocalPredictionLog, served: Served) -> None:
    newer = served.folder / "predictions" / f"v1-{os.getpid()}-2000.jsonl"
    served.predict(prediction(0))
    served.predict(prediction(1), path=newer)
    assert log.seal() == 2
    log.seal()
    assert not served.predictions.exists()
    assert newer.exists()


def test_a_line_written_between_two_looks_at_a_file_is_not_deleted(
    log: LocalPredictionLog, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer writes its last line and ends after one of the two was looked at: its size, or whether it lives."""
    writer = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    path = served.folder / "predictions" / f"v1-{writer.pid}-1000.jsonl"
    served.predict(prediction(0), path=path)
    assert log.seal() == 1
    looks: dict[str, Callable[..., Any]] = {"size": sealing._size, "gone": gone}
    seen: list[str] = []

    def look(name: str) -> Any:
        def at(*arguments: Any) -> Any:
            seen.append(name)
            answer = looks[name](*arguments)
            if len(seen) == 1:
                served.predict(prediction(1), path=path)
                assert writer.stdin is not None
                writer.stdin.close()
                writer.wait()
            return answer

        return at

    monkeypatch.setattr(sealing, "_size", look("size"))
    monkeypatch.setattr(sealing, "gone", look("gone"))
    log.seal()
    log.seal()
    assert {"size", "gone"} <= set(seen)
    assert log.counters() == {"served": 2, "torn": 0}
    assert not path.exists()


def test_a_line_glued_to_a_torn_one_is_saved(log: LocalPredictionLog, served: Served) -> None:
    served.predictions.write_bytes(
        dumps(prediction(0))[:-20] + dumps(prediction(1)) + b"rubbish\n" + dumps(prediction(2))
    )
    assert log.seal() == 2
    assert log.counters()["torn"] == 2
    assert list(log.rows(START, START + timedelta(days=1))["_id"]) == ["r1.0", "r2.0"]


def test_any_text_and_any_field_name_can_be_kept(log: LocalPredictionLog, served: Served) -> None:
    odd: dict[str, Any] = {
        "text": "a\u0000b \u2028 \U0001f600",
        'a"b': 1,
        "it's": 2,
        "temp (°C)": 3,
        "list": [1],
        "large": 10**30,
        "_id": 9,
    }
    served.predict(prediction(0, **odd))
    log.seal()
    rows = log.rows(START, START + timedelta(days=1))
    assert rows["text"].tolist() == [odd["text"]]
    assert [rows[name].tolist() for name in ('a"b', "it's", "temp (°C)", "list", "large")] == [
        [1],
        [2],
        [3],
        ["[1]"],
        [1e30],
    ]
    assert rows["_id"].tolist() == ["r0.0"]


@pytest.mark.parametrize("change", [{"y": "high"}, {"x": 3}, {"id": 7}, {"n": None}, {"t": "late"}])
def test_a_line_of_the_wrong_shape_is_counted(log: LocalPredictionLog, served: Served, change: dict[str, Any]) -> None:
    served.predict({**prediction(0), **change}, prediction(1))
    log.seal()
    assert (log.labels().served, log.counters()["torn"]) == (1, 1)


def test_a_line_of_a_newer_format_stops_the_sealing_aloud(log: LocalPredictionLog, served: Served) -> None:
    served.predict({**prediction(0), "v": 3})
    with pytest.raises(DataError, match="format 3; this trilho reads up to 2"):
        log.seal()


def test_a_retried_request_counts_once(log: LocalPredictionLog, served: Served) -> None:
    served.predict(prediction(0), prediction(0))
    log.seal()
    served.predict(prediction(0, version=2), prediction(1))
    log.seal()
    assert log.labels().served == 2
    assert log.counters()["duplicates"] == 2
    assert log.rows(START, START + timedelta(days=1))["_version"].tolist() == [1, 1]


def test_a_field_is_kept_under_its_own_name_though_a_folder_is_called_so(
    log: LocalPredictionLog, served: Served
) -> None:
    served.predict(prediction(0, day="Monday"), prediction(30, day="Tuesday"))
    log.seal()
    assert log.rows(START, START + timedelta(days=3))["day"].tolist() == ["Monday", "Tuesday"]


def test_lines_of_both_versions_are_read_with_all_that_they_tell(log: LocalPredictionLog, served: Served) -> None:
    served.predict(
        prediction(0),
        {**prediction(1), "v": 2, "c": "b", "p": [0.2, 0.5, 0.3], "d": {"offer": True}, "dn": "3"},
        {**prediction(2), "v": 2, "c": "a", "p": [0.9, 0.1], "d": "refuse", "dn": "3"},
    )
    assert log.seal() == 3
    rows = log.rows(START, START + timedelta(days=1))
    assert rows["_class"].tolist() == [None, "b", "a"]
    assert [None if p is None else list(p) for p in rows["_probabilities"]] == [None, [0.2, 0.5, 0.3], [0.9, 0.1]]
    assert rows["_decision"].tolist() == [None, '{"offer": true}', "refuse"]
    assert rows["_decision_version"].tolist() == [None, "3", "3"]
    assert rows["_served"].tolist() == [datetime(2024, 5, 1, 10, tzinfo=UTC).timestamp()] * 3


def test_what_a_challenger_answered_in_the_shadow_stays_apart(log: LocalPredictionLog, served: Served) -> None:
    served.predict(*(prediction(n) for n in range(3)))
    served.predict(*({**prediction(n, version=2), "v": 2, "y": n + 0.5, "s": 1} for n in (0, 1, 1, 7)))
    served.label(label(1, 9.0))
    assert log.seal() == 8
    assert log.counters() == {"served": 3, "labelled": 1, "shadow": 4, "torn": 0}
    assert log.labels().served == 3
    assert log.rows(START, START + timedelta(days=1))["_version"].tolist() == [1, 1, 1]
    shadow = log.shadow_rows(START, START + timedelta(days=1))
    assert shadow["_id"].tolist() == ["r0.0", "r1.0", "r7.0"]
    assert shadow["_version"].tolist() == [2, 2, 2]
    assert shadow["_prediction"].tolist() == [0.5, 1.5, 7.5]
    assert shadow["temp"].tolist() == [0.0, 0.5, 3.5]
    assert shadow["_champion"].tolist()[:2] == [0.0, 1.0]
    assert shadow["_champion_version"].tolist()[:2] == [1.0, 1.0]
    assert np.isnan(shadow["_champion"][2])
    assert shadow["_value"][1] == 9.0
    assert np.isnan(shadow["_value"][[0, 2]]).all()
    assert len(log.shadow_rows(START + timedelta(days=2), START + timedelta(days=3))["_id"]) == 0
