"""Labels that are texts, all the way: asked by id, joined, measured by the watch, and a rollout is decided by them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.runtime.serving import NOTEBOOKS, ROOT, call, notebooks_environment, until

from trilho import loops
from trilho.backends.local.watch_store import LocalWatchStore
from trilho.config import Settings
from trilho.core import records as r
from trilho.loops import ServeLoop
from trilho.project import Project
from trilho.release.betting import BINS, mean_of
from trilho.watch.monitor import Monitor

MAKE = """
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from trilho_runtime.model.packing import package

folder = Path(sys.argv[1])
rng = np.random.default_rng(5)
rows = pd.DataFrame({"x": rng.normal(size=600), "z": rng.normal(size=600)})
truth = np.where(rows["x"] > 0.4, "high", np.where(rows["x"] < -0.4, "low", "7"))
good = LogisticRegression(C=100).fit(rows, truth)
bad = LogisticRegression(C=100).fit(rows, rng.permutation(truth))
for name, model in (("good", good), ("bad", bad)):
    package(model, rows, name="kinds", out=folder / name, y=truth, target="kind")
asked = rows.head(240)
told = {"rows": asked.to_dict("records"), "truth": truth[:240].tolist(), "classes": good.classes_.tolist()}
told |= {name: model.predict_proba(asked).tolist() for name, model in (("good", good), ("bad", bad))}
(folder / "told.json").write_text(json.dumps(told))
"""
AT_ONCE = 10


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two packages of three classes, texts all of them, one of which looks like a number; what both say of rows."""
    if not NOTEBOOKS.exists():
        pytest.skip("tests/notebooks/.venv is absent: make tests/notebooks/.venv")
    folder = tmp_path_factory.mktemp("kinds")
    command = [str(NOTEBOOKS), "-c", MAKE, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=notebooks_environment())
    assert done.returncode == 0, done.stderr
    return folder


def settings(metric: str = "auto") -> Settings:
    return Settings.model_validate(
        {
            "model": {"name": "kinds", "task": "classification", "target": "kind"},
            "data": {"source": "data.csv"},
            "steps": {"features": "kinds.features:build", "train": "kinds.train:fit"},
            "gate": {"metric": metric},
            "serve": {"canary": [50, 100], "canary_requests": 100_000},
            "watch": {"window": "1 day"},
        }
    )


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("TRILHO_PYTHON", str(NOTEBOOKS))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "runtime" / "src"))
    monkeypatch.setattr(loops, "LABEL_SECONDS", 0.0)
    project = Project(tmp_path / "kinds", settings(), home=tmp_path / "home")
    for number, name in ((1, "good"), (2, "bad")):
        project.record(
            r.VersionPackaged(
                model="kinds", version=number, run=f"run-{number}", dataset="d" * 64,
                package=project.store.put(made / name), metric="log_loss", metrics={}, commit=None, commit_time=None,
                data_until=None,
            )
        )  # fmt: skip
    return project


@pytest.fixture
def loop(project: Project) -> Iterator[ServeLoop]:
    made = ServeLoop(project)
    yield made
    made.stop()


def turning(loop: ServeLoop, happens: Callable[[], Any], what: str) -> Any:
    def turn() -> Any:
        loop.once()
        return happens()

    return until(turn, seconds=60, what=what)


def ask_and_tell(address: str, told: dict[str, Any]) -> list[tuple[int, dict[str, float], str]]:
    """Ask for all rows, tell what came true of each, and give version, answer and truth of each."""
    found = []
    for start in range(0, len(told["rows"]), AT_ONCE):
        rows, truth = (told[name][start : start + AT_ONCE] for name in ("rows", "truth"))
        reply = call(address, "/predict", {"instances": rows})
        assert reply.status == 200, reply.body
        labels = [{"id": id_, "value": value} for id_, value in zip(reply.json["ids"], truth, strict=True)]
        assert call(address, "/labels", {"labels": labels}).json == {"accepted": len(rows), "repeated": 0, "refused": 0}
        found += [(reply.json["version"], p, value) for p, value in zip(reply.json["predictions"], truth, strict=True)]
    return found


def half_brier(answer: dict[str, float], truth: str) -> float:
    return sum((p - (name == truth)) ** 2 for name, p in answer.items()) / 2


def test_texts_told_by_id_decide_a_rollout_and_are_measured_by_the_watch(
    project: Project, loop: ServeLoop, made: Path, tmp_path: Path
) -> None:
    told = json.loads((made / "told.json").read_bytes())
    project.release(1, force=True)
    turning(loop, lambda: project.state().champion == 1, "version 1 serves")
    project.release(2, force=True, why="a worse one")
    status = turning(
        loop, lambda: (s := project.endpoint()) and s.versions.get(2) == "ready" and s.address and s, "version 2 is up"
    )
    turning(loop, lambda: (rollout := project.state().rollout) is not None and rollout.share == 50, "half of it")
    turning(loop, lambda: len(call(status.address, "/").json["versions"]) == 2, "traffic is split")
    loop.once()  # it looks at the log as it is before the first label
    answered = ask_and_tell(status.address, told)
    wrong = {"labels": [{"id": "nobody.0", "value": "purple"}, {"id": "nobody.1", "value": 7}]}
    assert call(status.address, "/labels", wrong).status == 200  # the router knows no classes
    by_version = {n: [(p, value) for version, p, value in answered if version == n] for n in (1, 2)}
    assert min(map(len, by_version.values())) >= 50
    assert project.labels().labelled == len(answered)
    assert (project.labels().impossible, project.labels().unknown) == (2, 0)

    loop.once()
    losses = {n: stats.losses for n, stats in loop._quality.add_to({}).items()}
    for number, pairs in by_version.items():
        assert sum(losses[number]) == len(pairs)
        expected = float(np.mean([half_brier(*pair) for pair in pairs]))
        assert mean_of(losses[number]) == pytest.approx(expected, abs=0.5 / BINS)
    turning(loop, lambda: project.state().rollout is None, "the labels roll it back")
    assert project.state().champion == 1
    records = [x.payload for x in project.journal.read_from() if isinstance(x.payload, r.RolloutEnded)]
    assert (records[-1].outcome, records[-1].version) == ("rolled back", 2)
    assert "labelled rows" in records[-1].why

    pairs = by_version[1]
    by_hand = {
        "accuracy": float(np.mean([max(p, key=lambda name: p[name]) == value for p, value in pairs])),
        "log_loss": float(-np.mean([np.log(p[value]) for p, value in pairs])),
        "brier": float(np.mean([half_brier(*pair) for pair in pairs])),
    }
    later = datetime.now(UTC) + timedelta(days=2)
    for metric, expected in {**by_hand, "auto": by_hand["log_loss"]}.items():
        store = LocalWatchStore(tmp_path / f"{metric}.sqlite")
        monitor = Monitor("kinds", 1, made / "good", settings(metric), store)
        readings = monitor.observe(project.log, later).readings
        found = [x for x in readings if x.version == 1]
        assert sum(x.labelled for x in found) == len(pairs)
        value = sum((x.value or 0.0) * x.labelled for x in found) / len(pairs)
        assert value == pytest.approx(expected, rel=1e-9)
        assert monitor.limit is not None
        assert monitor.loss is not None
