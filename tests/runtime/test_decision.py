"""Decisions: packed from a project's code, loaded apart from it, followed while they change."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trilho_runtime.decision import DecisionError, Following, compare, load_decision, write_decision
from trilho_runtime.serving.rules import FollowedRules
from trilho_runtime.steps.function import StepError


def project(folder: Path, limit: float = 0.5, rule: str = "") -> Path:
    """Write a tiny project whose rule lives in three modules."""
    package = folder / "shop"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "limits.py").write_text(f"LIMIT = {limit}\n")
    (package / "features.py").write_text("import pandas\n")
    text = rule or "from shop.limits import LIMIT\n\ndef decide(score):\n    return score >= LIMIT\n"
    (package / "decide.py").write_text(text)
    return folder


def packed(folder: Path, name: str = "decision", **told: object) -> Path:
    source = project(folder / f"{name}-source", **told)  # type: ignore[arg-type]
    write_decision(source, "shop.decide:decide", folder / name)
    return folder / name


def test_only_what_the_rule_reaches_is_packed(tmp_path: Path) -> None:
    folder = packed(tmp_path)
    manifest = json.loads((folder / "decision.json").read_text())
    assert sorted(manifest["files"]) == ["shop/__init__.py", "shop/decide.py", "shop/limits.py"]
    assert manifest["reference"] == "shop.decide:decide"


def test_the_same_code_is_the_same_decision(tmp_path: Path) -> None:
    source = project(tmp_path / "source")
    first = write_decision(source, "shop.decide:decide", tmp_path / "one")
    second = write_decision(source, "shop.decide:decide", tmp_path / "two")
    (source / "shop" / "features.py").write_text("import numpy\n")
    third = write_decision(source, "shop.decide:decide", tmp_path / "three")
    assert first == second == third
    assert load_decision(tmp_path / "one").digest == first
    (source / "shop" / "limits.py").write_text("LIMIT = .6\n")
    assert write_decision(source, "shop.decide:decide", tmp_path / "four") != first


def test_two_versions_of_one_module_decide_each_by_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = packed(tmp_path, "old", limit=0.5), packed(tmp_path, "new", limit=0.9)
    monkeypatch.syspath_prepend(str(project(tmp_path / "model", limit=0.1)))
    first, second = load_decision(old), load_decision(new)
    import shop.limits  # type: ignore[import-not-found]

    assert [first.decide(0.7, {}), second.decide(0.7, {})] == [True, False]
    assert shop.limits.LIMIT == 0.1
    for name in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
        del sys.modules[name]


def test_imports_inside_the_rule_stay_apart_too(tmp_path: Path) -> None:
    imports = "    from .limits import LIMIT\n    import shop.limits\n"
    rule = f"def decide(score):\n{imports}    return score >= LIMIT == shop.limits.LIMIT\n"
    assert load_decision(packed(tmp_path, rule=rule)).decide(0.6, {}) is True
    assert "shop" not in sys.modules


def test_a_rule_may_see_the_row(tmp_path: Path) -> None:
    rule = "def decide(score, row):\n    return 'review' if row['vip'] else score >= 0.5\n"
    found = load_decision(packed(tmp_path, rule=rule))
    assert [found.decide(0.2, {"vip": True}), found.decide(0.2, {"vip": False})] == ["review", False]


def test_a_second_argument_with_a_default_is_the_row_only_by_name(tmp_path: Path) -> None:
    by_name = "def decide(score, row=None):\n    return row is not None\n"
    other = "def decide(score, limit=0.5):\n    return score >= limit\n"
    assert load_decision(packed(tmp_path, "a", rule=by_name)).decide(0.2, {"x": 1}) is True
    assert load_decision(packed(tmp_path, "b", rule=other)).decide(0.6, {"x": 1}) is True


def test_a_rule_that_fails_leaves_the_row_undecided(tmp_path: Path) -> None:
    rule = "def decide(score):\n    return 1 / score > 1\n"
    found, failed, why = load_decision(packed(tmp_path, rule=rule)).decide_all([0.5, 0.0, 2.0], [{}, {}, {}])
    assert (found, failed, why) == ([True, None, False], 1, "ZeroDivisionError: float division by zero")


@pytest.mark.parametrize(("rule", "answer"), [("[]", "list"), ("object()", "object"), ("{'a': 1}", "dict")])
def test_an_answer_that_is_no_value_is_refused(tmp_path: Path, rule: str, answer: str) -> None:
    found = load_decision(packed(tmp_path, rule=f"def decide(score):\n    return {rule}\n"))
    with pytest.raises(TypeError, match=f"answered a {answer}"):
        found.decide(0.5, {})


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("def other(score):\n    return 1\n", "has no function decide"),
        ("def decide():\n    return 1\n", "takes 0 arguments"),
        ("def decide(a, b, c):\n    return 1\n", "takes 3 arguments"),
        ("def decide(score, *, limit):\n    return 1\n", "takes 1 arguments"),
        ("def decide(score:\n", "is not valid Python"),
    ],
)
def test_what_is_no_decision_is_refused_before_it_is_packed(tmp_path: Path, rule: str, message: str) -> None:
    with pytest.raises(StepError, match=message):
        packed(tmp_path, rule=rule)


def test_a_changed_decision_is_refused_by_the_file_s_name(tmp_path: Path) -> None:
    folder = packed(tmp_path)
    (folder / "code" / "shop" / "limits.py").write_text("LIMIT = 0.0\n")
    with pytest.raises(DecisionError, match=r"limits\.py: its digest"):
        load_decision(folder)
    (folder / "code" / "shop" / "limits.py").write_text("LIMIT = 0.5\n")
    (folder / "code" / "shop" / "more.py").write_text("")
    with pytest.raises(DecisionError, match=r"more\.py is not in the manifest"):
        load_decision(folder)


def test_the_file_is_followed_and_a_broken_decision_changes_nothing(tmp_path: Path) -> None:
    old, new = packed(tmp_path, "old", limit=0.5), packed(tmp_path, "new", limit=0.9)
    file = tmp_path / "decision-that-holds.json"
    following = Following(file)
    following.look()
    assert (following.version, following.decision) == (None, None)
    for version, folder in ((1, old), (2, new)):
        file.write_text(json.dumps({"schema": 1, "version": version, "folder": str(folder)}))
        assert following.changed()
        following.look()
        assert following.version == version
    assert following.decision is not None
    assert following.decision.decide(0.7, {}) is False
    file.write_text(json.dumps({"schema": 1, "version": 3, "folder": str(tmp_path / "nowhere")}))
    following.look()
    assert following.version == 2
    assert "nowhere" in following.problem
    file.unlink()
    following.look()
    assert following.decision is None


def test_a_comparison_counts_what_would_be_decided_otherwise(tmp_path: Path) -> None:
    old, new = packed(tmp_path, "old", limit=0.5), packed(tmp_path, "new", limit=0.9)
    scores = [0.1, 0.6, 0.8, 0.95]
    found = compare(load_decision(old), load_decision(new), scores, [{}] * 4)
    assert (found.rows, found.changed, found.failed) == (4, 2, 0)
    assert (found.before, found.after) == ({"true": 3, "false": 1}, {"false": 3, "true": 1})
    told = json.dumps({"scores": scores})
    command = [sys.executable, "-m", "trilho_runtime.decision", "compare", str(old), str(new)]
    done = subprocess.run(command, input=told, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["changed"] == 2


def test_what_a_rule_changes_of_its_row_stays_its_own(tmp_path: Path) -> None:
    rule = "def decide(score, row):\n    row['x'] = 9\n    score['a'] = 9\n    return row['x'] + score['a']\n"
    found, row, score = load_decision(packed(tmp_path, rule=rule)), {"x": 1}, {"a": 0.5}
    assert found.decide(score, row) == 18
    assert (row, score) == ({"x": 1}, {"a": 0.5})


@pytest.mark.parametrize(("rule", "message"), [("2**63", "more than 64 bits"), ("'\\ud800'", "half a character")])
def test_an_answer_that_json_cannot_carry_is_no_decision(tmp_path: Path, rule: str, message: str) -> None:
    found = load_decision(packed(tmp_path, rule=f"def decide(score):\n    return {rule} if score else 2**63 - 1\n"))
    decided, failed, why = found.decide_all([1.0, 0.0], [{}, {}])
    assert (decided, failed) == ([None, 2**63 - 1], 1)
    assert message in why


def test_a_rule_that_ends_its_process_is_undecided(tmp_path: Path) -> None:
    found = load_decision(packed(tmp_path, rule="def decide(score):\n    raise SystemExit(3)\n"))
    assert found.decide_all([0.5], [{}]) == ([None], 1, "SystemExit: 3")


def test_dataclasses_and_enums_of_the_rule_work_apart(tmp_path: Path) -> None:
    rule = """from __future__ import annotations
from dataclasses import dataclass
from enum import Enum

class Act(Enum):
    CALL = "call"

@dataclass(frozen=True)
class Limit:
    value: float
    act: Act = Act.CALL

def decide(score):
    return Limit(0.5).act.value if score > Limit(0.5).value else None
"""
    found = load_decision(packed(tmp_path, rule=rule))
    assert [found.decide(0.6, {}), found.decide(0.4, {})] == ["call", None]


@pytest.mark.parametrize("told", ["[]", "{", '{"schema": 2, "version": 1, "folder": "x"}', '{"schema": 1}', "null"])
def test_a_file_that_says_nothing_leaves_the_decision_before(tmp_path: Path, told: str) -> None:
    file = tmp_path / "holds.json"
    file.write_text(json.dumps({"schema": 1, "version": 4, "folder": str(packed(tmp_path))}))
    following = Following(file)
    following.look()
    file.write_text(told)
    following.look()
    assert following.version == 4
    assert str(file) in following.problem


def test_what_could_not_be_loaded_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 1.0, 6.0, 6.0])
    monkeypatch.setattr("trilho_runtime.serving.rules.time.monotonic", lambda: next(moments))
    file = tmp_path / "holds.json"
    file.write_text(json.dumps({"schema": 1, "version": 1, "folder": str(tmp_path / "decision")}))
    rules = FollowedRules(file)
    rules.look()
    assert (rules.current, rules.due()) == (None, False)
    packed(tmp_path)
    assert rules.due()
    rules.look()
    assert rules.current is not None
    assert (rules.current[0], rules.problem) == (1, "")


def run(verb: str, *arguments: object, told: object = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trilho_runtime.decision", verb, *map(str, arguments)]
    given = json.dumps(told) if told is not None else ""
    return subprocess.run(command, input=given, capture_output=True, text=True, check=False)


def test_a_check_decides_the_extremes_and_names_the_score_that_fails(tmp_path: Path) -> None:
    good = run("check", packed(tmp_path, "good", rule="print('noise')\ndef decide(score):\n    return score >= 0.5\n"))
    assert json.loads(good.stdout)["decided"] == [False, True, True]
    bad = run("check", packed(tmp_path, "bad", rule="def decide(score):\n    return 1 / score > 1\n"))
    assert (bad.returncode, bad.stdout) == (1, "")
    assert bad.stderr == "shop.decide:decide fails on the score 0.0: ZeroDivisionError: float division by zero\n"
    broken = run("check", packed(tmp_path, "broken", rule="import nowhere\ndef decide(score):\n    return 1\n"))
    assert "ModuleNotFoundError" in broken.stderr
    rows = packed(tmp_path, "rows", rule="def decide(score, row):\n    return row['vip']\n")
    assert json.loads(run("check", rows).stdout)["decided"] == []
    told = run("check", rows, told={"scores": [{"a": 1.0}], "rows": [{"vip": "yes"}]})
    assert json.loads(told.stdout)["decided"] == ["yes"]
