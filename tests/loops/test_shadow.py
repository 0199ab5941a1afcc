"""A version in the shadow, with the real supervisor, router and servers, read as a person reads it: by the verbs."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.line.rig import Verbs
from tests.runtime.serving import call, until

from trilho.core import records as r
from trilho.loops import ServeLoop
from trilho.project import Project

EVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
SHOPS = ("rio", "natal", "belem")
TOML = """
home = "home"
[model]
name = "fares"
task = "regression"
target = "fare"
[data]
source = "rows.csv"
[steps]
train = "fares:fit"
[gate]
slices = ["shop"]
[serve]
shadow_requests = 60
canary = [50, 100]
canary_requests = 1000
"""
MODEL = """
class Fares:
    def __init__(self, more, odd=0.0):
        self.more, self.odd = more, odd

    def predict(self, rows):
        fare = 10.0 * rows["km"].to_numpy(float) + rows["shop"].map(self.more).to_numpy(float)
        return fare + self.odd * (rows["km"] == 7.5).to_numpy(float)
"""
PACK = """
import pandas as pd
from fares import Fares
from trilho_runtime.model.packing import package

sample = pd.DataFrame({"km": [float(km) for km in range(1, 41)], "shop": ["rio", "natal", "belem", "rio"] * 10})
package(Fares({"rio": 1.0, "natal": 2.0, "belem": 3.0}), sample, name="fares", target="fare", out="v1")
package(Fares({"rio": 1.0, "natal": 2.0, "belem": 403.0}, -900.0), sample, name="fares", target="fare", out="v2")
"""


@pytest.fixture
def project(tmp_path: Path, project_python: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("TRILHO_PYTHON", str(project_python))
    (tmp_path / "trilho.toml").write_text(TOML)
    (tmp_path / "fares.py").write_text(MODEL)
    (tmp_path / "pack.py").write_text(PACK)
    subprocess.run([str(project_python), "pack.py"], cwd=tmp_path, check=True, timeout=120)
    made = Project.open(tmp_path)
    made.home.mkdir()
    for number in (1, 2):
        made.record(
            r.VersionPackaged(
                model="fares", version=number, run="r", dataset="d", package=made.store.put(tmp_path / f"v{number}"),
                metric="mae", metrics={}, commit=None, commit_time=None, data_until=None,
            )
        )  # fmt: skip
    return made


@pytest.fixture
def loop(project: Project) -> Iterator[ServeLoop]:
    project.release(1, force=True)
    made = ServeLoop(project)
    yield made
    made.stop()


def turning(loop: ServeLoop, happens: Callable[[], Any]) -> Any:
    def turn() -> Any:
        loop.once()
        return happens()

    return until(turn, seconds=30)


def fares_of(loop: ServeLoop, rows: list[dict[str, Any]]) -> list[tuple[str, float, int]]:
    """Ask for each row; give the id, the fare and the version."""
    found = []
    for row in rows:
        reply = call(str(loop.supervisor.status().address), "/predict", {"instances": [row]})
        assert reply.status == 200, reply.body
        found.append((reply.json["ids"][0], reply.json["predictions"][0], reply.json["version"]))
    return found


def compared(project: Project) -> int:
    return int(((project.standing() or {}).get("shadow") or {}).get("requests", 0))


def test_what_the_shadow_answers_is_compared_and_told_and_given_to_nobody(project: Project, loop: ServeLoop) -> None:
    trilho = Verbs(project.folder)
    turning(loop, lambda: loop.supervisor.status().versions == {1: "ready"} and loop.supervisor.status().running)
    begun = trilho("release", "2", "--shadow", "100", "--force", "--yes", "--why", "new fares of belem")
    assert begun.code == 0, begun.err
    turning(loop, lambda: "shadow" in loop.supervisor.routes.told)
    turning(loop, lambda: loop.supervisor._followed >= loop.supervisor.routes.generation)
    rows: list[dict[str, Any]] = [{"km": 7.5 if at == 4 else float(at % 20), "shop": SHOPS[at % 3]} for at in range(30)]
    answers = fares_of(loop, rows)
    assert [(fare, version) for _, fare, version in answers] == [
        (10 * row["km"] + 1 + SHOPS.index(row["shop"]), 1) for row in rows
    ]
    turning(loop, lambda: compared(project) == 30)

    unseen = (project.standing() or {})["shadow"]
    assert (unseen["rows"], unseen["errors"], unseen["refused"], unseen["dropped"]) == (30, 0, 0, 0)
    assert unseen["slices"]["shop=belem"] == {"rows": 10, "disagreement": 1.0, "mean_difference": 400.0}
    assert unseen["slices"]["shop=rio"] == {"rows": 10, "disagreement": 0.0, "mean_difference": 0.0}
    assert unseen["disagreement"] == pytest.approx(11 / 30, abs=1e-6)
    assert unseen["worst"][0] == {"id": answers[4][0], "difference": -900.0}
    assert unseen["p95_ms"] > 0 < unseen["champion_p95_ms"]

    told = trilho("rollout")
    assert told.code == 0
    for part in ("asked unseen about 100% of requests", "36.7% of 30 rows got another answer in the shadow",
                 "shop=belem", "100.0%", "+400", f"{answers[4][0]} differs by -900",
                 "Waits for 30 more requests compared in the shadow, of 60."):  # fmt: skip
        assert part in told.out
    assert "asked unseen about 100% of requests" in trilho().out
    assert "0% of traffic" not in trilho().out.replace("50% of traffic", "")

    project.log.seal()
    served, shadow = project.log.rows(*EVER), project.log.shadow_rows(*EVER)
    assert Counter(served["_version"].tolist()) == {1: 30}
    assert sorted(served["_id"]) == sorted(shadow["_id"]) == sorted(id_ for id_, *_ in answers)
    gaps = dict(zip(shadow["_id"].tolist(), (shadow["_prediction"] - shadow["_champion"]).tolist(), strict=True))
    assert gaps[answers[4][0]] == -900.0

    fares_of(loop, rows)
    turning(loop, lambda: project.state().shares == {1: 50, 2: 50})
    turning(loop, lambda: loop.supervisor.routes.shares == {1: 50, 2: 50})
    turning(loop, lambda: loop.supervisor._followed >= loop.supervisor.routes.generation)
    assert {version for *_, version in fares_of(loop, rows[:4])} == {1, 2}
    assert trilho("rollback", "--yes", "--why", "too dear").code == 0
    turning(loop, lambda: loop.supervisor.routes.shares == {1: 100})
