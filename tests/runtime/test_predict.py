"""The data plane: what becomes of the jobs of a turn."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.runtime.planes import ROW, FakePredictor, classes, double, lines_of, loaded

from trilho_runtime.model.outputs import Outputs
from trilho_runtime.prediction.job import Job, Outcome
from trilho_runtime.prediction.live import LiveProfile
from trilho_runtime.prediction.log import LineLog, Torn
from trilho_runtime.prediction.mask import Mask
from trilho_runtime.prediction.served import ServedLog
from trilho_runtime.profile import PREDICTION, Reference
from trilho_runtime.protocols.plane import told_headers
from trilho_runtime.serving import predict as predict_module
from trilho_runtime.serving.predict import PredictionApp
from trilho_runtime.serving.work import Work
from trilho_runtime.web.http import HttpError
from trilho_runtime.web.measures import Tally


def log_in(folder: Path) -> ServedLog:
    return ServedLog(LineLog(folder))


def work(predictor: FakePredictor | None = None, **options: Any) -> Work:
    return Work(loaded(predictor), 3, Tally(), **options)


def rows(*values: Any) -> list[dict[str, Any]]:
    return [{**ROW, "x": value} for value in values]


def scores(outcomes: Sequence[Outcome | Exception]) -> list[Any]:
    return [outcome.scores if isinstance(outcome, Outcome) else outcome for outcome in outcomes]


class Wait:
    """A rule with a version, which the server follows."""

    takes_row = True

    def __init__(self, version: int = 7) -> None:
        self.current: Any = (version, self)
        self.seen: list[Any] = []

    def decide_all(self, given: Sequence[Any], fields: Sequence[Any]) -> tuple[list[Any], int, str]:
        self.seen += list(zip(given, (row["x"] for row in fields), strict=True))
        decided = ["call" if row["x"] > 1 else None for row in fields]
        return decided, decided.count(None), "ValueError: too small"


def test_the_jobs_of_a_turn_are_one_table_and_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, log = FakePredictor(), LineLog(tmp_path)
    writes: list[bytes] = []
    monkeypatch.setattr(log, "write", writes.append)
    jobs = [Job("a", rows(1)), Job("b", rows(2, 3)), Job("c", rows(4))]
    found = work(predictor, log=ServedLog(log)).do(jobs)
    assert found == [
        Outcome(["a.0"], [2.0], 3),
        Outcome(["b.0", "b.1"], [4.0, 6.0], 3),
        Outcome(["c.0"], [8.0], 3),
    ]
    assert predictor.asked == [4]
    assert [[json.loads(line)["id"] for line in data.splitlines()] for data in writes] == [["a.0", "b.0", "b.1", "c.0"]]


def test_a_wrong_row_is_its_own_jobs_only_and_is_called_by_its_own_number() -> None:
    predictor = FakePredictor()
    found = work(predictor).do([Job("a", rows(1)), Job("b", rows(2, "3")), Job("c", [3]), Job("d", rows(4))])
    assert scores([found[0], found[3]]) == [[2.0], [8.0]]
    assert predictor.asked == [2]
    wrong = [outcome.answer.payload for outcome in found if isinstance(outcome, HttpError)]
    assert wrong == [
        {"error": 'row 1: x is "3", a string; wanted a number', "field": "x", "row": 1},
        {"error": "row 0 is 3, an integer; wanted an object of fields", "row": 0},
    ]


def test_a_row_that_breaks_the_model_breaks_its_own_job_only(capsys: pytest.CaptureFixture[str]) -> None:
    predictor = FakePredictor()
    found = work(predictor).do([Job("a", rows(1)), Job("b", rows(13)), Job("c", rows(5, 13)), Job("d", rows(4))])
    assert scores([found[0], found[3]]) == [[2.0], [8.0]]
    assert predictor.asked == [5, 1, 1, 2, 1]
    alone, two = (outcome.answer for outcome in (found[1], found[2]) if isinstance(outcome, HttpError))
    assert (alone.status, alone.payload) == (422, {"error": "model: ValueError: 13 brings bad luck", "row": 0})
    assert "row" not in two.payload
    assert "13 brings bad luck" in capsys.readouterr().err


def test_a_mistake_of_ours_on_one_jobs_rows_is_no_others() -> None:
    def predict(columns: Any) -> Any:
        if (columns["x"] == 7).any():
            raise IndexError("ours")
        return double(columns)

    found = work(FakePredictor(predict)).do([Job("a", rows(1)), Job("b", rows(7)), Job("c", rows(2))])
    assert scores([found[0], found[2]]) == [[2.0], [4.0]]
    assert isinstance(found[1], IndexError)


def test_lines_hold_known_fields_with_times_in_one_spelling(tmp_path: Path) -> None:
    row = {"x": 1, "c": None, "at": "2024-02-01 08:00+02:00", "new": [1]}
    work(log=log_in(tmp_path)).do([Job("a", [row]), Job("b", [{"x": 2}])])
    assert lines_of(tmp_path) == [
        {"v": 2, "id": "a.0", "n": 3, "x": {"x": 1, "c": None, "at": "2024-02-01T06:00:00"}, "y": 2.0},
        {"v": 2, "id": "b.0", "n": 3, "x": {"x": 2}, "y": 4.0},
    ]


@pytest.mark.parametrize(
    ("predict", "outputs", "told"),
    [
        (classes(0.2, 0.7, 0.1), Outputs("probabilities", ("low", 2, True)), {"y": 0.7, "c": 2, "p": [0.2, 0.7, 0.1]}),
        (classes(0.6, 0.4), Outputs("probabilities", ("no", "yes")), {"y": 0.6, "c": "no", "p": [0.6, 0.4]}),
        (lambda columns: columns["x"] * 0 + 1, Outputs("class", ("no", "yes")), {"y": 1.0, "c": "yes"}),
        (lambda columns: columns["x"] * 0 + 5, Outputs("class", (3, 5)), {"y": 5.0, "c": 5}),
        (lambda columns: columns["x"] * 0 + 0.25, Outputs("probability", (0, 1)), {"y": 0.25}),
    ],
)
def test_lines_say_the_class_where_there_are_others_than_0_and_1(
    predict: Any, outputs: Outputs, told: dict[str, Any], tmp_path: Path
) -> None:
    found = work(FakePredictor(predict, outputs), log=log_in(tmp_path)).do([Job("a", rows(1)), Job("b", rows(2))])
    expected = told.get("p", told["y"])
    assert scores(found) == [[expected], [expected]]
    assert [{k: v for k, v in line.items() if k in "ycp"} for line in lines_of(tmp_path)] == [told, told]


def test_masked_columns_are_not_in_the_log(tmp_path: Path) -> None:
    mask = Mask.parse({"c": "hash", "at": "drop"}, "key")
    work(log=log_in(tmp_path), mask=mask).do([Job("a", [ROW]), Job("b", [{**ROW, "c": None}])])
    kept = [line["x"] for line in lines_of(tmp_path)]
    assert kept == [{"x": 1.0, "c": mask.hash("a")}, {"x": 1.0, "c": None}]
    assert "a" not in kept[0].values()


@pytest.mark.parametrize(("value", "kept"), [("\ud800", "?"), ("é\x00", "é\x00")])
def test_a_text_that_json_cannot_hold_is_logged_as_far_as_it_can(value: str, kept: str, tmp_path: Path) -> None:
    (found,) = work(log=log_in(tmp_path)).do([Job("a", [{**ROW, "c": value}])])
    assert isinstance(found, Outcome)
    assert found.logged
    assert lines_of(tmp_path)[0]["x"]["c"] == kept


def test_a_decision_gets_score_and_row_and_stands_in_answer_and_log(tmp_path: Path) -> None:
    rule = Wait()
    found = work(log=log_in(tmp_path), rules=rule).do([Job("a", rows(1)), Job("b", rows(2))])
    assert [(o.decisions, o.decision_version) for o in found if isinstance(o, Outcome)] == [
        ([None], "7"),
        (["call"], "7"),
    ]
    assert rule.seen == [(2.0, 1), (4.0, 2)]
    assert [(line["d"], line["dn"]) for line in lines_of(tmp_path)] == [(None, "7"), ("call", "7")]
    rule.current = None
    (later,) = work(rules=rule).do([Job("a", rows(1))])
    assert isinstance(later, Outcome)
    assert (later.decisions, later.decision_version) == (None, None)


def test_a_decision_on_several_classes_is_told_each_ones_probability() -> None:
    rule = Wait()
    predictor = FakePredictor(classes(0.25, 0.75), Outputs("probabilities", ("no", "yes")))
    work(predictor, rules=rule).do([Job("a", rows(1))])
    assert rule.seen == [({"no": 0.25, "yes": 0.75}, 1)]


def profile() -> LiveProfile:
    columns = {"x": np.arange(100.0), PREDICTION: np.arange(100.0)}
    return LiveProfile(Reference.fit(columns, None, 3600), model="tiny", version=3, time="at")


def test_a_shadow_job_is_logged_as_one_and_not_counted_among_what_was_served(tmp_path: Path) -> None:
    live, tally = profile(), Tally()
    served = Work(loaded(), 3, tally, log=log_in(tmp_path), live=live)
    served.do([Job("a", rows(1)), Job("b", rows(2, 3), shadow=True)])
    assert [line.get("s") for line in lines_of(tmp_path)] == [None, 1, 1]
    assert (tally.rows, tally.shadow_rows, live.to_json()["rows"]) == (1, 2, 1)
    served.do([Job("c", rows(2), shadow=True)])
    assert live.to_json()["rows"] == 1


def test_a_live_profile_that_fails_leaves_the_answer_and_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bin too few")

    live = profile()
    monkeypatch.setattr("trilho_runtime.prediction.live.PARTS", 1)  # counted at once, in the request itself
    monkeypatch.setattr(live, "_count", fail)
    outcomes = work(log=log_in(tmp_path), live=live).do([Job("a", rows(1, 2)), Job("b", rows(3))])
    assert scores(outcomes) == [[2.0, 4.0], [6.0]]
    assert [line["id"] for line in lines_of(tmp_path)] == ["a.0", "a.1", "b.0"]
    assert live.lost == 3


def test_the_live_profile_counts_what_the_log_calls_the_value() -> None:
    live = profile()
    predictor = FakePredictor(classes(0.1, 0.2, 0.7), Outputs("probabilities", (0, 1, 2)))
    work(predictor, live=live).do([Job("a", rows(1, 2))])
    feature = next(f for f in live._features if f.name == PREDICTION)
    counted = live.to_json()["counts"][PREDICTION]
    assert counted[int(feature.place(np.array([0.7]))[0])] == 2


def test_extra_fields_are_counted_once_or_refused() -> None:
    tally = Tally()
    extra = {**ROW, "new": 1}
    Work(loaded(), 3, tally).do([Job("a", [extra]), Job("b", rows("wrong")), Job("c", [extra, ROW])])
    assert tally.extra == {"new": 2}
    refusing = Work(loaded(), 3, tally, refuse_extra_fields=True)
    kept, refused = refusing.do([Job("a", [ROW]), Job("b", [ROW, extra])])
    assert isinstance(kept, Outcome)
    assert isinstance(refused, HttpError)
    assert refused.answer.payload == {
        "error": "row 1: new is not a field of this model; its fields are x, c, at",
        "field": "new",
        "row": 1,
    }


def test_past_rows_are_refused_by_a_model_that_looks_at_none() -> None:
    class Forgetful(FakePredictor):
        def renewed(self, past: Any, asked: Any) -> Any:
            from trilho_runtime.schema.signature import RowError

            raise RowError("past: this model looks at no past rows", "past")

    told, plain = work(Forgetful()).do([Job("a", [ROW], past=[ROW]), Job("b", [ROW])])
    assert isinstance(told, HttpError)
    assert told.answer.payload == {"error": "past: this model looks at no past rows", "field": "past"}
    assert isinstance(plain, Outcome)


def test_a_full_disk_sheds_lines_and_says_so_in_the_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = LineLog(tmp_path)
    kept = ServedLog(log)
    served = work(log=kept)
    real = log.write

    def full(lines: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(log, "write", full)
    for _ in range(2):
        found = served.do([Job("a", rows(1)), Job("b", rows(2, 3))])
        assert [outcome.logged for outcome in found if isinstance(outcome, Outcome)] == [False, False]
        assert scores(found) == [[2.0], [4.0, 6.0]]
    assert kept.to_json() == {"state": "shed", "shed": 6, "why": f"{tmp_path}: No space left on device"}
    assert capsys.readouterr().err.count("not logged") == 1
    monkeypatch.setattr(log, "write", real)
    (after,) = served.do([Job("c", rows(1))])
    assert isinstance(after, Outcome)
    assert after.logged
    assert kept.to_json() == {"state": "written", "shed": 6}
    assert [line["id"] for line in lines_of(tmp_path)] == ["c.0"]


def app(predictor: FakePredictor, **options: Any) -> PredictionApp:
    found = PredictionApp(3, **options)
    found.model = loaded(predictor)
    return found


async def together(plane: PredictionApp, jobs: Sequence[Job]) -> list[Any]:
    return await asyncio.gather(*(plane.answer(job) for job in jobs), return_exceptions=True)


def test_a_quick_model_answers_on_the_loop_and_large_jobs_in_the_thread() -> None:
    threads: list[tuple[int, bool]] = []

    def predict(columns: Any) -> Any:
        threads.append((len(columns["x"]), threading.current_thread() is threading.main_thread()))
        return double(columns)

    plane = app(FakePredictor(predict))
    plane._inline_rows = 5
    threads.clear()
    found = asyncio.run(together(plane, [Job("a", rows(1)), Job("b", rows(*range(6))), Job("c", rows(2))]))
    assert [outcome.scores for outcome in found] == [[2.0], [0.0, 2.0, 4.0, 6.0, 8.0, 10.0], [4.0]]
    # who comes while the thread works waits for it there: a model is asked by one at a time
    assert sorted(threads) == [(1, False), (1, True), (6, False)]


def test_a_slow_model_never_answers_on_the_loop() -> None:
    threads: list[bool] = []

    def predict(columns: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return double(columns)

    plane = app(FakePredictor(predict, fast=False))
    (found,) = asyncio.run(together(plane, [Job("a", rows(1))]))
    assert found.scores == [2.0]
    assert threads == [False]


def test_more_than_can_wait_is_refused_with_429(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_module, "WAITING", 3)
    going = threading.Event()

    def predict(columns: Any) -> Any:
        assert going.wait(10)
        return double(columns)

    async def run() -> list[Any]:
        plane = app(FakePredictor(predict, fast=False))
        first = asyncio.ensure_future(together(plane, [Job(str(n), rows(n)) for n in range(5)]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        going.set()
        return await first

    found = asyncio.run(run())
    assert [outcome.scores for outcome in found[:4]] == [[0.0], [2.0], [4.0], [6.0]]
    refused = found[4]
    assert isinstance(refused, HttpError)
    assert (refused.answer.status, refused.answer.headers) == (429, [("retry-after", "1")])
    assert refused.answer.payload["error"].startswith("3 requests with 3 rows wait for the model already")


def test_rows_that_wait_are_bounded_too_but_one_large_request_is_always_taken() -> None:
    going = threading.Event()

    def predict(columns: Any) -> Any:
        assert going.wait(10)
        return double(columns)

    async def run() -> list[Any]:
        plane = app(FakePredictor(predict, fast=False), max_rows=100)
        plane._most_rows = 10
        jobs = [Job("busy", rows(1)), Job("large", rows(*range(100, 130))), Job("more", rows(1))]
        first = asyncio.ensure_future(together(plane, jobs))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        going.set()
        return await first

    busy, large, more = asyncio.run(run())
    assert (len(busy.scores), len(large.scores)) == (1, 30)
    assert isinstance(more, HttpError)
    assert more.answer.status == 429


def test_one_sync_is_for_all_that_was_written_before_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = LineLog(tmp_path, fsync=True)
    going, syncs, real = threading.Event(), [0], log.sync

    def sync() -> None:
        syncs[0] += 1
        assert going.wait(10)
        real()

    monkeypatch.setattr(log, "sync", sync)

    async def run() -> list[Any]:
        plane = app(FakePredictor(), log=ServedLog(log), fsync=True)
        first = asyncio.ensure_future(plane.answer(Job("first", rows(1))))
        while not syncs[0]:
            await asyncio.sleep(0.001)
        others = asyncio.ensure_future(together(plane, [Job(str(n), rows(n)) for n in range(8)]))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not first.done()
        assert not others.done()
        going.set()
        return [await first, *await others]

    found = asyncio.run(run())
    assert syncs == [2]
    assert all(outcome.logged for outcome in found)
    assert len(lines_of(tmp_path)) == 9


def filled_up_after(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Have the disk take so many more bytes of a write, and then no others."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:size]))


def test_a_disk_that_fills_up_half_way_keeps_the_first_rows_and_says_how_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = log_in(tmp_path / "whole")
    jobs = [Job("a", rows(1)), Job("b", rows(2, 3, 4)), Job("c", rows(5))]
    work(log=kept).do(jobs)
    line = len(next((tmp_path / "whole").iterdir()).read_bytes()) // 5
    kept = log_in(tmp_path / "half")
    with monkeypatch.context() as patch:
        filled_up_after(patch, 3 * line + line // 2)
        found = [outcome for outcome in work(log=kept).do(jobs) if isinstance(outcome, Outcome)]
    assert [(outcome.logged, outcome.kept) for outcome in found] == [(True, 0), (False, 2), (False, 0)]
    assert [line["id"] for line in lines_of(tmp_path / "half")] == ["a.0", "b.0", "b.1"]
    assert kept.shed == 2
    assert "2 rows until now" in capsys.readouterr().err
    headers = dict(told_headers(found[1], jobs[1].rows, frozenset()))
    assert headers["x-trilho-logged"] == "2"


@pytest.mark.parametrize(("synced", "told", "shed"), [(True, 2, 1), (False, 0, 3)])
def test_the_rows_that_a_full_disk_kept_are_synced_before_they_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: bool, told: int, shed: int
) -> None:
    log = LineLog(tmp_path, fsync=True)
    kept, syncs = ServedLog(log), []

    def write(lines: bytes) -> None:
        raise Torn(errno.ENOSPC, "No space left on device", 2)

    def sync() -> None:
        syncs.append(1)
        if not synced:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(log, "write", write)
    monkeypatch.setattr(log, "sync", sync)
    (found,) = asyncio.run(together(app(FakePredictor(), log=kept, fsync=True), [Job("a", rows(1, 2, 3))]))
    assert (syncs, found.logged, found.kept, kept.shed) == ([1], False, told, shed)


def test_what_could_not_be_synced_is_not_called_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = LineLog(tmp_path, fsync=True)
    kept = ServedLog(log)

    def sync() -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(log, "sync", sync)
    (found,) = asyncio.run(together(app(FakePredictor(), log=kept, fsync=True), [Job("a", rows(1, 2))]))
    assert (found.scores, found.logged, kept.shed) == ([2.0, 4.0], False, 2)


def test_until_there_is_a_model_the_answer_is_503() -> None:
    (found,) = asyncio.run(together(PredictionApp(3), [Job("a", rows(1))]))
    assert isinstance(found, HttpError)
    assert (found.answer.status, found.answer.headers) == (503, [("retry-after", "1")])


def test_the_info_says_how_the_model_is_reached_and_a_name_of_the_servers_own() -> None:
    plane = app(FakePredictor(path="partly", why="a stage of its own"), name="other")
    told = asyncio.run(plane.info(None)).payload  # type: ignore[arg-type]
    assert (told["model"], told["path"], told["why"], told["log"]) == (
        "other",
        "partly",
        "a stage of its own",
        {"state": "off"},
    )
    assert told["inline_rows"] > 0
