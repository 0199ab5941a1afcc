"""The online store: past rows by entity, and what a model's past becomes with them."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from tests.runtime.serving import NOTEBOOKS, ROOT, notebooks_environment

from trilho_runtime.history import History
from trilho_runtime.model.predictor import Predictor
from trilho_runtime.schema.signature import Field, Signature
from trilho_runtime.serving.lookup import Lookup, spans_of
from trilho_runtime.serving.online import PastRows, SqlitePast, StoreError, entity_text
from trilho_runtime.serving.parts import Checker
from trilho_runtime.web.measures import Tally

SIGNATURE = Signature((Field("shop", "string", True), Field("day", "timestamp", True)))
TOLD: dict[str, Any] = {"target": "y", "time": "day", "entity": ["shop"], "rows": 3}


def day(number: int) -> str:
    return str(np.datetime64("2024-01-01", "us") + np.timedelta64(number, "D"))[:19]


def row(shop: str, number: int, value: float) -> dict[str, Any]:
    return {"shop": shop, "day": day(number), "y": value}


def put(store: SqlitePast, *rows: dict[str, Any]) -> None:
    store.put([([r["shop"]], r["day"], f"{r['shop']}{r['day']}", r) for r in rows])


def columns(*asked: tuple[str, int]) -> dict[str, Any]:
    return SIGNATURE.columns([{"shop": shop, "day": day(number)} for shop, number in asked])


@dataclass
class SortedKeys:
    """A store whose rows lie under ENTITY#TIME, in that order, as in Bigtable: read by ranges of keys."""

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def put(self, *rows: dict[str, Any]) -> None:
        self.rows |= {f"{entity_text([r['shop']])}#{r['day']}": r for r in rows}

    def past(self, entity: Sequence[Any], before: str, rows: int, *, after: str, until: str) -> list[dict[str, Any]]:
        self.asked.append((*entity, before, until))
        keys, start = sorted(self.rows), f"{entity_text(entity)}#"
        middle = bisect_left(keys, start + before)
        first = max(bisect_right(keys, start + after), middle - rows)
        return [self.rows[key] for key in keys[first : bisect_left(keys, start + until)]]


def store_of(kind: str, folder: Path, *rows: dict[str, Any]) -> PastRows:
    if kind == "keys":
        found = SortedKeys()
        found.put(*rows)
        return found
    store = SqlitePast(folder / "past.sqlite", writable=True)
    put(store, *rows)
    return SqlitePast(folder / "past.sqlite")


def predictor() -> Predictor:
    """A model of three past rows whose package has days 0 to 4 of shop a."""
    kept = History.fit(columns(*(("a", n) for n in range(5))), np.arange(5.0), **TOLD)
    nothing: Any = None
    return Predictor(SIGNATURE, "regression", nothing, "", nothing, nothing, history=kept)


def values(completed: Predictor, asked: dict[str, Any]) -> list[list[float]]:
    history = cast(History, completed.history)
    return [history.values[past.start : past.stop].tolist() for past in history.find(asked)]


def states(completed: Predictor, asked: dict[str, Any]) -> list[str]:
    return [past.state for past in cast(History, completed.history).find(asked)]


KINDS = pytest.mark.parametrize("kind", ["sqlite", "keys"])


@KINDS
def test_an_entitys_newest_rows_before_a_time_and_all_from_then_on(kind: str, tmp_path: Path) -> None:
    store = store_of(kind, tmp_path, *(row("a", n, n) for n in range(9)), row("b", 4, 40.0))

    def past(shop: str, before: int, rows: int, after: str = "", until: int | None = None) -> list[float]:
        found = store.past([shop], day(before), rows, after=after, until=day(until if until is not None else before))
        return [one["y"] for one in found]

    assert past("a", 6, 2) == [4, 5]
    assert past("a", 6, 2, until=8) == [4, 5, 6, 7]
    assert past("a", 6, 9, after=day(3)) == [4, 5]
    assert past("a", 6, 2, after=day(6), until=8) == [7]
    assert (past("b", 9, 5), past("c", 9, 5), past("b", 4, 5)) == ([40], [], [])


@KINDS
def test_only_what_came_since_the_package_is_put_after_what_it_has(kind: str, tmp_path: Path) -> None:
    rows = [row("a", n, 100 + n) for n in (2, 4, 5, 6)] + [row("b", n, 200 + n) for n in range(5)]
    lookup = Lookup(lambda: store_of(kind, tmp_path, *rows))
    asked = columns(("a", 7), ("a", 6), ("b", 4), ("b", 5), ("c", 5), ("a", 3))
    found = lookup.complete(predictor(), asked)
    assert values(found, asked) == [
        [4, 105, 106],
        [3, 4, 105],
        [201, 202, 203],
        [202, 203, 204],
        [],
        [2],
    ]
    assert states(found, asked) == ["fresh", "late", "late", "fresh", "none", "late"]
    assert states(predictor(), asked)[0] == "stale"
    assert lookup.to_json() == {"state": "read", "asked": {"looked_up": 3, "failed": 0}}


def test_each_entity_is_looked_up_once_a_turn() -> None:
    store = SortedKeys()
    lookup = Lookup(lambda: store)
    asked = columns(("a", 7), ("a", 9), ("b", 4), ("a", 8))
    lookup.complete(predictor(), asked)
    assert store.asked == [("a", day(7), day(9)), ("b", day(4), day(4))]
    assert len(spans_of(cast(History, predictor().history), asked)) == 2


def test_what_a_request_tells_itself_comes_before_what_the_store_has(tmp_path: Path) -> None:
    put(SqlitePast(tmp_path / "past.sqlite", writable=True), row("a", 5, 105), row("a", 6, 106), row("b", 6, 206))
    model: Any = type("Loaded", (), {"predictor": predictor(), "names": SIGNATURE.names})
    model.package = type("Package", (), {"manifest": {"time": "day"}})
    checker = Checker(model, Tally(), lookup=Lookup.in_file(tmp_path / "past.sqlite"))
    asked = [{"shop": "a", "day": day(7)}, {"shop": "b", "day": day(7)}]
    job: Any = type("Job", (), {"rows": asked, "size": 2, "past": [row("a", 6, 7.5)]})
    (part,) = checker.parts([job], [None])
    assert values(part.predictor, dict(part.columns)) == [[4, 105, 7.5], [206]]
    plain: Any = type("Job", (), {"rows": asked, "size": 2, "past": []})
    (part,) = checker.parts([plain], [None])
    assert values(part.predictor, dict(part.columns)) == [[4, 105, 106], [206]]


@pytest.mark.parametrize("content", [None, b"", b"no database" * 100, b"schema"])
def test_a_store_that_cannot_be_read_leaves_the_packages_own_past(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "past.sqlite"
    if content == b"schema":
        SqlitePast(file, writable=True).mark("schema", "7")
    elif content is not None:
        file.write_bytes(content)
    lookup, asked = Lookup.in_file(file), columns(("a", 7), ("b", 7))
    for _ in range(2):
        assert values(lookup.complete(predictor(), asked), asked) == [[2, 3, 4], []]
    told = lookup.to_json()
    assert (told["state"], told["asked"]) == ("failed", {"looked_up": 0, "failed": 4})
    assert str(file) in told["why"] or "database" in told["why"]
    assert capsys.readouterr().err.count("the past that the package has") == 1


def test_a_store_that_came_later_or_anew_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trilho_runtime.serving.lookup.AGAIN_SECONDS", 0.0)
    file, asked = tmp_path / "p a?t%20h" / "past.sqlite", columns(("a", 6))
    lookup = Lookup.in_file(file)
    lookup.complete(predictor(), asked)
    first = SqlitePast(file, writable=True)
    put(first, row("a", 5, 105))
    assert values(lookup.complete(predictor(), asked), asked) == [[3, 4, 105]]
    assert lookup.to_json()["state"] == "read"
    first.close()
    for part in file.parent.iterdir():
        part.unlink()
    put(SqlitePast(file, writable=True), row("a", 5, 305))
    assert values(lookup.complete(predictor(), asked), asked) == [[3, 4, 305]]


def test_one_row_that_is_wrong_does_not_close_the_store(tmp_path: Path) -> None:
    store = SqlitePast(tmp_path / "past.sqlite", writable=True)
    put(store, {**row("a", 5, 0.0), "y": "much"}, row("b", 5, 205))
    lookup = Lookup.in_file(tmp_path / "past.sqlite")
    wrong, right = columns(("a", 6)), columns(("b", 6))
    assert values(lookup.complete(predictor(), wrong), wrong) == [[2, 3, 4]]
    assert "y is" in lookup.why
    assert values(lookup.complete(predictor(), right), right) == [[205]]


def test_a_row_that_is_known_is_replaced_wherever_it_was() -> None:
    store = SqlitePast(Path(":memory:"), writable=True)
    store.put([(["a"], day(1), "r1", row("a", 1, 1.0)), (["a"], day(2), "r2", row("a", 2, 2.0))])
    store.put([(["b"], day(3), "r1", row("b", 3, 9.0))])
    assert [one["y"] for one in store.past(["a"], day(9), 9)] == [2]
    assert store.extent() == (day(3), 2, 2)
    assert store.until() == day(3)


def test_old_rows_are_forgotten_by_entity_and_a_persons_by_value() -> None:
    store = SqlitePast(Path(":memory:"), writable=True)
    put(store, *(row("a", n, n) for n in range(7)), *(row("b", n, n) for n in range(7)))
    assert store.trim(3, [["a"], ["c"]]) == 4
    assert [one["y"] for one in store.past(["a"], day(9), 9)] == [4, 5, 6]
    assert len(store.past(["b"], day(9), 9)) == 7
    assert store.forget("shop", "b") == 7
    assert store.extent()[1:] == (1, 3)


def test_readers_write_nothing(tmp_path: Path) -> None:
    put(SqlitePast(tmp_path / "past.sqlite", writable=True), row("a", 1, 1))
    reader = SqlitePast(tmp_path / "past.sqlite")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        put(reader, row("a", 2, 2))
    with pytest.raises(StoreError, match=r"nowhere\.sqlite"):
        SqlitePast(tmp_path / "nowhere.sqlite")


def test_features_through_the_store_are_those_of_the_whole_table(tmp_path: Path) -> None:
    if not NOTEBOOKS.exists():
        pytest.skip("tests/notebooks/.venv is absent: make tests/notebooks/.venv/.notebooks")
    command = [str(NOTEBOOKS), str(ROOT / "tests" / "runtime" / "history_equality.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=notebooks_environment())
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told == {"rows": 160, "differences": 0, "without_the_store": 156, "states": ["fresh"]}
