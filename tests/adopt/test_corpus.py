"""The corpus is what it says it is: its cells, run plainly where a data scientist would, give the expected figures."""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.notebooks.corpus import PYTHON, expected, names, run_plainly, write_notebook

from trilho.adopt.forecast import forecast
from trilho.adopt.notebook import read_notebook

WANTED = expected()


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in names():
        write_notebook(tmp_path / "a", name)
        write_notebook(tmp_path / "b", name)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert len(names()) >= 17


@pytest.mark.parametrize("name", names())
def test_every_notebook_is_read(tmp_path: Path, name: str) -> None:
    notebook = read_notebook(write_notebook(tmp_path, name))
    wanted = WANTED[name]
    assert notebook.order == wanted.get("order", "document")
    undefined = [finding for finding in notebook.findings if finding.rule == "undefined-name"]
    assert bool(undefined) == (wanted.get("refused") == "fails")
    told = forecast(notebook)
    local = [access for access in told.reads if access.kind not in ("bigquery", "dataset")]
    assert all(access.exists for access in local)
    assert (
        {access.target for access in told.reads} >= {wanted["main"]} if "main" in wanted and name != "fraud" else True
    )
    assert bool(told.cost.fits.number) == (wanted.get("refused") not in ("trains-nothing", "rules"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    if not PYTHON.exists():
        pytest.skip("make notebooks")
    folder = tmp_path_factory.mktemp("corpus")
    with ThreadPoolExecutor(2) as pool:
        halves = pool.map(lambda chosen: run_plainly(folder, chosen), (names()[::2], names()[1::2]))
        return {name: found for half in halves for name, found in half.items()}


@pytest.mark.parametrize("name", names())
def test_its_cells_give_the_expected_figures(plain: dict[str, dict[str, Any]], name: str) -> None:
    wanted = WANTED[name]
    assert plain[name]["error"] == wanted.get("error", "")
    assert plain[name]["values"] == pytest.approx(wanted["metrics"], rel=1e-9)
    assert wanted.get("metric", "") in ("", *wanted["metrics"])


def test_saved_outputs_hold_what_a_doctor_should_find(tmp_path: Path) -> None:
    text = write_notebook(tmp_path, "churn").read_text(encoding="utf-8")
    assert "@example.com" in text
    assert re.search(r"\b000\.\d{3}\.\d{3}-\d{2}\b", text)
