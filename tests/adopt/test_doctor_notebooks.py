"""Real notebooks: the two shared ones, and the corpus; the right findings at the right places, and few others."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.adopt.doctor_cells import QUIET, places
from tests.notebooks.corpus import expected, names, write_notebook

from trilho.adopt.doctor import examine_notebook
from trilho.adopt.notebook import read_notebook
from trilho.errors import TrilhoError

SHARED = Path(__file__).parents[1] / "notebooks" / "real" / "notebooks"
WANTED = expected()
RIGHT: dict[str, set[tuple[str, int]]] = {
    "credito": {("personal-data", 2), ("pickled-main-class", 8)},
    "energia": set(),
    "sensors": set(),
    "reclamacoes": set(),
    "wages": set(),
    "rides": {("pickled-main-class", 4)},
    "vendas": {("early-stopping-on-test", 8)},
    "stores": {("leakage", 3)},
    "titanic": {("leakage", 8)},
    "houses": {("leakage", 4)},
    "fraud": {("secret", 1), ("leakage", 2), ("leakage", 4), ("resampled-classes", 4)},
    "loans": {("random-time-split", 5), ("selection-on-test", 6)},
}  # fmt: skip
"""All that is to be found in them, but for what every notebook without tests and a lock has."""


def test_the_bikes() -> None:
    found = examine_notebook(read_notebook(SHARED / "01_bikeshare_demand_sklearn.ipynb"))
    assert [place for place in places(found) if place[0] not in QUIET] == [("random-time-split", 6, 4)]
    unused = {(one.line, one.message.split("`")[1]) for one in found if one.rule == "unused-import"}
    assert unused == {(1, "np"), (5, "FunctionTransformer"), (10, "TimeSeriesSplit")}


def test_the_flights() -> None:
    found = examine_notebook(read_notebook(SHARED / "02_flight_delay_xgb.ipynb"))
    assert [
        (*place, one.severity) for place, one in zip(places(found), found, strict=True) if place[0] not in QUIET
    ] == [
        ("leakage", 2, 4, "error"),
        ("leakage", 2, 5, "error"),
        ("mutable-global", 3, 12, "warning"),
        ("early-stopping-on-test", 4, 7, "warning"),
    ]


@pytest.mark.parametrize("name", names())
def test_the_corpus(tmp_path: Path, name: str) -> None:
    try:
        notebook = read_notebook(write_notebook(tmp_path, name))
    except TrilhoError:
        assert "refused" in WANTED[name]["form"]
        return
    found = examine_notebook(notebook)
    assert set(WANTED[name].get("findings", [])) <= {one.rule for one in found}
    assert all(one.cell is not None and one.line and one.message for one in found)
    if name in RIGHT:
        assert {(one.rule, one.cell) for one in found if one.rule not in QUIET} == RIGHT[name]
