"""Planted challengers through the whole line: worse on one slice, too slow, incompatible, and the good one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests import line_project
from tests.line.rig import Verbs
from tests.line_project import write_project, write_rows

from trilho.core import records as r
from trilho.project import Project
from trilho.serve import trial
from trilho.serve.certificate import certificate_path, read_certificate

SETTINGS = """[train]
holdout = "last 40 days"
history = "all"
[gate]
slices = ["shop"]
size = "2 MB"
latency = "200 ms"
[serve]
peak = "20 rows/s"
"""
TOML = line_project.TOML + SETTINGS
FEATURES = "def build(frame):\n    return frame[['x', 'shop']]\n"
TRAIN = """
import time

import numpy as np

NOISE = {"a": 3.0, "b": 3.0, "c": 3.0}
SLEEP = 0.0


class Model:
    def predict(self, X):
        x = X["x"].to_numpy(dtype=float)
        if len(X) == 1 and x[0] > 80:
            time.sleep(SLEEP)
        return 2 * x + np.sin(x * 12345.0) * X["shop"].map(NOISE).to_numpy(dtype=float)


def fit(X, y):
    return Model()
"""


def made_rows(more: str = "") -> str:
    return (
        "SELECT 'r' || i AS id, TIMESTAMP '2020-01-01' + INTERVAL (i) HOUR AS ts, (i * 37 % 1009) / 10.0 AS x, "
        f"substr('abc', 1 + i % 3, 1) AS shop{more}, 2 * ((i * 37 % 1009) / 10.0) AS y FROM range(2000) t(i)"
    )


@pytest.fixture
def line(tmp_path: Path, project_python: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRILHO_PYTHON", str(project_python))
    monkeypatch.setenv("TRILHO_HOME", str(tmp_path / "home"))
    for name, seconds in (("LATENCY_SECONDS", 0.5), ("PEAK_SECONDS", 0.5), ("RECORD_SECONDS", 0.2)):
        monkeypatch.setattr(trial, name, seconds)
    return write_project(tmp_path / "line", SETTINGS, made_rows(), features=FEATURES, train=TRAIN)


def plant(folder: Path, **changes: object) -> None:
    text = TRAIN
    for name, value in changes.items():
        text = re.sub(rf"^{name} = .*$", f"{name} = {value!r}", text, flags=re.MULTILINE)
    (folder / "src" / "line" / "train.py").write_text(text)


def test_planted_challengers_get_the_right_verdicts(line: Path) -> None:
    trilho, project = Verbs(line), Project.open(line)
    first = project.train()
    assert (first.state, first.version, first.verdict) == ("succeeded", 1, "pass"), first.error or first.reason
    kept = read_certificate(project.home, "line", 1)
    assert kept is not None
    assert kept.verdict == "pass"
    assert project.state().versions[1].certified == kept  # the gate asks for a latency: it was tried with the verdict
    released = trilho("release", "1", "--json")
    assert released.code == 0, released.err
    assert "it bears the peak of 20 rows/s" in released.json["plan"][-1]
    assert read_certificate(project.home, "line", 1) == kept  # it was not tried again
    project.record(r.VersionServed(model="line", version=1, rollout=None, endpoint="here"))

    plant(line, NOISE={"a": 1.0, "b": 1.0, "c": 6.0})
    uneven = project.train()
    assert (uneven.version, uneven.verdict) == (2, "fail")
    assert uneven.reason.startswith("no worse by shop: shop c (")
    shown = trilho("models", "show", "2")
    assert "fail no worse by shop: shop c (" in shown.out
    assert "pass better than the champion: " in shown.out
    assert "pass latency: 99 in 100 of " in shown.out

    plant(line, NOISE={"a": 1.0, "b": 1.0, "c": 1.0}, SLEEP=0.25)
    slow = project.train()
    assert (slow.version, slow.verdict) == (3, "fail")
    assert slow.reason.startswith("latency: 99 in 100 of ")

    plant(line, NOISE={"a": 1.0, "b": 1.0, "c": 1.0})
    good = project.train()
    assert (good.version, good.verdict) == (4, "pass"), good.reason
    gate = project.state().versions[4].gate
    assert gate is not None
    assert [x["name"] for x in gate.evidence["checks"]] == [
        "better than the champion", "no worse by shop", "size", "callers", "answers", "latency", "peak",
    ]  # fmt: skip
    assert {x["verdict"] for x in gate.evidence["checks"]} == {"pass"}
    assert {x["value"]: x["verdict"] for x in gate.evidence["slices"]} == dict.fromkeys("abc", "pass")

    write_rows(line, made_rows(", i % 5 AS extra"))
    strict = project.train()
    assert (strict.version, strict.verdict) == (5, "fail")
    assert strict.reason == "callers: the champion's callers would break: extra is new and may not be null"


def test_a_release_is_tried_first_and_refused_where_the_server_fails(line: Path) -> None:
    toml = line / "trilho.toml"
    toml.write_text(TOML.replace('latency = "200 ms"\n', "").replace("20 rows/s", "200000 rows/s"))
    trilho, project = Verbs(line), Project.open(line)
    assert project.train().verdict == "pass"
    assert not certificate_path(project.home, "line", 1).exists()
    refused = trilho("release", "1")
    assert refused.code == 3
    assert "it is asked 200000 rows a second" in refused.out  # progress
    fact, hint = refused.err.splitlines()
    assert fact.startswith("version 1 failed before any traffic: peak: ")
    assert "models show 1" in hint
    assert "--force --why" in hint
    assert project.state().champion is None
    told = json.loads(certificate_path(project.home, "line", 1).read_text())
    assert (told["verdict"], told["conditions"]["peak"]) == ("fail", 200000.0)
    shown = trilho("models", "show", "1").out
    assert re.search(r"^  server +fail: peak: ", shown, re.MULTILINE)
    assert "pass answers: 50 stored rows, alone and with others, in 59 requests" in shown
    assert trilho("models", "show", "1", "--json").json["certificate"]["verdict"] == "fail"
    forced = trilho("release", "1", "--force", "--why", "nobody comes at night", "--json")
    assert (forced.code, forced.json["champion"]) == (0, 1)
    assert "released all the same" in forced.json["plan"][-1]
    certified = Project.open(line).state().versions[1].certified
    assert certified is not None
    assert certified.verdict == "fail"


def test_settings_that_cannot_be_judged_are_named_before_anything_runs(line: Path) -> None:
    trilho = Verbs(line)
    toml = line / "trilho.toml"
    toml.write_text(TOML.replace('slices = ["shop"]', 'slices = ["shops"]'))
    said = trilho("train")
    assert said.code == 2
    assert "gate.slices has 'shops', and the data has no such column" in said.err
    assert "did you mean 'shop'?" in said.err
    toml.write_text(TOML.replace("[gate]\n", "[gate]\ncalibration = 0.05\n"))
    said = trilho("train")
    assert said.code == 2
    assert "gate.calibration is set, and the task is regression" in said.err
