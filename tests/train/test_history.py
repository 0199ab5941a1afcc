"""[history]: a model of lags, from the table it is trained on to rows that are asked alone over HTTP."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.serving import Launcher, call

from trilho.config import load_settings
from trilho.core.records import RolloutEnded, RolloutStarted
from trilho.data.contract import Contract
from trilho.errors import ConfigError
from trilho.pipeline.definition.document import load_definition, read_interfaces
from trilho.pipeline.rules.check import check
from trilho.project import Project
from trilho.train.pipeline import training_pipeline

TOML = """
[model]
name = "vendas"
task = "regression"
target = "vendas"
time = "dia"
[data]
source = "data/vendas.csv"
[steps]
features = "vendas.features:build"
train = "vendas.fit:fit"
[history]
entity = ["loja"]
rows = 8
[train]
holdout = "last 20 days"
"""
FEATURES = """
import pandas as pd

def build(df: pd.DataFrame) -> pd.DataFrame:
    past = df.sort_values(["loja", "dia"])
    sold = past.groupby("loja")["vendas"]
    made = past[["promo"]].assign(
        lag_1=sold.shift(1),
        week=sold.transform(lambda s: s.shift(1).rolling(7).sum()),
        rise=sold.shift(1) - sold.shift(8),
    )
    return made.dropna()
"""
FIT = """
from dataclasses import dataclass
import numpy as np
import pandas as pd

@dataclass(frozen=True)
class Model:
    bias: float

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        return (self.bias + X["lag_1"] + X["week"] / 10 + X["rise"] / 3 + 5 * X["promo"]).to_numpy()

def fit(X: pd.DataFrame, y: pd.Series) -> Model:
    return Model(float(np.mean(y - Model(0.0).predict(X))))
"""
RAW_MODEL = """
from dataclasses import dataclass
import numpy as np
import pandas as pd
from vendas.features import build

@dataclass(frozen=True)
class Model:
    bias: float

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        X = build(rows).reindex(rows.index)
        return (self.bias + X["lag_1"] + X["week"] / 10 + X["rise"] / 3 + 5 * X["promo"]).to_numpy()

def fit(rows: pd.DataFrame, y: pd.Series) -> Model:
    return Model(float(np.nanmean(y - Model(0.0).predict(rows))))
"""
DAYS = 90
START = date(2024, 1, 1)
SHOPS = ("São Paulo", "Avaré")


def sold(shop: str, day: int) -> int:
    return (day * day * 7 + 13 * day) % 31 + (40 if shop == "Avaré" else 0)


def promoted(day: int) -> int:
    return int(day % 5 == 0)


def row(shop: str, day: int) -> dict[str, Any]:
    return {"loja": shop, "dia": (START + timedelta(days=day)).isoformat(), "promo": promoted(day)}


def wanted(shop: str, day: int, bias: float) -> float:
    """What the model says by hand."""
    week = sum(sold(shop, day - back) for back in range(1, 8))
    rise = sold(shop, day - 1) - sold(shop, day - 8)
    return bias + sold(shop, day - 1) + week / 10 + rise / 3 + 5 * promoted(day)


def learnt(first: int, end: int) -> float:
    """The bias by hand: the mean error of the rows that have a whole past."""
    errors = [sold(s, day) - wanted(s, day, 0.0) for s in SHOPS for day in range(first + 8, end)]
    return sum(errors) / len(errors)


def write_project(folder: Path, **changes: tuple[str, str]) -> Path:
    """Write the project; a change of toml, features or fit is (what stands there, what shall)."""
    package = folder / "src" / "vendas"
    package.mkdir(parents=True)
    texts = {"toml": TOML, "features": FEATURES, "fit": FIT}
    for name, (old, new) in changes.items():
        assert old in texts[name]
        texts[name] = texts[name].replace(old, new)
    (package / "__init__.py").write_text("")
    (package / "features.py").write_text(texts["features"])
    (package / "fit.py").write_text(texts["fit"])
    (folder / "trilho.toml").write_text(texts["toml"])
    (folder / "data").mkdir()
    write_rows(folder, DAYS)
    return folder


def write_rows(folder: Path, days: int) -> None:
    lines = ["loja,dia,promo,vendas"]
    for day in range(days):
        lines += [f"{shop},{row(shop, day)['dia']},{promoted(day)},{sold(shop, day)}" for shop in SHOPS]
    (folder / "data" / "vendas.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(autouse=True)
def _python(project_python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRILHO_PYTHON", str(project_python))


@pytest.fixture
def launch(tmp_path: Path, project_python: Path) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path, project_python)
    yield launcher
    launcher.end()


def trained(folder: Path) -> tuple[Project, float]:
    """Train, and give the bias of the model that was fitted."""
    project = Project.open(folder)
    outcome = project.train()
    assert (outcome.error, outcome.version) == (None, 1)
    return project, learnt(0, DAYS - 20)


@pytest.mark.parametrize("raw", [False, True], ids=["features", "model"])
def test_rows_alone_over_http_are_answered_as_the_whole_table(tmp_path: Path, launch: Launcher, raw: bool) -> None:
    folder = write_project(tmp_path / "vendas")
    if raw:
        (folder / "src" / "vendas" / "fit.py").write_text(RAW_MODEL)
        toml = folder / "trilho.toml"
        toml.write_text(toml.read_text().replace('features = "vendas.features:build"\n', ""))
    project, bias = trained(folder)
    held = range(DAYS - 20, DAYS)
    mean = sum(abs(sold(s, day) - wanted(s, day, bias)) for s in SHOPS for day in held) / 40
    manifest = json.loads((project.package(1) / "manifest.json").read_text())
    assert manifest["metrics"]["mae"] == pytest.approx(mean)
    told = {"target": "vendas", "time": "dia", "entity": ["loja"], "rows": 8, "entities": 2}
    assert manifest["history"] == {"file": "history.npz", **told, "until": "2024-03-30T00:00:00"}
    project.plan_release(1, force=True)  # it is not of whole tables only

    address = launch.server(project.package(1)).wait_until_ready()
    asked = [row("Avaré", DAYS), row("São Paulo", DAYS), row("Avaré", DAYS - 1), row("Avaré", DAYS + 5)]
    answer = call(address, "/predict", {"instances": asked})
    assert answer.status == 200, answer.body
    days = [DAYS, DAYS, DAYS - 1]
    expected = [wanted(r["loja"], day, bias) for r, day in zip(asked, days, strict=False)]
    late = wanted("Avaré", DAYS, bias) + 5 * (promoted(DAYS + 5) - promoted(DAYS))  # the newest past there is
    assert answer.json["predictions"] == pytest.approx([*expected, late], rel=1e-9)
    alone = [call(address, "/predict", {"instances": [one]}).json["predictions"][0] for one in asked]
    assert alone == answer.json["predictions"]

    told_history = call(address, "/").json["history"]
    assert told_history["asked"] == {"fresh": 4, "stale": 2, "late": 2, "none": 0}
    assert 'trilho_past_total{version="1",past="stale"} 2' in call(address, "/metrics").body.decode()
    past = [row("Avaré", day) | {"vendas": sold("Avaré", day)} for day in range(DAYS - 3, DAYS + 5)]
    told_newer = {"instances": [asked[3], asked[1]], "parameters": {"past": past}}
    newer = call(address, "/predict", told_newer).json["predictions"]
    assert newer == pytest.approx([wanted("Avaré", DAYS + 5, bias), expected[1]], rel=1e-9)
    assert call(address, "/predict", {"instances": [asked[3]]}).json["predictions"] == [alone[3]]  # it was not kept
    short = call(address, "/predict", {"instances": asked, "parameters": {"past": [row("Avaré", DAYS)]}})
    assert (short.status, short.json["error"]) == (422, "past row 0: vendas is missing; wanted a number (never null)")

    unknown = call(address, "/predict", {"instances": [row("Itu", DAYS)]})
    if raw:
        assert unknown.json["error"] == "model: Model predicted nan for row 0"
    else:
        assert unknown.json["error"] == (
            "features: vendas.features:build left out 1 of the 1 rows asked, with 0 past rows given"
        )
    assert unknown.status == 422


def test_a_champion_is_given_the_same_past_as_its_challenger(tmp_path: Path) -> None:
    project, _ = trained(write_project(tmp_path / "vendas", toml=("[train]", "[gate]\nrows = 40\n[train]")))
    way = {"model": "vendas", "rollout": "rollout-1", "version": 1, "why": ""}
    project.record(RolloutStarted(champion=None, steps=[100], **way))  # type: ignore[arg-type]
    project.record(RolloutEnded(outcome="full", champion=1, **way))  # type: ignore[arg-type]
    write_rows(project.folder, DAYS + 30)
    outcome = project.train()
    assert (outcome.error, outcome.version) == (None, 2)
    found = project.state().versions[2].gate
    assert found is not None
    new, old = learnt(0, DAYS + 10), learnt(0, DAYS - 20)
    held = [(s, day) for s in SHOPS for day in range(DAYS + 10, DAYS + 30)]
    for bias, key in ((new, "challenger"), (old, "champion")):
        mean = sum(abs(sold(s, day) - wanted(s, day, bias)) for s, day in held) / len(held)
        assert found.evidence[key] == pytest.approx(mean)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"toml": ("rows = 8", "rows = 7")}, "left out 1 of the 1 rows asked, with 7 past rows given"),
        ({"features": ("lag_1=sold.shift(1)", "lag_1=past['vendas'].fillna(0)")}, "looks at more than a row without"),
        ({"features": ("lag_1=sold.shift(1)", "lag_1=sold.transform('cumsum').shift(2)")}, "the 8 rows of its loja"),
        ({"features": ("return made.dropna()", "return made.fillna(0).reset_index(drop=True)")}, "not in that order"),
        ({"features": ("return made.dropna()", "return made.fillna(0).reset_index(drop=True).iloc[1:]")}, "looks at"),
        ({"features": ("past[[\"promo\"]]", "past[[\"promo\", \"vendas\"]]")}, "gives the target vendas back"),
        ({"toml": ('["loja"]', '["lojas"]')}, "history.entity names lojas; the table has loja, dia, promo"),
        ({"toml": ('entity = ["loja"]', "entity = []")}, "past rows given"),
    ],
)  # fmt: skip
def test_what_a_row_alone_would_not_get_is_refused(
    tmp_path: Path, changes: dict[str, tuple[str, str]], words: str
) -> None:
    outcome = Project.open(write_project(tmp_path / "vendas", **changes)).train()
    assert outcome.version is None
    assert words in str(outcome.error)


@pytest.mark.parametrize(
    ("old", "new", "fact"),
    [
        ('time = "dia"\n', "", "history.rows is 8 without model.time"),
        ("rows = 8\n", "", "history.entity is given without history.rows"),
        ("rows = 8\n", "rows = -1\n", "history.rows is -1"),
        ('["loja"]', '["dia"]', "history.entity names ['dia'], the model's time or target"),
        ("[train]", "[serve]\nbatch_only = true\n[train]", "serve.batch_only is true; allowed: one of them"),
        ("rows = 8\n", "rows = 8\nentities = 1\n", "unknown key history.entities; allowed: entity, rows, source"),
    ],
)
def test_a_history_that_cannot_be_is_answered_in_two_lines(tmp_path: Path, old: str, new: str, fact: str) -> None:
    (tmp_path / "trilho.toml").write_text(TOML.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path)
    assert fact in caught.value.fact
    assert caught.value.hint
    assert os.linesep not in caught.value.fact


@pytest.mark.parametrize("history", ["all", "auto", "latest 365 days"])
def test_every_shape_of_the_pipeline_is_sound_with_a_history(tmp_path: Path, history: str) -> None:
    folder = write_project(tmp_path / "vendas", toml=("[train]", f'[train]\nhistory = "{history}"'))
    settings = load_settings(folder)
    definition = load_definition(
        None, training_pipeline(settings, Contract()), python=Path(sys.executable), source=folder / "src",
        home=tmp_path / "home",
    )  # fmt: skip
    assert check(definition, read_interfaces(definition, folder / "src")) == []
    given = {task.name: dict(task.arguments) for task in definition.tasks}
    for name in ("all", "window"):
        if f"fit-{name}" in given:
            assert given[f"predict-{name}"]["past"] == given[f"fit-{name}"]["table"]
    assert given["score"]["past"] == given["pack"]["train"]
