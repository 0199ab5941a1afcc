"""`trilho models mirror`: runs and versions at an MLflow server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.cli.mlflow_server import FakeMlflow

from trilho import tracking
from trilho.core import records as r
from trilho.errors import Unreachable
from trilho.project import Project

if TYPE_CHECKING:
    from tests.cli.conftest import Made, Verb

PYTHON = Path(__file__).resolve().parents[1] / "notebooks" / ".venv" / "bin" / "python"
MANIFEST = {
    "task": "regression", "target": "rides", "features": "bikes.features:build", "time": "time", "key": None,
    "estimator": {"class": "xgboost.sklearn.XGBRegressor", "format": "xgboost", "parameters": {"n_estimators": 30}},
    "lineage": {"data_until": "2012-06-01", "history": "all"},
}  # fmt: skip


@pytest.fixture
def mlflow() -> Iterator[FakeMlflow]:
    fake = FakeMlflow()
    yield fake
    fake.close()


@pytest.fixture
def wired(made: Made, mlflow: FakeMlflow) -> Made:
    """A project whose versions go to the server."""
    told = f'\n[tracking]\nmlflow = "{mlflow.address}"\n'
    (made.folder / "trilho.toml").write_text((made.folder / "trilho.toml").read_text() + told)
    return made


def packaged(made: Made, number: int) -> str:
    """Record a training that left a version, whose package is a folder."""
    folder = made.folder / f"package-{number}"
    (folder / "code").mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({**MANIFEST, "name": f"bikes {number}"}))
    (folder / "code" / "bikes.py").write_text("x = 1\n")
    package, run = made.store.put(folder), f"run-{number}"
    made.journal.append(
        r.RunStarted(model="bikes", run=run, pipeline="train", trigger="drift", dataset="d" * 64, commit="c" * 40,
                     commit_time=None),
        r.RunEnded(model="bikes", run=run, state="succeeded", error=None, seconds=1.5, tasks=[
            r.TaskResult(name="fit", state="ran", seconds=1.25, needs=["split"], reason="")]),
        r.VersionPackaged(model="bikes", version=number, run=run, dataset="d" * 64, package=package,
                          metric="shop.metrics:rmspe", metrics={"shop.metrics:rmspe": 40.0 + number},
                          commit="c" * 40, commit_time=None,
                          data_until="2012-06-01"),
        r.GateJudged(model="bikes", version=number, champion=None, verdict="pass", evidence={"reason": "better"}),
        actor="ana",
    )  # fmt: skip
    return package


def released(made: Made, version: int, champion: int | None, outcome: r.Outcome = "full") -> None:
    made.journal.append(
        r.RolloutStarted(model="bikes", rollout=f"r{version}", version=version, champion=champion, steps=[100], why=""),
        r.RolloutEnded(model="bikes", rollout=f"r{version}", version=version, outcome=outcome,
                       champion=version if outcome == "full" else champion, why=""),
    )  # fmt: skip


def named(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {one["key"]: one["value"] for one in items}


def test_a_run_and_its_version_are_there(trilho: Verb, wired: Made, mlflow: FakeMlflow) -> None:
    package = packaged(wired, 1)
    found = trilho("models", "mirror", "--json").json
    assert (found["runs"], found["versions"], found["records"]) == (["run-1"], [1], 4)
    [run] = mlflow.runs.values()
    assert (run["info"]["run_name"], run["info"]["status"]) == ("run-1", "FINISHED")
    assert run["info"]["end_time"] >= run["info"]["start_time"] > 1_700_000_000_000
    assert named(run["data"]["metrics"]) == {"seconds": 1.5, "seconds.fit": 1.25, "shop.metrics_rmspe": 41.0}
    assert named(run["data"]["params"]) == {
        "task": "regression", "target": "rides", "features": "bikes.features:build", "time": "time",
        "estimator": "xgboost.sklearn.XGBRegressor", "format": "xgboost", "estimator.n_estimators": "30",
        "data_until": "2012-06-01", "history": "all",
    }  # fmt: skip
    tags = named(run["data"]["tags"])
    assert (tags["trilho.run"], tags["trilho.trigger"], tags["mlflow.user"]) == ("run-1", "drift", "ana")
    assert (tags["mlflow.source.git.commit"], tags["trilho.dataset"]) == ("c" * 40, "d" * 64)
    [version] = mlflow.models["bikes"]["versions"]
    assert version["run_id"] == run["info"]["run_id"]
    told = named(version["tags"])
    assert (told["trilho.version"], told["trilho.package"], told["trilho.gate"]) == ("1", package, "pass")
    assert version["source"] == f"{run['info']['artifact_uri']}/package"  # the server is on this machine
    prefix = f"1/{run['info']['run_id']}/artifacts/package/"
    assert sorted(mlflow.files) == [f"{prefix}code/bikes.py", f"{prefix}manifest.json"]
    assert mlflow.files[f"{prefix}code/bikes.py"] == b"x = 1\n"


def test_aliases_follow_releases(trilho: Verb, wired: Made, mlflow: FakeMlflow) -> None:
    packaged(wired, 1)
    released(wired, 1, None)
    packaged(wired, 2)
    wired.journal.append(
        r.RolloutStarted(model="bikes", rollout="r2", version=2, champion=1, steps=[10, 100], why="")
    )  # fmt: skip
    trilho("models", "mirror")
    aliases = mlflow.models["bikes"]["aliases"]
    assert aliases == {"champion": "1", "challenger": "2"}
    wired.journal.append(
        r.RolloutEnded(model="bikes", rollout="r2", version=2, outcome="full", champion=2, why="")
    )  # fmt: skip
    assert "champion is version 2" in trilho("models", "mirror").out
    assert aliases == {"champion": "2"}
    wired.journal.append(r.ChampionRestored(model="bikes", version=1, replaced=2, why="worse"))
    trilho("models", "mirror")
    assert aliases == {"champion": "1"}
    packaged(wired, 3)
    released(wired, 3, 1, "rolled back")
    trilho("models", "mirror")
    assert aliases == {"champion": "1"}


def test_again_makes_nothing_twice(trilho: Verb, wired: Made, mlflow: FakeMlflow) -> None:
    for number in (1, 2, 3):
        packaged(wired, number)
    trilho("models", "mirror")
    asked = len(mlflow.asked)
    assert "has all of it already" in trilho("models", "mirror").out
    assert len(mlflow.asked) == asked
    before = json.dumps([list(mlflow.runs.values()), mlflow.models])
    assert trilho("models", "mirror", "--again", "--json").json["versions"] == [1, 2, 3]
    assert json.dumps([list(mlflow.runs.values()), mlflow.models]) == before


@pytest.mark.parametrize("kept", [False, True], ids=["before it was done", "after it was done"])
def test_a_break_at_any_call_leaves_nothing_out_and_nothing_twice(wired: Made, mlflow: FakeMlflow, kept: bool) -> None:
    packaged(wired, 1)
    released(wired, 1, None)
    project = Project.open(wired.folder)
    mlflow.keep_then_fail = kept
    breaks = 0
    for call in range(1, 30):
        mlflow.fail_at = len(mlflow.asked) + call
        try:
            tracking.mirror(project, again=True)
        except Unreachable:
            breaks += 1
            mlflow.fail_at = 0
            tracking.mirror(project)
    assert breaks > 10
    assert (len(mlflow.runs), len(mlflow.models["bikes"]["versions"])) == (1, 1)
    assert mlflow.models["bikes"]["aliases"] == {"champion": "1"}


def test_nobody_there_is_told_and_made_up_for_later(
    trilho: Verb, wired: Made, mlflow: FakeMlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged(wired, 1)
    project = Project.open(wired.folder)
    mlflow.fail_at = 1
    said = trilho("models", "mirror")
    assert (said.code, said.err.splitlines()[1]) == (5, "Hint: trilho models mirror, later")
    mlflow.fail_at = 2
    assert (tracking.mirror_quietly(project) or "").startswith(f"Not mirrored: {mlflow.address} answered 500")
    mlflow.fail_at = 0
    assert tracking.mirror_quietly(project) == f"Mirrored to {mlflow.address}: 1 run, 1 version."
    mlflow.close()
    packaged(wired, 2)
    assert "does not answer" in (tracking.mirror_quietly(project) or "")


def test_after_a_training_it_takes_so_long_and_no_longer(wired: Made, mlflow: FakeMlflow) -> None:
    packaged(wired, 1)
    project = Project.open(wired.folder)
    with pytest.raises(Unreachable, match="took longer than 0 seconds"):
        tracking.mirror(project, within_seconds=0)
    assert mlflow.asked == []
    assert tracking.mirror(project).runs == ["run-1"]


def test_without_a_server_nothing_is_asked(trilho: Verb, made: Made) -> None:
    assert tracking.mirror_quietly(Project.open(made.folder)) is None
    said = trilho("models", "mirror")
    assert (said.code, said.err.splitlines()[1]) == (2, 'Hint: add mlflow = "https://..." to [tracking]')


def test_the_token_goes_to_the_server_and_nowhere_else(
    trilho: Verb, wired: Made, mlflow: FakeMlflow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    packaged(wired, 1)
    (tmp_path / "mlflow-token").write_text("abc\n")
    monkeypatch.setenv("TRILHO_SECRETS", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret://mlflow-token")
    other = FakeMlflow()
    mlflow.location = other.address
    said = trilho("models", "mirror")
    assert (said.code, "answered 302" in said.err) == (1, True)
    assert (mlflow.tokens, other.tokens, other.asked) == ({"Bearer abc"}, set(), [])
    other.close()
    config = (wired.folder / "trilho.toml").read_text()
    (wired.folder / "trilho.toml").write_text(config + 'token = "abc"\n')
    assert "tracking.token is 'abc'" in trilho("models", "mirror").err


def test_elsewhere_a_version_is_a_link(trilho: Verb, wired: Made, mlflow: FakeMlflow) -> None:
    config = (wired.folder / "trilho.toml").read_text()
    (wired.folder / "trilho.toml").write_text(config + 'upload = false\nexperiment = "shop"\n')
    package = packaged(wired, 1)
    trilho("models", "mirror")
    assert mlflow.models["bikes"]["versions"][0]["source"] == f"trilho://bikes/{package}"
    assert (mlflow.files, mlflow.experiments) == ({}, {"shop": "1"})


CLIENT = """
import json, sys
from google.protobuf.json_format import ParseDict
from mlflow import MlflowClient
from mlflow.protos import databricks_pb2, model_registry_pb2, service_pb2
endpoints = {
    (e.method, e.path): m.input_type
    for file in (service_pb2, model_registry_pb2)
    for service in file.DESCRIPTOR.services_by_name.values() for m in service.methods
    for e in m.GetOptions().Extensions[databricks_pb2.rpc].endpoints
}
for method, path, body in json.load(open(sys.argv[2])):
    kind = endpoints[method, f"/mlflow/{path}"]._concrete_class
    ParseDict({k: int(v) if k == "max_results" else v for k, v in body.items()}, kind(), ignore_unknown_fields=False)
client = MlflowClient(sys.argv[1])
[run] = client.search_runs([client.get_experiment_by_name("bikes").experiment_id])
version = client.get_model_version_by_alias("bikes", "champion")
print(json.dumps([run.data.metrics, run.data.params["target"], run.info.status, version.run_id == run.info.run_id]))
"""


@pytest.mark.skipif(not PYTHON.exists(), reason="tests/notebooks/.venv is absent: make tests/notebooks/.venv")
def test_what_is_asked_is_what_mlflow_defines_and_its_client_reads_it(
    trilho: Verb, wired: Made, mlflow: FakeMlflow, tmp_path: Path
) -> None:
    packaged(wired, 1)
    released(wired, 1, None)
    trilho("models", "mirror")
    (tmp_path / "asked.json").write_text(json.dumps(mlflow.asked))
    command = [str(PYTHON), "-c", CLIENT, mlflow.address, str(tmp_path / "asked.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    metrics = {"seconds": 1.5, "seconds.fit": 1.25, "shop.metrics_rmspe": 41.0}
    assert json.loads(done.stdout.splitlines()[-1]) == [metrics, "rides", "FINISHED", True]
    assert len({(method, path) for method, path, _ in mlflow.asked}) == 13
