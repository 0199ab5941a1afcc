"""The past of a model of lags, kept by the platform: from labelled predictions, and from tables."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest

from trilho.errors import DataError, NotYet
from trilho.serve.past import Extent, Past
from trilho.serve.segments import LocalPredictionLog
from trilho_runtime.serving.online import SqlitePast

FIELDS = [
    {"name": "id", "type": "string", "nullable": True},
    {"name": "shop", "type": "string", "nullable": False},
    {"name": "day", "type": "timestamp", "nullable": False},
    {"name": "promo", "type": "integer", "nullable": True},
]


def package(folder: Path, fields: list[dict[str, Any]] = FIELDS) -> Path:
    folder.mkdir(exist_ok=True)
    history = {"file": "history.npz", "target": "sold", "time": "day", "entity": ["shop"], "rows": 2}
    (folder / "manifest.json").write_text(json.dumps({"signature": fields, "history": history}))
    return folder


class World:
    """A log, and the past that is made of it."""

    def __init__(self, folder: Path, key: str | None = None, **more: Any) -> None:
        self.folder = folder / "log"
        self.log = LocalPredictionLog(self.folder, "day", key)
        self.past = Past(folder / "past.sqlite", package(folder / "package"), 2, key, **more)
        self.written = 0

    def serve(self, number: int, **fields: Any) -> str:
        x = {"shop": "a", "day": f"2024-01-{number:02d}T00:00:00", "promo": number, **fields}
        id_ = f"r{self.written}.0"
        line = {"v": 2, "id": id_, "t": "2024-05-01T10:00:00.000Z", "n": 1, "x": x, "y": float(number)}
        self._append("predictions", line)
        return id_

    def label(self, value: float, **of: Any) -> None:
        self._append("labels", {"v": 1, **of, "y": value, "t": "2024-05-02T10:00:00.000Z"})

    def _append(self, kind: str, line: dict[str, Any]) -> None:
        self.written += 1
        place = self.folder / kind / "v1-1-1.jsonl"
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("ab") as handle:
            handle.write(json.dumps(line).encode() + b"\n")

    def feed(self) -> int:
        self.log.seal()
        return self.past.feed(self.log)

    def rows(self, shop: str = "a") -> list[dict[str, Any]]:
        return SqlitePast(self.past.file).past([shop], "2030", 99)


def test_served_rows_become_past_once_their_truth_has_come(tmp_path: Path) -> None:
    world = World(tmp_path)
    ids = [world.serve(1), world.serve(2, promo=None), world.serve(2, shop="b"), world.serve(3)]
    assert (world.feed(), world.past.extent()) == (0, Extent(None, 0, 0))
    for id_, value in zip(ids[:3], (11, 12, 21), strict=True):
        world.label(value, id=id_)
    assert world.feed() == 3
    assert world.rows() == [
        {"shop": "a", "day": "2024-01-01T00:00:00", "promo": 1, "sold": 11.0},
        {"shop": "a", "day": "2024-01-02T00:00:00", "promo": None, "sold": 12.0},
    ]
    assert [type(row["promo"]) for row in world.rows()] == [int, type(None)]
    assert world.past.extent() == Extent("2024-01-02T00:00:00", 2, 3)
    assert world.feed() == 0
    world.label(13, id=ids[3])
    assert (world.feed(), [row["sold"] for row in world.rows()]) == (1, [11, 12, 13])


def test_a_row_that_is_asked_twice_is_one_and_a_pass_repeated_changes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    for value in (11, 12):
        world.label(value, id=world.serve(1))
    world.feed()
    assert [row["sold"] for row in world.rows()] == [12]
    store = SqlitePast(world.past.file, writable=True)
    store.mark("cursor", "0")  # as after a kill before the cursor was kept
    assert world.feed() == 2
    assert [row["sold"] for row in world.rows()] == [12]


def test_a_truth_that_is_corrected_by_id_takes_the_place_of_the_wrong_one(tmp_path: Path) -> None:
    world = World(tmp_path)
    first, second = world.serve(1), world.serve(2)
    world.label(11, id=first)
    world.label(99, id=second)
    world.label(12, id=second)  # wrong and corrected before anybody has looked
    assert world.feed() == 2
    assert [row["sold"] for row in world.rows()] == [11, 12]
    world.label(10, id=first)
    world.label(10, id=first)
    assert world.feed() == 1
    assert [row["sold"] for row in world.rows()] == [10, 12]
    world.label(11, id=first)  # it was right after all
    assert (world.feed(), world.feed()) == (1, 0)
    assert [row["sold"] for row in world.rows()] == [11, 12]
    counted = world.log.labels()
    assert (counted.labelled, counted.repeated, counted.corrected) == (2, 4, 3)


def test_a_models_key_names_a_row_whatever_else_it_says(tmp_path: Path) -> None:
    world = World(tmp_path, key="id")
    world.serve(1, id="k1", promo=1)
    world.label(11, key={"id": "k1"})
    world.feed()
    world.serve(2, id="k2")
    world.label(12, key={"id": "k2"})
    world.feed()
    table = tmp_path / "corrected.csv"
    table.write_text("id,shop,day,promo,sold\nk1,a,2024-01-01,5,99\nk3,b,2024-01-04,,7\nk4,b,2024-01-05,1,\n")
    assert world.past.load([table]) == 2
    assert [(row["promo"], row["sold"]) for row in world.rows()] == [(5, 99), (2, 12)]
    assert world.rows("b") == [{"id": "k3", "shop": "b", "day": "2024-01-04T00:00:00", "promo": None, "sold": 7.0}]


def test_an_entity_keeps_four_times_the_rows_that_are_looked_at(tmp_path: Path) -> None:
    world = World(tmp_path)
    for number in range(1, 13):
        world.label(number, id=world.serve(number))
    assert world.feed() == 12
    assert [row["sold"] for row in world.rows()] == [5, 6, 7, 8, 9, 10, 11, 12]


def test_rows_that_are_too_old_or_a_persons_are_forgotten(tmp_path: Path) -> None:
    world = World(tmp_path)
    for number in (1, 2, 3):
        world.label(number, id=world.serve(number))
    world.label(9, id=world.serve(4, id="p1"))
    world.feed()
    assert world.past.expire(datetime(2024, 1, 2, 1, tzinfo=timezone(timedelta(hours=2)))) == 1
    assert world.past.forget("id", "p1") == 1
    assert [row["sold"] for row in world.rows()] == [2, 3]


def test_rows_that_the_present_signature_refuses_are_left_out(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.label(1, id=world.serve(1, promo="many"))
    world.label(2, id=world.serve(2))
    world.feed()
    assert [row["sold"] for row in world.rows()] == [2]


def test_a_parquet_table_gives_times_and_numbers_as_callers_do(tmp_path: Path) -> None:
    world = World(tmp_path)
    file = tmp_path / "rows.parquet"
    duckdb.execute(
        f"COPY (SELECT 'a' AS shop, TIMESTAMP '2024-01-01' + INTERVAL (n) DAY AS day, n AS promo, n * 1.5 AS sold"
        f" FROM range(3) t(n)) TO '{file}' (FORMAT parquet)"
    )
    assert world.past.load([file]) == 3
    assert world.rows()[1] == {"id": None, "shop": "a", "day": "2024-01-02T00:00:00", "promo": 1, "sold": 1.5}
    assert world.past.load([file]) == 3
    assert len(world.rows()) == 3


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("shop,day,sold\na,2024-01-01,much\n", r"row 0: sold is \"much\", a string; wanted a number"),
        ("shop,sold\na,1\n", r"row 0: day is missing"),
    ],
)
def test_a_table_that_is_wrong_is_named_by_field_and_row(tmp_path: Path, text: str, fact: str) -> None:
    table = tmp_path / "rows.csv"
    table.write_text(text)
    with pytest.raises(DataError, match=fact):
        World(tmp_path).past.load([table])


def test_what_the_log_hides_is_nobodys_past(tmp_path: Path) -> None:
    world = World(tmp_path, hidden=["shop"])
    world.label(1, id=world.serve(1))
    with pytest.raises(DataError, match=r"serve\.mask hides shop"):
        world.feed()


def test_a_model_without_a_past_and_a_file_that_is_no_store_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotYet, match="looks at past rows yet"):
        Past(tmp_path / "past.sqlite", None, 2).load([])
    (tmp_path / "broken.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(DataError, match=r"broken\.sqlite: file is not a database"):
        Past(tmp_path / "broken.sqlite", None, 2).make()
