"""Tables scored by models of several kinds, through to the log that is watched."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Made, Verb
from tests.cli.test_score import release
from tests.serve import test_batch as batches
from tests.train import test_history as history

from trilho.core import records as r
from trilho.project import Project
from trilho.serve.segments import LocalPredictionLog

SPAN = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
PACK = """
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import LinearSVC

from trilho_runtime import package

out, rng, n = Path(sys.argv[1]), np.random.default_rng(0), 400
X = pd.DataFrame({
    "id": [f"r{i}" for i in range(n)],
    "at": pd.date_range("2024-02-01", periods=n, freq="h").astype("datetime64[us]"),
    "x": rng.normal(size=n),
    "c": rng.choice(["a", "b"], n),
})
k = np.digitize(X.x, [-0.5, 0.5])
kinds = {
    "strings": np.array(["lo", "mid", "hi"])[k], "ints": np.array([10, 20, 30])[k], "bools": (X.x > 0).to_numpy(),
    "svm": np.array(["lo", "mid", "hi"])[k],
}
for name, y in kinds.items():
    last = LinearSVC(random_state=0) if name == "svm" else LogisticRegression()
    columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["c"]), ("passthrough", ["x"]))
    package(make_pipeline(columns, last).fit(X, y), sample=X, name="multi", out=out / name, time="at", key="id", y=y)
"""
ASK = """
import json
import sys

from trilho_runtime.package import open_package
from trilho_runtime.prediction.entries import Telling
from trilho_runtime.prediction.served import Lines

package, number, rows, ids = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]), json.loads(sys.argv[4])
predictor = open_package(package).load()
scores = predictor.predict_columns(predictor.signature.columns(rows)).tolist()
sys.stdout.buffer.write(Lines(number, predictor.signature, Telling(predictor.outputs)).of(ids, rows, scores))
"""
TOML = """
[model]
name = "multi"
task = "classification"
target = "y"
time = "at"
key = "id"

[data]
source = "data.csv"

[steps]
features = "bikes.features:build"
train = "bikes.train:fit"
"""
ROWS = """
SELECT 'r' || i AS id, TIMESTAMP '2024-03-01 12:00:00' + to_minutes(i % 60) AS at, (i % 17 - 8) / 6.0 AS x,
       chr(97 + CAST(i % 3 AS INT)) AS c FROM range({n}) t(i) ORDER BY i
"""
COMMAND = ("score", "--from", "in.parquet", "--to", "scores", "--at", "2024-03-01")


@pytest.fixture(scope="session")
def kinds(project_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages of models of several kinds."""
    folder = tmp_path_factory.mktemp("kinds")
    done = subprocess.run([project_python, "-c", PACK, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def project_of(made: Made, package: Path, python: Path, monkeypatch: pytest.MonkeyPatch, toml: str = TOML) -> Project:
    """Make a project whose first version is a package, and serves."""
    (made.folder / "trilho.toml").write_text(toml)
    monkeypatch.setenv("TRILHO_PYTHON", str(python))
    digest = made.store.put(package)
    made.journal.append(
        r.VersionPackaged(model="multi", version=1, run="run-1", dataset="d" * 64, package=digest, metric="roc_auc",
                          metrics={"roc_auc": 0.9}, commit=None, commit_time=None, data_until=None)
    )  # fmt: skip
    release(made, 1)
    return Project.open(made.folder)


@pytest.mark.parametrize("kind", ["strings", "ints", "bools", "svm"])
def test_the_log_has_what_a_server_would_have_written(
    made: Made, trilho: Verb, kinds: Path, project_python: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    project = project_of(made, kinds / kind, project_python, monkeypatch)
    batches.rows(Path("in.parquet"), 40, ROWS)
    found = trilho(*COMMAND)
    assert found.code == 0, found.err
    batch = project.log.rows(*SPAN)
    rows = [
        {"id": id_, "at": at.isoformat(), "x": x, "c": c}
        for id_, at, x, c in batches.told("SELECT id, \"at\", x, c FROM 'in.parquet'")
    ]
    order = [next(row for row in rows if row["id"] == id_) for id_ in batch["id"].tolist()]
    ids = batch["_id"].tolist()
    asked = subprocess.run(
        [project_python, "-c", ASK, str(kinds / kind), "1", json.dumps(order), json.dumps(ids)],
        capture_output=True, check=False,
    )  # fmt: skip
    assert asked.returncode == 0, asked.stderr.decode()
    online = logged(Path("online"), asked.stdout)
    assert set(online) == set(batch)
    for name in sorted(set(online) - {"_row", "_served"}):
        if name == "_probabilities":
            assert [list(x) for x in batch[name]] == [pytest.approx(list(x)) for x in online[name]]
        else:
            assert batch[name].tolist() == pytest.approx(online[name].tolist(), nan_ok=True), name
            assert batch[name].dtype == online[name].dtype, name


def logged(folder: Path, lines: bytes) -> Any:
    (folder / "predictions").mkdir(parents=True)
    (folder / "predictions" / "1-1.jsonl").write_bytes(lines)
    log = LocalPredictionLog(folder, "at", "id")
    log.seal()
    return log.rows(*SPAN)


def test_a_model_of_whole_tables_gets_all_rows_at_once(
    made: Made, trilho: Verb, kinds: Path, project_python: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = Path(shutil.copytree(kinds / "strings", tmp_path / "whole"))
    manifest = json.loads((package / "manifest.json").read_text())
    (package / "manifest.json").write_text(json.dumps({**manifest, "batch_only": True}))
    project = project_of(made, package, project_python, monkeypatch)
    batches.rows(Path("in.parquet"), 2500, ROWS)
    assert trilho(*COMMAND, "--part-rows", "1000").code == 0
    assert [file.name for file in Path("scores/version=1/date=2024-03-01").glob("*.parquet")] == ["part-00000.parquet"]
    assert len(set(project.log.rows(*SPAN)["id"].tolist())) == 2500


def test_a_model_of_lags_finds_the_past_of_a_batch_s_rows(
    tmp_path: Path, trilho: Verb, project_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRILHO_PYTHON", str(project_python))
    folder = history.write_project(tmp_path / "vendas")
    monkeypatch.chdir(folder)
    project, bias = history.trained(folder)
    way: dict[str, Any] = {"model": "vendas", "rollout": "rollout-1", "version": 1, "why": ""}
    project.record(r.RolloutStarted(champion=None, steps=[100], **way))
    project.record(r.RolloutEnded(outcome="full", champion=1, **way))
    rows = [history.row(shop, history.DAYS) for shop in history.SHOPS]
    Path("tomorrow.csv").write_text(
        "loja,dia,promo\n" + "".join(f"{x['loja']},{x['dia']},{x['promo']}\n" for x in rows)
    )
    found = trilho("score", "--from", "tomorrow.csv", "--to", "scores", "--at", rows[0]["dia"])
    assert found.code == 0, found.err
    query = "SELECT loja, _prediction FROM read_parquet('scores/current/*/*.parquet', hive_partitioning = false)"
    expected = {shop: history.wanted(shop, history.DAYS, bias) for shop in history.SHOPS}
    assert dict(batches.told(query)) == pytest.approx(expected, rel=1e-9)
    logged_ = project.log.rows(*SPAN)
    assert dict(zip(logged_["loja"].tolist(), logged_["_prediction"].tolist(), strict=True)) == pytest.approx(expected)
