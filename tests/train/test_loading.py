"""The project's own load function, a model that takes raw rows, and one that answers whole tables only."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from trilho.errors import DataError, Refused, StepFailed
from trilho.project import Project
from trilho.train.loading import load_tables

TOML = """
[model]
name = "vendas"
task = "regression"
target = "total"
time = "dia"
[data]
source = "data/vendas.csv"
[steps]
load = "vendas.load:load"
train = "vendas.fit:fit"
[train]
holdout = "last 20 days"
"""
LOAD = """
import pandas as pd

def load(path):
    rows = pd.read_csv(path, sep=";", decimal=",", encoding="latin-1", parse_dates=["dia"], dayfirst=True)
    return rows.assign(total=rows["preço"] * rows["peças"])
"""
FIT = """
from dataclasses import dataclass
import numpy as np
import pandas as pd

@dataclass(frozen=True)
class Model:
    rate: dict[str, float]
    before: int

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        past = rows["peças"].shift(self.before).fillna(0) if self.before else 0 * rows["peças"]
        return (rows["loja"].map(self.rate) * rows["peças"] + past).to_numpy()

def fit(rows: pd.DataFrame, target: pd.Series) -> Model:
    rate = target.groupby(rows["loja"]).sum() / rows.groupby("loja")["peças"].sum()
    return Model(rate.to_dict(), BEFORE)
"""


def write_project(folder: Path, before: int = 0) -> Path:
    package = folder / "src" / "vendas"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "load.py").write_text(LOAD)
    (package / "fit.py").write_text(FIT.replace("BEFORE", str(before)))
    (folder / "trilho.toml").write_text(TOML + ("[serve]\nbatch_only = true\n" if before else ""))
    lines = [
        f"{'São Paulo' if i % 2 else 'Avaré'};{1 + i % 28:02d}/{1 + i // 28:02d}/2024;{2 + i % 2},50;{i % 9}"
        for i in range(240)
    ]
    lines.insert(0, "loja;dia;preço;peças")
    (folder / "data").mkdir()
    (folder / "data" / "vendas.csv").write_text("\n".join(lines) + "\n", encoding="latin-1")
    return folder


@pytest.fixture
def project(tmp_path: Path, project_python: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("TRILHO_PYTHON", str(project_python))
    return Project.open(write_project(tmp_path / "vendas"))


def manifest(project: Project, version: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project.package(version) / "manifest.json").read_text())
    return found


def test_a_project_reads_its_files_its_own_way_and_its_model_takes_raw_rows(project: Project) -> None:
    outcome = project.train()
    assert (outcome.error, outcome.version) == (None, 1)
    assert outcome.metrics["mae"] == pytest.approx(0, abs=1e-9)
    told = manifest(project, 1)
    assert told["features"] == ""
    assert {field["name"]: field["type"] for field in told["signature"]} == {
        "loja": "string", "dia": "timestamp", "preço": "number", "peças": "integer",
    }  # fmt: skip
    sample = json.loads((project.package(1) / "sample.json").read_text())
    row = sample["rows"][0]
    assert sample["predictions"][0] == pytest.approx({"Avaré": 2.5, "São Paulo": 3.5}[row["loja"]] * row["peças"])


def test_an_unchanged_file_is_not_read_again_and_a_changed_one_is(project: Project) -> None:
    (first,) = project.tables()
    stamp = first.stat().st_mtime_ns
    assert project.tables() == [first]
    assert first.stat().st_mtime_ns == stamp
    file = project.folder / "data" / "vendas.csv"
    file.write_bytes(file.read_bytes() + "Avaré;01/12/2024;2,50;3\n".encode("latin-1"))
    assert project.tables() != [first]


def test_a_changed_load_reads_again_and_a_comment_does_not(project: Project) -> None:
    (first,) = project.tables()
    module = project.source / "vendas" / "load.py"
    module.write_text("# read as the shop writes it\n" + module.read_text())
    assert project.tables() == [first]
    module.write_text(module.read_text().replace('rows["preço"] *', '2 * rows["preço"] *'))
    assert project.tables() != [first]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def load(path):\n    return 3\n", "returned int; a DataFrame is wanted"),
        ("def load(path):\n    raise OSError('no sheet')\n", "OSError: no sheet"),
        ("import pandas as pd\ndef load(path):\n    return pd.DataFrame({1: [2]})\n", "named a column 1"),
        ("import pandas as pd\ndef load(path):\n    return pd.DataFrame({'a': [1, 'x']})\n", "a column cannot be kept"),
    ],
)
def test_a_load_that_gives_no_table_says_so(project: Project, code: str, words: str) -> None:
    (project.source / "vendas" / "load.py").write_text(code)
    with pytest.raises(StepFailed, match=words):
        project.tables()
    assert not list((project.home / "cache" / "loaded").rglob("*.parquet"))


def test_a_missing_file_is_told(tmp_path: Path, project_python: Path) -> None:
    folder = write_project(tmp_path / "p")
    absent = folder / "data" / "absent.csv"
    with pytest.raises(DataError, match=r"absent\.csv: no such file"):
        load_tables([absent], "vendas.load:load", folder / "src", project_python, tmp_path / "home")


def test_a_model_of_whole_tables_is_packed_and_gets_no_endpoint(
    tmp_path: Path, project_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRILHO_PYTHON", str(project_python))
    project = Project.open(write_project(tmp_path / "vendas", before=1))
    outcome = project.train()
    assert (outcome.error, outcome.version) == (None, 1)
    assert manifest(project, 1)["batch_only"] is True
    assert json.loads((project.package(1) / "sample.json").read_text())["rows"] == []
    with pytest.raises(Refused, match="vendas answers whole tables only"):
        project.plan_release(1, force=True)


def test_the_same_model_without_saying_so_is_not_packed(
    tmp_path: Path, project_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRILHO_PYTHON", str(project_python))
    folder = write_project(tmp_path / "vendas", before=1)
    toml = folder / "trilho.toml"
    toml.write_text(toml.read_text().replace("batch_only = true", "batch_only = false"))
    outcome = Project.open(folder).train()
    assert outcome.version is None
    assert "looks at other rows" in str(outcome.error) or "served as JSON" in str(outcome.error)


def test_files_of_the_same_name_do_not_share_a_table(tmp_path: Path, project_python: Path) -> None:
    folder = write_project(tmp_path / "p")
    other = folder / "data" / "more" / "vendas.csv"
    other.parent.mkdir()
    other.write_bytes((folder / "data" / "vendas.csv").read_bytes().replace(b";8\n", b";7\n"))
    files = [folder / "data" / "vendas.csv", other]
    tables = load_tables(files, "vendas.load:load", folder / "src", project_python, tmp_path / "home")
    assert len(set(tables)) == 2
    assert {os.path.basename(table) for table in tables} == {"vendas.parquet"}  # noqa: PTH119
