"""What a run lets the doctor see that the code alone does not."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pytest
from tests.adopt.doctor_cells import FIT, HEAD, SPLIT, notebook

from trilho.adopt.doctor import examine_notebook
from trilho.adopt.doctor.association import association
from trilho.adopt.plan import Choice, Split, Target, Threshold
from trilho.adopt.trace import Argument, Fit, Object, Save, Trace, Value


def trace(**more: object) -> Trace:
    plain = {"schema": 1, "notebook": "", "python": "", "version": "3.11", "libraries": {}, "modules": {},
             "enforcement": "landlock", "seconds": 1.0}  # fmt: skip
    lists = ("statements", "calls", "reads", "fits", "predicts", "metrics", "splits", "saves", "connections", "objects",
             "golden")  # fmt: skip
    return Trace(**{**plain, **{name: [] for name in lists}, **more})  # type: ignore[arg-type]


def fitted(X: Value, y: Value) -> Fit:
    return Fit(0, 3, 3, (1, 0, 1, 9), 1, "fit", "f", Argument("X", X), Argument("y", y), [], 0)


def frame(folder: Path, name: str, sql: str) -> Value:
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({sql}) TO '{folder / name}' (FORMAT parquet)")
    return Value("frame", "DataFrame", file=name)


def test_a_feature_that_is_almost_the_target(tmp_path: Path) -> None:
    X = frame(tmp_path, "X.parquet", "SELECT i AS __index__, i % 7 AS week, CASE WHEN i % 3 = 0 THEN 10.0 + i / 1e4 "
              "ELSE i / 1e4 END AS status, 'x' AS kind FROM range(500) r(i)")  # fmt: skip
    np.save(tmp_path / "y.npy", (np.arange(500) % 3 == 0).astype(int))
    run = trace(fits=[fitted(X, Value("array", "ndarray", file="y.npy"))])
    found = [one for one in examine_notebook(notebook(tmp_path, HEAD, SPLIT, FIT), run, scratch=tmp_path)
             if one.rule == "target-leakage"]  # fmt: skip
    assert [(one.cell, one.line, one.severity) for one in found] == [(3, 1, "error")]
    assert "`status`" in found[0].message


def test_strong_features_are_no_leak() -> None:
    rng = np.random.default_rng(3)
    y = rng.normal(size=2000)
    assert association(y * 2 + 1, y) > 0.9999
    assert association(y + rng.normal(scale=0.1, size=2000), y) < 0.999
    assert association(np.array(["a", "b"], dtype=object), np.array([0, 1])) == 0
    late = (rng.random(2000) < 1 / (1 + np.exp(-3 * y))).astype(int)
    assert 0.5 < association(y, late) < 0.95


def test_values_that_were_not_kept_are_no_trouble(tmp_path: Path) -> None:
    run = trace(fits=[fitted(Value("frame", "DataFrame", file="gone.parquet"), Value("array", "ndarray"))])
    assert "target-leakage" not in {
        one.rule for one in examine_notebook(notebook(tmp_path, HEAD, SPLIT, FIT), run, scratch=tmp_path)
    }


def test_a_run_knows_versions_and_classes(tmp_path: Path) -> None:
    run = trace(
        objects=[Object(1, "__main__.Ratio", ["r"], {})],
        saves=[Save(2, 2, 1, "m.pkl", True, "pickle.dump", [1])],
    )
    found = {one.rule: one for one in examine_notebook(notebook(tmp_path, HEAD, SPLIT, FIT), run)}
    assert "unpinned-import" not in found
    assert found["pickled-main-class"].cell == 2


def test_a_choice_tells_time_and_threshold(tmp_path: Path) -> None:
    choice = Choice("classification", 1, "model", 0, "", 1, "model", 0, 0, False, (), Target("y", True), "t", "",
                    Split("random"), 0, Threshold("limit", 0.3, 2, 2, 3, tuned_on="test"))  # fmt: skip
    found = examine_notebook(notebook(tmp_path, HEAD, SPLIT, FIT), None, choice)
    assert [(one.rule, one.cell, one.line) for one in found] == [
        ("random-time-split", 1, 3),
        ("threshold-tuned-on-test", 2, 3),
    ]


@pytest.mark.parametrize("rule", ["unpinned-import", "tests-missing", "unused-import"])
def test_what_adoption_puts_right_is_left_out(tmp_path: Path, rule: str) -> None:
    cells = [f"{HEAD}\nimport os\ndef f(x):\n    return x", SPLIT, FIT]
    choice = Choice("classification", 1, "model", 0, "", 1, "model", 0, 0, False, (), Target("y", True), "", "",
                    Split("random"), 0)  # fmt: skip
    assert rule in {one.rule for one in examine_notebook(notebook(tmp_path, *cells))}
    assert rule not in {one.rule for one in examine_notebook(notebook(tmp_path, *cells), None, choice)}
