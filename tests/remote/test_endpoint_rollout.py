"""The one state machine of rollouts, carried out at Vertex AI's traffic split and at the router of this machine."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.remote.endpoints import Vertexes

from trilho.config import Serve
from trilho.core import records as r
from trilho.core.ports import Answer, Endpoint, Served, ServedPackage, Split
from trilho.core.readings import VersionStats
from trilho.errors import UsageError
from trilho.project import Project
from trilho.release import rollout
from trilho.remote.endpoint import WARM, carry_out, endpoint_of, follow, split_of
from trilho.testing.emulator.rules import Failure

if TYPE_CHECKING:
    from tests.remote.conftest import Google

    from trilho.testing.conformance_endpoint import Versions

SERVE = Serve(canary=[10, 50, 100], canary_requests=5)


@pytest.fixture
def line(project: Project, versions: Versions) -> Project:
    """A project with two versions that nobody has released, and an environment on Google Cloud."""
    with (project.folder / "trilho.toml").open("a") as settings:
        settings.write('[environments.prod]\nbackend = "gcp"\nproject = "shop"\nbucket = "gs://shop-trilho"\n')
    project = Project.open(project.folder)
    for number, package in versions.packages.items():
        run, dataset = f"r{number}", "d1"
        started = r.RunStarted(
            model="line", run=run, pipeline="train", trigger="a person", dataset=dataset, commit=None, commit_time=None
        )
        packaged = r.VersionPackaged(
            model="line", version=number, package=project.store.put(package), run=run, dataset=dataset, metric="mae",
            metrics={"mae": 1.0}, commit=None, commit_time=None, data_until=None,
        )  # fmt: skip
        project.record(started, packaged)
    return project


@pytest.fixture(params=["this machine", "vertex"])
def endpoint(request: pytest.FixtureRequest, tmp_path: Path, project_python: Path) -> Iterator[Endpoint]:
    """An endpoint of either kind."""
    if request.param == "vertex":
        vertexes: Vertexes = request.getfixturevalue("vertexes")
        yield vertexes.endpoint(vertexes.new_model())
        return
    from trilho.backends.local.endpoint import LocalEndpoint

    made = LocalEndpoint(tmp_path / "endpoint", python=project_python, model="line")
    yield made
    made.stop()


class Rollouts:
    """Decides with the machine, puts that on record, and carries it out."""

    def __init__(self, project: Project, endpoint: Endpoint) -> None:
        self.project, self.endpoint = project, endpoint

    def do(self, *payloads: r.Payload) -> Served:
        self.project.record(*payloads)
        return carry_out(self.project, "prod", payloads[-1], endpoint=self.endpoint)

    def start(self, version: int, **more: Any) -> Served:
        state = self.project.state()
        return self.do(*rollout.start(state, version, SERVE, "better", where=self.endpoint.capabilities, **more))

    def look(self, **stats: VersionStats) -> Served:
        """Have the machine look at what was answered, and do what it says."""
        now = datetime.now(UTC)
        told = {int(name.removeprefix("v")): one for name, one in stats.items()}
        under_way = self.project.state().rollout
        assert under_way is not None
        payload = rollout.advance(under_way, told, SERVE, now)
        assert payload is not None
        return self.do(payload)

    def move(self, move: str) -> Served:
        under_way = self.project.state().rollout
        assert under_way is not None
        return self.do(rollout.move(under_way, move, "looks well"))


def shares(served: Served) -> dict[int, int]:
    assert served.split is not None
    return dict(served.split.shares)


def test_a_version_takes_over_by_steps_and_is_undone(line: Project, endpoint: Endpoint, versions: Versions) -> None:
    rollouts = Rollouts(line, endpoint)
    assert shares(rollouts.start(1)) == {1: 100}
    assert versions.ask(endpoint, 3) == {1: 3}
    served = rollouts.start(2)
    assert (shares(served), dict(served.versions)) == ({1: 90, 2: 10}, {1: "ready", 2: "ready"})
    assert shares(rollouts.move("pause")) == {1: 90, 2: 10}
    assert shares(rollouts.move("resume")) == {1: 90, 2: 10}
    assert shares(rollouts.move("next")) == {1: 50, 2: 50}
    assert set(versions.ask(endpoint, 30)) == {1, 2}
    assert shares(rollouts.move("next")) == {2: 100}
    assert versions.ask(endpoint, 5) == {2: 5}
    served = rollouts.move("next")
    assert line.state().champion == 2
    assert (shares(served), set(served.versions)) == ({2: 100}, {1, 2})  # the one before stays, to go back to
    assert shares(rollouts.do(rollout.rollback(line.state(), "worse"))) == {1: 100}
    assert versions.ask(endpoint, 5) == {1: 5}


def test_a_version_that_fails_loses_its_share_at_once(line: Project, endpoint: Endpoint, versions: Versions) -> None:
    rollouts = Rollouts(line, endpoint)
    rollouts.start(1)
    assert shares(rollouts.start(2)) == {1: 90, 2: 10}
    served = rollouts.look(v1=VersionStats(requests=300), v2=VersionStats(requests=100, errors=60))
    assert shares(served) == {1: 100}
    ended = line.state().rollouts["rollout-2"]
    assert (ended.outcome, line.state().champion) == ("rolled back", 1)
    assert versions.ask(endpoint, 5) == {1: 5}
    assert set(served.versions) == {1}


def test_a_rollback_deploys_nothing(line: Project, vertexes: Vertexes, google: Google, versions: Versions) -> None:
    rollouts = Rollouts(line, vertexes.endpoint(vertexes.new_model()))
    rollouts.start(1)
    rollouts.start(2)
    failures = google.emulator.rules.failures
    failures += [Failure(method, "INTERNAL", None) for method in ("DeployModel", "UploadModel", "CreateEndpoint")]
    try:
        shutil.rmtree(line.home / "store")  # nor is a package needed
        assert shares(rollouts.do(rollout.rollback(line.state(), "worse"))) == {1: 100}
    finally:
        failures.clear()


def test_sticky_keys_and_shadows_happen_inside_one_container(
    line: Project, vertexes: Vertexes, versions: Versions
) -> None:
    endpoint = vertexes.endpoint(vertexes.new_model(), inside=True)
    rollouts = Rollouts(line, endpoint)
    rollouts.start(1)
    served = rollouts.start(2, shadow=40, sticky=versions.key)
    position = line.reader.state().seq
    assert served.split == Split(shares={1: 100}, shadow=2, shadow_share=40, position=position)
    assert versions.ask(endpoint, 5) == {1: 5}
    rollouts.move("next")
    served = rollouts.move("next")
    assert served.split is not None
    assert (shares(served), served.split.sticky) == ({1: 50, 2: 50}, versions.key)
    first = {key: versions.ask(endpoint, 2, key) for key in "abcdefgh"}
    assert {len(found) for found in first.values()} == {1}
    assert len({next(iter(found)) for found in first.values()}) == 2
    assert any("needs the memory of all of them" in line for line in vertexes.said)
    held = endpoint.deployments.found()
    assert held is not None
    assert len(held.deployed_models) == 3  # each alone, and both together; those of the steps before are gone
    assert shares(rollouts.do(rollout.rollback(line.state(), "worse"))) == {1: 100}
    held = endpoint.deployments.found()
    assert held is not None
    assert len(held.deployed_models) == 1
    assert versions.ask(endpoint, 5) == {1: 5}


def test_an_environment_s_endpoint_refuses_by_name_what_it_cannot_do(
    line: Project, google: Google, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRILHO_AIPLATFORM", google.emulator.aiplatform)
    endpoint = endpoint_of(line, "prod")
    line.record(*rollout.start(line.state(), 1, SERVE, "first", where=endpoint.capabilities))
    with pytest.raises(UsageError, match="Vertex AI's traffic split cannot ask a version unseen: a shadow of 10%"):
        rollout.start(line.state(), 2, SERVE, "", shadow=10, where=endpoint.capabilities)
    with pytest.raises(UsageError, match="Vertex AI's traffic split cannot keep a key with its version"):
        rollout.start(line.state(), 2, SERVE, "", sticky="id", where=endpoint.capabilities)


def test_the_endpoint_of_an_environment_is_made_from_its_settings(
    line: Project, google: Google, versions: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRILHO_AIPLATFORM", google.emulator.aiplatform)
    (google.emulator.root / "line" / "src").mkdir(parents=True, exist_ok=True)
    begun = rollout.start(line.state(), 1, SERVE, "first")
    line.record(*begun)
    said: list[str] = []
    served = carry_out(line, "prod", begun[-1], say=said.append)
    assert (shares(served), served.address) == (
        {1: 100},
        f"https://{google.emulator.aiplatform}/v1/projects/shop/locations/southamerica-east1/endpoints/line",
    )
    assert said[0] == "version 1 of line is being deployed"
    endpoint: Any = endpoint_of(line, "prod")
    assert versions.ask(endpoint, 2) == {1: 2}
    config = endpoint.deployments.found().predict_request_response_logging_config
    assert (config.enabled, config.bigquery_destination.output_uri) == (True, "bq://shop")
    endpoint.undeploy(1)


class Noted:
    """An endpoint that only notes what is asked of it."""

    def __init__(self, **versions: str) -> None:
        self.versions: dict[int, Any] = {int(name[1:]): state for name, state in versions.items()}
        self.split: Split | None = None
        self.asked: list[str] = []

    capabilities: Any = None

    def deploy(self, served: ServedPackage) -> None:
        self.asked.append(f"deploy {served.version}")
        self.versions[served.version] = "ready"

    def route(self, split: Split) -> None:
        self.asked.append(f"route {dict(split.shares)}")
        self.split = split

    def status(self) -> Served:
        return Served(versions=dict(self.versions), split=self.split)

    def predict(self, rows: Any) -> Answer:
        raise NotImplementedError

    def undeploy(self, version: int) -> None:
        self.asked.append(f"undeploy {version}")
        del self.versions[version]


def test_what_nobody_needs_is_taken_away_after_a_while(line: Project) -> None:
    endpoint = Noted(v1="ready", v7="ready")
    for version in (1, 2):
        of: dict[str, Any] = {"model": "line", "rollout": f"o{version}", "version": version, "why": ""}
        line.record(r.RolloutStarted(**of, champion=None, steps=[100]))
        line.record(r.RolloutEnded(**of, outcome="full", champion=version))
    package: Callable[[int], Path] = line.package
    follow(endpoint, line.state(), package)
    assert endpoint.asked == ["deploy 2", "route {2: 100}", "undeploy 7"]
    follow(endpoint, line.state(), package)
    assert endpoint.asked[3:] == []
    follow(endpoint, line.state(), package, now=datetime.now(UTC) + WARM + timedelta(minutes=1))
    assert endpoint.asked[3:] == ["undeploy 1"]


def test_a_record_that_moves_nothing_asks_for_nothing(line: Project) -> None:
    endpoint = Noted()
    assert carry_out(line, "prod", endpoint=endpoint) == Served(versions={})
    approved = r.VersionApproved(model="line", version=1, why="")
    line.record(*rollout.start(line.state(), 1, SERVE, "first"))
    carry_out(line, "prod", approved, endpoint=endpoint)
    assert endpoint.asked == []
    carry_out(line, "prod", endpoint=endpoint)
    assert endpoint.asked == ["deploy 1", "route {1: 100}"]
    assert endpoint.split is not None
    assert endpoint.split.position == line.reader.state().seq
    assert split_of(line.state()) == Split(shares={1: 100})


def test_masked_columns_are_not_logged_by_vertex_ai(
    line: Project, google: Google, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRILHO_AIPLATFORM", google.emulator.aiplatform)
    (line.folder / "trilho.toml").write_text(
        (line.folder / "trilho.toml").read_text() + '[serve]\nmask = { cpf = "drop" }\n'
    )
    said: list[str] = []
    endpoint: Any = endpoint_of(Project.open(line.folder), "prod", say=said.append)
    assert endpoint.deployments.log is None
    assert said[0].startswith("predictions are not logged: Vertex AI's own log masks no column")
