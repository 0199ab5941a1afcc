"""Decisions in running servers: each answers with its own code, and follows the file without a restart."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.planes import FakePredictor, loaded
from tests.runtime.serving import ANSWER, FEATURES, ROW, Launcher, Running, call, make_package, until

from trilho_runtime.decision import write_decision
from trilho_runtime.model.manifest import digest_of
from trilho_runtime.package import Package, PackageError
from trilho_runtime.prediction.job import Job, Outcome
from trilho_runtime.serving.predict import PredictionApp
from trilho_runtime.serving.rules import FollowedRules, PackagedRule, packaged_rule
from trilho_runtime.serving.work import Work
from trilho_runtime.web.measures import Tally

OWN = """
from tiny import features

FACTOR = {factor}


def decide(score, row):
    if row["wish"] == "raise":
        raise ValueError("no such wish")
    return f"{{features.NAME}} {{FACTOR * score:g}} {{row['at']}} {{row['level']}}"
"""


def rule(folder: Path, name: str, factor: float) -> Path:
    """Pack a decision of a project whose `tiny.features` is another one again."""
    package = folder / f"{name}-source" / "tiny"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "features.py").write_text(f"NAME = {name!r}\n")
    (package / "decide.py").write_text(OWN.format(factor=factor))
    write_decision(package.parent, "tiny.decide:decide", folder / name)
    return folder / name


def tell(file: Path, version: int, folder: Path) -> None:
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps({"schema": 1, "version": version, "folder": str(folder)}))
    draft.replace(file)


@pytest.fixture(scope="module")
def second(project_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of another version of the same modules: x counts tenfold."""
    folder = tmp_path_factory.mktemp("second")
    code = FEATURES.replace('frame[["x"]] * 2', 'frame[["x"]] * 20')
    done = make_package(project_python, folder, code=code)
    assert done.returncode == 0, done.stderr
    return folder / "package"


def answered(server: Running, **changes: Any) -> dict[str, Any]:
    reply = call(server.address, "/predict", {"instances": [{**ROW, **changes}]})
    assert reply.status == 200, reply.body
    found: dict[str, Any] = reply.json["predictions"][0]
    return {name: found[name] for name in found if name != "id"}


def test_two_versions_of_a_module_and_a_third_in_the_decision_each_answer_with_their_own(
    package: Path, second: Path, launch: Launcher, tmp_path: Path
) -> None:
    file, logs = tmp_path / "decision.json", tmp_path / "log"
    tell(file, 1, rule(tmp_path, "third", 1))
    servers = [
        launch.server(made, "--version", str(number), "--decision", file, "--log", logs)
        for number, made in ((1, package), (2, second))
    ]
    for server in servers:
        server.wait_until_ready()
    told = {"decision_version": "1"}
    small, large = ANSWER, ANSWER + 18 * 1.5
    row = "2024-03-01T05:00:00 None"
    assert answered(servers[0]) == {"score": small, "decision": f"third {small:g} {row}", "version": 1, **told}
    assert answered(servers[1], at="2024-03-01 02:00-03:00") == {
        "score": large, "decision": f"third {large:g} {row}", "version": 2, **told,
    }  # fmt: skip
    tell(file, 2, rule(tmp_path, "fourth", 2))
    for server in servers:
        until(lambda at=server: answered(at)["decision_version"] == "2", seconds=10)  # type: ignore[misc]
    assert answered(servers[0])["decision"] == f"fourth {2 * small:g} {row}"
    info = call(servers[0].address, "/").json["decision"]
    assert (info["version"], info["undecided"], info["reference"]) == (2, 0, "tiny.decide:decide")
    measured = call(servers[0].address, "/metrics").body.decode()
    assert 'trilho_decision_info{version="1",decision_version="2"} 1' in measured
    lines = [json.loads(line) for path in sorted(logs.glob("v1-*")) for line in path.read_bytes().splitlines()]
    assert lines[0] | {"d": f"third {small:g} {row}", "dn": "1", "y": small} == lines[0]
    assert lines[-1]["dn"] == "2"

    shutil.rmtree(tmp_path / "third")  # the one that holds is in memory; one that cannot be loaded changes nothing
    tell(file, 3, tmp_path / "third")
    until(lambda: "problem" in call(servers[0].address, "/").json["decision"])
    assert answered(servers[0])["decision_version"] == "2"
    assert "decision 2 goes on to hold" in servers[0].errors.read_text()
    file.unlink()
    until(lambda: call(servers[0].address, "/").json["decision"]["version"] is None)
    assert call(servers[0].address, "/predict", {"instances": [ROW]}).json["predictions"] == [small]


def test_workers_follow_the_decision_together(package: Path, launch: Launcher, tmp_path: Path) -> None:
    file = tmp_path / "decision.json"
    tell(file, 1, rule(tmp_path, "third", 1))
    options = ["--workers", 2, "--version", 1, "--port", 0, "--decision", file]
    server = launch.run(launch.python, "trilho_runtime.workers", package, *options)
    server.wait_until_ready()
    tell(file, 2, rule(tmp_path, "fourth", 2))
    seen = until(lambda: {answered(server)["decision_version"] for _ in range(12)} == {"2"})
    assert seen


def work(rules: Any) -> tuple[Work, Tally]:
    tally = Tally()
    return Work(loaded(FakePredictor()), 3, tally, rules=rules), tally


def test_a_row_on_which_the_rule_fails_is_answered_undecided(tmp_path: Path) -> None:
    text = "def decide(score, row):\n    return {'a': 'yes'}[row['c']]\n"
    folder = tmp_path / "source" / "shop"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "decide.py").write_text(text)
    write_decision(folder.parent, "shop.decide:decide", tmp_path / "rule")
    tell(tmp_path / "decision.json", 5, tmp_path / "rule")
    rules = FollowedRules(tmp_path / "decision.json")
    rules.look()
    working, tally = work(rules)
    rows = [{"x": 1.0, "c": "a"}, {"x": 2.0}]
    (found,) = working.do([Job("r", rows)])
    assert isinstance(found, Outcome)
    assert (found.scores, found.decisions, found.decision_version) == ([2.0, 4.0], ["yes", None], "5")
    assert (tally.undecided, tally.undecided_why) == (1, "KeyError: None")


@pytest.fixture
def deciding(own_package: Path) -> Path:
    """A package that carries a decision of its own, as `trilho.package(decide=...)` makes it."""
    (own_package / "code" / "tiny" / "decide.py").write_text("def decide(score):\n    return score > 9\n")
    manifest = json.loads((own_package / "manifest.json").read_text())
    digest = digest_of(own_package / "code" / "tiny" / "decide.py")
    manifest["files"]["code/tiny/decide.py"] = digest
    manifest["decision"] = {"reference": "tiny.decide:decide", "file": "code/tiny/decide.py", "digest": digest}
    (own_package / "manifest.json").write_text(json.dumps(manifest))
    return own_package


def test_a_package_served_alone_decides_by_the_rule_that_came_with_it(deciding: Path, launch: Launcher) -> None:
    server = launch.server(deciding)
    server.wait_until_ready()
    found = answered(server)
    assert (found["decision"], found["decision_version"]) == (True, "package")
    assert answered(server, x=0.0)["decision"] is False
    assert call(server.address, "/").json["decision"]["version"] == "package"


def test_a_package_whose_rule_cannot_be_loaded_is_none(tmp_path: Path) -> None:
    told = {"decision": {"reference": "tiny.decide:decide", "file": "code/tiny/decide.py", "digest": "d"}}
    with pytest.raises(PackageError, match=r"tiny\.decide:decide cannot be loaded"):
        packaged_rule(Package(tmp_path, told))


def test_an_app_says_which_decision_it_goes_by(tmp_path: Path) -> None:
    app = PredictionApp(3)
    assert not app.decides
    app.decide_by(PackagedRule(None))  # type: ignore[arg-type]
    assert app.decides
