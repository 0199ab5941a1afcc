"""`decisions`, and `release`, `rollback`, `approve` with --decision: plans on what was served, and what is true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from trilho.core import records as r
from trilho.project import Project

if TYPE_CHECKING:
    from tests.cli.conftest import Made, Verb

RULE = """
from bikes.limits import LIMIT


def decide(score):
    return score >= LIMIT
"""
FIELDS = [
    {"name": "id", "type": "string", "nullable": False},
    {"name": "time", "type": "timestamp", "nullable": False},
    {"name": "vip", "type": "boolean", "nullable": True},
]


@pytest.fixture
def deciding(made: Made) -> Made:
    """A project with a decide function, and a version."""
    toml = made.folder / "trilho.toml"
    toml.write_text(toml.read_text().replace("[steps]", '[steps]\ndecide = "bikes.decide:decide"'))
    package = made.folder / "src" / "bikes"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "decide.py").write_text(RULE)
    limit(made, 50)
    return made


def limit(made: Made, value: float) -> None:
    (made.folder / "src" / "bikes" / "limits.py").write_text(f"LIMIT = {value}\n")


def version(made: Made, number: int, **more: Any) -> None:
    """Record a version whose package says what its rows and predictions are."""
    made.version(number, **more)
    folder = made.folder / "package"
    folder.mkdir(exist_ok=True)
    manifest = {"task": "regression", "signature": FIELDS, "name": "bikes", "number": number}
    sample = {"rows": [{"id": "a", "time": "2024-01-01 02:00+02:00", "vip": True}], "predictions": [60.0]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "sample.json").write_text(json.dumps(sample))
    digest = made.store.put(folder)
    state = Project.open(made.folder).state().versions[number]
    known = {"model": "bikes", "run": state.run, "dataset": state.dataset, "metric": "mae", "metrics": {}}
    made.journal.append(
        r.VersionPackaged(version=number, package=digest, commit=None, commit_time=None, data_until=None, **known),  # type: ignore[arg-type]
        r.GateJudged(model="bikes", version=number, champion=None, verdict="pass", evidence={}),
        actor="ana",
    )


def serve(made: Made, scores: list[float], **fields: Any) -> None:
    """Write what a server logged."""
    folder = made.home / "log" / "bikes" / "predictions"
    folder.mkdir(parents=True)
    lines = [
        {"v": 2, "id": f"r{n}.0", "t": "2024-05-01T10:00:00.000Z", "n": 1, "y": score,
         "x": {"id": f"e{n}", "time": f"2024-01-01T00:{n % 60:02d}:00", "vip": n % 2 == 0, **fields}}
        for n, score in enumerate(scores)
    ]  # fmt: skip
    (folder / "v1-1-1.jsonl").write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines))


def test_the_first_release_of_a_model_releases_its_first_decision(trilho: Verb, deciding: Made) -> None:
    version(deciding, 1)
    plan = trilho("release", "1", "--dry-run", "--json").json
    assert "decision 1 (bikes.decide:decide) decides on its scores" in plan["plan"]
    assert Project.open(deciding.folder).state().decisions == {}
    done = trilho("release", "1", "--json").json
    kinds = [record["type"] for record in done["records"] if record["type"] != "version.certified"]
    assert kinds == ["decision.packaged", "decision.released", "rollout.started", "rollout.ended"]
    listed = trilho("decisions", "--json").json
    assert (listed["decision"], [x["is"] for x in listed["decisions"]]) == (1, ["holds"])


def test_a_decision_is_planned_on_what_was_served_released_and_rolled_back(trilho: Verb, deciding: Made) -> None:
    version(deciding, 1)
    trilho("release", "1")
    serve(deciding, [float(n) for n in range(100)])
    limit(deciding, 70)
    before = deciding.journal.head()
    plan = trilho("release", "--decision", "--dry-run", "--json").json
    assert plan["plan"] == [
        "decision 2 (bikes.decide:decide) decides for bikes instead of decision 1, on every version that serves, within"
        " a second and without a restart",
        "of 100 scores that were served last, 20 (20.0%) would be decided otherwise",
        "before: false 50, true 50",
        "after: false 70, true 30",
    ]
    assert (plan["done"], plan["next"], deciding.journal.head()) == (False, "trilho release --decision", before)
    said = trilho("release", "--decision", "--why", "too many calls")
    assert said.out.splitlines()[-3:] == [
        "Now decision 2 holds for bikes.", "Undo: trilho rollback --decision", "Next: trilho decisions",
    ]  # fmt: skip
    listed = trilho("decisions", "--json").json["decisions"]
    assert [(x["number"], x["is"], x["actor"], x["why"]) for x in listed] == [
        (1, "replaced", "rui", "the first, with version 1"),
        (2, "holds", "rui", "too many calls"),
    ]
    assert listed[1]["evidence"] | {"rows": 100, "changed": 20, "failed": 0} == listed[1]["evidence"]
    assert "20 of 100 (20.0%)" in trilho("decisions").out
    back = trilho("rollback", "--decision", "--why", "the shops asked")
    assert "Now decision 1 holds for bikes." in back.out
    assert "Undo: trilho release --decision 2" in back.out
    again = trilho("release", "--decision", "2", "--json").json
    assert (again["decision"], [x["type"] for x in again["records"]]) == (2, ["decision.released"])
    assert trilho("release", "--decision", "2").code == 2
    assert trilho("release", "--decision").code == 2  # the present code holds
    assert trilho("release", "--decision", "9").code == 2
    assert trilho("release", "--decision", "1", "--hold", "50").code == 2


def test_a_rule_that_looks_at_rows_sees_those_that_were_served(trilho: Verb, deciding: Made) -> None:
    rule = "def decide(score, row):\n    return 1 / row['vip'] > 0 and row['time']\n"
    (deciding.folder / "src" / "bikes" / "decide.py").write_text(rule)
    version(deciding, 1)
    trilho("release", "1")
    check = trilho("decisions", "check", "--json").json
    assert (check["decided"], check["decision"]) == (["2024-01-01T00:00:00"] * 3, 1)
    serve(deciding, [1.0] * 10)
    (deciding.folder / "src" / "bikes" / "decide.py").write_text(rule.replace("row['time']", "'yes'"))
    plan = trilho("release", "--decision", "--dry-run", "--json").json["plan"]
    assert plan[1] == "of 10 scores that were served last, 5 (50.0%) would be decided otherwise"
    assert plan[3:] == [
        'after: "yes" 5, none 5',
        "it fails on 5 of them, which would have no decision: ZeroDivisionError: division by zero",
    ]


def test_without_anything_served_it_is_the_packages_sample(trilho: Verb, deciding: Made) -> None:
    version(deciding, 1)
    trilho("release", "1")
    limit(deciding, 70)
    assert trilho("release", "--decision", "--dry-run", "--json").json["plan"][1] == (
        "of 1 rows of the package's sample, 1 (100.0%) would be decided otherwise"
    )


def test_the_present_code_is_packed_once(trilho: Verb, deciding: Made) -> None:
    first = trilho("decisions", "pack", "--json").json
    again = trilho("decisions", "pack", "--json").json
    assert [(x["number"], x["new"], x["next"]) for x in (first, again)] == [
        (1, True, "trilho release --decision 1"),
        (1, False, "trilho release --decision 1"),
    ]
    limit(deciding, 70)
    assert trilho("decisions", "pack", "--json").json["number"] == 2
    assert trilho("release", "--decision", "--json").json["decision"] == 2


@pytest.mark.parametrize(
    ("rule", "code", "fact"),
    [
        ("def decide(score):\n    return 1 / score\n", 3, "fails on the score 0.0: ZeroDivisionError"),
        ("import nowhere\ndef decide(score):\n    return 1\n", 3, "ModuleNotFoundError"),
        ("def decide(a, b, c):\n    return 1\n", 2, "takes 3 arguments"),
        ("def other(score):\n    return 1\n", 2, "has no function decide"),
    ],
)
def test_what_does_not_decide_is_not_packed(trilho: Verb, deciding: Made, rule: str, code: int, fact: str) -> None:
    (deciding.folder / "src" / "bikes" / "decide.py").write_text(rule)
    for verb in (["decisions", "check"], ["decisions", "pack"], ["release", "--decision"]):
        said = trilho(*verb)
        first, second = said.err.splitlines()
        assert (said.code, fact in first, second.startswith("Hint: ")) == (code, True, True)
    assert Project.open(deciding.folder).state().decisions == {}


def test_an_approval_is_asked_for_as_for_versions(
    trilho: Verb, deciding: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml = deciding.folder / "trilho.toml"
    toml.write_text(toml.read_text() + "\n[gate]\napproval = true\n")
    assert trilho("release", "--decision").code == 4
    packed = trilho("decisions", "pack", "--json").json
    assert packed["next"] == "trilho approve --decision 1"
    assert trilho("approve", "1", "--decision").code == 3  # rui packed it
    monkeypatch.setenv("TRILHO_ACTOR", "eva")
    approved = trilho("approve", "--decision", "1", "--why", "read it", "--json").json
    assert (approved["approved_by"], approved["next"]) == ("eva", "trilho release --decision 1")
    assert trilho("release", "--decision", "--json").json["decision"] == 1


def test_a_project_without_one_says_what_to_set(trilho: Verb, made: Made) -> None:
    assert trilho("decisions", "--json").json["decisions"] == []
    assert "steps.decide is not set" in trilho("decisions", "pack").err
    assert trilho("rollback", "--decision").code == 4


def test_history_is_for_models_that_look_back(trilho: Verb, made: Made, tmp_path: Path) -> None:
    assert "history.rows is 0" in trilho("history").err
    toml = made.folder / "trilho.toml"
    toml.write_text(toml.read_text() + "\n[history]\nrows = 3\n")
    told = trilho("history", "--json").json
    assert (told["rows"], told["until"], told["packaged_until"]) == (0, None, None)
    assert "history.source is not set" in trilho("history", "load").err
