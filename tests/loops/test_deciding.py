"""The whole way of a decision and of a past: trained, released, served, labelled, looked up, changed under traffic."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.runtime.serving import call, until
from tests.train.test_history import DAYS, TOML, learnt, row, sold, wanted, write_project

from trilho import deciding, scoring
from trilho.loops import ServeLoop, WatchLoop
from trilho.project import Project

MAY = date(2024, 5, 1)
RULE = """
LIMIT = 40


def decide(score, row):
    return "order" if score > LIMIT else "wait"
"""


@pytest.fixture(autouse=True)
def _python(project_python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRILHO_PYTHON", str(project_python))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    assert 'features = "vendas.features:build"' in TOML
    folder = write_project(tmp_path / "vendas", toml=("[steps]", '[steps]\ndecide = "vendas.decide:decide"'))
    (folder / "src" / "vendas" / "decide.py").write_text(RULE)
    return Project.open(folder)


@pytest.fixture
def served(project: Project) -> Iterator[ServeLoop]:
    outcome = project.train()
    assert (outcome.error, outcome.version) == (None, 1)
    project.release(1, force=True)
    loop = ServeLoop(project)
    yield loop
    loop.stop()


def turning(loop: ServeLoop, happens: Callable[[], Any]) -> Any:
    def turn() -> Any:
        loop.once()
        return happens()

    return until(turn, seconds=30)


def ask(address: str, shop: str, day: int) -> dict[str, Any]:
    reply = call(address, "/predict", {"instances": [row(shop, day)]})
    assert reply.status == 200, reply.body
    found: dict[str, Any] = reply.json["predictions"][0]
    return found


def read(folder: Path) -> list[Any]:
    query = f"SELECT loja, _prediction, _decision, _decision_version FROM '{folder}/**/*.parquet' ORDER BY loja"
    return duckdb.execute(query).fetchall()


def labelled(project: Project, day: int) -> Path:
    """Write a table of a day's rows with what was sold."""
    table = project.folder / "labelled.csv"
    rows = [row(shop, day) | {"vendas": sold(shop, day)} for shop in ("Avaré", "São Paulo")]
    table.write_text("loja,dia,promo,vendas\n" + "".join(",".join(map(str, r.values())) + "\n" for r in rows))
    return table


def test_a_day_that_was_labelled_is_the_past_of_the_next_and_the_decision_changes_apart(
    served: ServeLoop, project: Project
) -> None:
    state = project.state()
    assert (state.decision, state.decisions[1].run) == (1, state.versions[1].run)
    status = turning(served, lambda: (s := project.endpoint()) and s.versions.get(1) == "ready" and s.address and s)
    bias, shop = learnt(0, DAYS - 20), "Avaré"
    watch = WatchLoop(project)
    for day in range(DAYS, DAYS + 3):
        found = ask(status.address, shop, day)
        assert found["score"] == pytest.approx(wanted(shop, day, bias), rel=1e-9)
        assert (found["decision"], found["decision_version"]) == ("order" if found["score"] > 40 else "wait", "1")
        label = {"labels": [{"id": found["id"], "value": sold(shop, day)}]}
        assert call(status.address, "/labels", label).status == 200
        watch.once()
        assert project.past.extent().rows == day - DAYS + 1
    server = served.supervisor.servers.running[1]
    store = call(str(server.address), "/").json["history"]["store"]
    assert store == {"state": "read", "asked": {"looked_up": 3, "failed": 0}}

    (project.source / "vendas" / "decide.py").write_text(RULE.replace("40", "0"))
    plan = deciding.release(project, None, "order everything")
    assert "of 3 scores that were served last" in plan.lines[1]
    turning(served, lambda: ask(status.address, shop, DAYS)["decision_version"] == "2")
    assert ask(status.address, shop, DAYS)["decision"] == "order"
    deciding.rollback(project, "too much")
    turning(served, lambda: ask(status.address, shop, DAYS)["decision_version"] == "1")
    assert served.supervisor.servers.running[1].pid == server.pid
    watch.stop()

    table, asked = project.folder / "tomorrow.csv", [row(shop, DAYS + 3), row("São Paulo", DAYS)]
    table.write_text("loja,dia,promo\n" + "".join(f"{r['loja']},{r['dia']},{r['promo']}\n" for r in asked))
    request = scoring.Request(source="tomorrow.csv", to="scores", dates=scoring.span(*2 * (MAY,)), whole=True)
    (outcome,) = scoring.score_table(project, request)
    found_rows = read(project.folder / "scores" / "current")
    assert outcome.scored[1].decision == 1
    for (found_shop, prediction, decision, number), day in zip(found_rows, (DAYS + 3, DAYS), strict=True):
        assert prediction == pytest.approx(wanted(found_shop, day, bias), rel=1e-9)
        assert (decision, number) == ("order" if prediction > 40 else "wait", 1)
    assert [outcome.unchanged for outcome in scoring.score_table(project, request)] == [[1]]
    project.load_past(labelled(project, DAYS + 3))
    assert [list(outcome.scored) for outcome in scoring.score_table(project, request)] == [[1]]


def test_a_training_tries_its_decision_before_it_takes_its_time(project: Project) -> None:
    (project.source / "vendas" / "decide.py").write_text("import nowhere\n\ndef decide(score):\n    return 1\n")
    with pytest.raises(Exception, match="No module named 'nowhere'"):
        project.train()
    assert project.state().runs == {}


def test_a_store_that_is_gone_costs_the_newer_past_and_no_answer(served: ServeLoop, project: Project) -> None:
    status = turning(served, lambda: (s := project.endpoint()) and s.versions.get(1) == "ready" and s.address and s)
    shutil.rmtree(project.past_file.parent)
    found = ask(status.address, "Avaré", DAYS)
    assert found["score"] == pytest.approx(wanted("Avaré", DAYS, learnt(0, DAYS - 20)), rel=1e-9)
    text = call(str(served.supervisor.servers.running[1].address), "/metrics").body.decode()
    assert 'trilho_history_failed_total{version="1"} 1' in text
