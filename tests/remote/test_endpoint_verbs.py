"""`trilho endpoint` against the emulator, as a person uses it."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.remote.test_endpoint_rollout import SERVE, line  # noqa: F401  a fixture

from trilho.cli.app import run
from trilho.core import records as r
from trilho.release import rollout
from trilho.remote.endpoint import endpoint_of

if TYPE_CHECKING:
    from tests.remote.conftest import Google

    from trilho.project import Project
    from trilho.testing.conformance_endpoint import Versions


@pytest.fixture
def at_google(line: Project, google: Google, monkeypatch: pytest.MonkeyPatch) -> Project:  # noqa: F811
    monkeypatch.setenv("TRILHO_AIPLATFORM", google.emulator.aiplatform)
    (google.emulator.root / "line" / "src").mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(line.folder)
    return line


def say(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any], str]:
    capsys.readouterr()
    code = run(["endpoint", *words, "--json"])
    told = capsys.readouterr()
    return code, json.loads(told.out), told.err


def test_an_endpoint_becomes_what_the_journal_says(
    at_google: Project, versions: Versions, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, told, said = say(capsys, "apply", "--env", "prod")
    assert (code, told["error"]) == (4, "no version of line was released")
    at_google.record(*rollout.start(at_google.state(), 1, SERVE, "first"))
    code, told, said = say(capsys, "--env", "prod")
    assert (code, told["versions"], told["shares"], told["wanted"]) == (0, {}, {}, {"1": 100})
    assert "The journal says: 100% version 1." in said
    code, told, said = say(capsys, "apply", "--env", "prod", "--dry-run")
    assert (told["applied"], told["versions"]) == (False, {})
    assert "deploy version 1 of line" in said
    assert "traffic: 100% version 1 (now nothing serves)" in said
    code, told, said = say(capsys, "apply", "--env", "prod", "--yes")
    assert code == 0, told
    assert (code, told["applied"], told["versions"], told["shares"]) == (0, True, {"1": "ready"}, {"1": 100})
    code, told, said = say(capsys, "apply", "--env", "prod")
    assert "the endpoint of line is what the journal says: 100% version 1" in said
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(versions.row)))
    code, told, said = say(capsys, "ask", "-", "--env", "prod")
    assert (code, told["version"], len(told["predictions"])) == (0, 1, 1)
    endpoint_of(at_google, "prod").undeploy(1)


def test_rows_that_are_none_are_refused(at_google: Project, capsys: pytest.CaptureFixture[str]) -> None:
    (at_google.folder / "rows.json").write_text("[")
    assert say(capsys, "ask", "rows.json", "--env", "prod")[1]["error"].startswith("rows.json is not JSON")
    (at_google.folder / "rows.json").write_text("3")
    assert say(capsys, "ask", "rows.json", "--env", "prod")[1]["error"] == "rows.json holds no array of rows"
    assert say(capsys, "ask", "none.json", "--env", "prod")[1]["error"] == "none.json: No such file or directory"


def test_a_plan_names_who_is_asked_unseen(at_google: Project, capsys: pytest.CaptureFixture[str]) -> None:
    of: dict[str, Any] = {"model": "line", "why": ""}
    at_google.record(
        r.RolloutStarted(**of, rollout="o1", version=1, champion=None, steps=[100]),
        r.RolloutEnded(**of, rollout="o1", version=1, outcome="full", champion=1),
        r.RolloutStarted(**of, rollout="o2", version=2, champion=1, steps=[10, 100], shadow=50),
    )
    assert "100% version 1, version 2 asked unseen" in say(capsys, "apply", "--env", "prod", "--dry-run")[2]
