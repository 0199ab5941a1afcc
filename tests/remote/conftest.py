"""A bucket that the real storage client speaks to, and a project of Google Cloud around it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from trilho.backends.gcp.cloud import Cloud
from trilho.core.digest import digest_path
from trilho.core.files import write_whole
from trilho.core.ports import NotFound, RemoteJob, RemoteState, RemoteStatus, RemoteTask, RemoteTaskState
from trilho.core.retry import Patience
from trilho.pipeline.ir import reader as ir
from trilho.project import Project
from trilho.remote import environment
from trilho.remote.gather import StepRecord
from trilho.testing.emulator.rules import Rules

if TYPE_CHECKING:
    from tests.remote.endpoints import Vertexes

    from trilho.testing.conformance_endpoint import Versions
    from trilho.testing.emulator.serve import Emulator

pytest.register_assert_rewrite("trilho.testing.conformance", "trilho.testing.conformance_endpoint")

EXAMPLES_PYTHON = Path(__file__).resolve().parents[2] / "examples" / ".venv" / "bin" / "python"
PROJECT, REGION, BUCKET = "shop", "southamerica-east1", "shop-models"


@dataclass
class Bucket:
    """A bucket, the folder that its objects are files of, and the rules of its service."""

    cloud: Cloud
    folder: Path
    rules: Rules
    uri: str = f"gs://{BUCKET}"

    def file(self, uri: str) -> Path:
        """Give the file that an object is."""
        return self.folder / uri.removeprefix(f"{self.uri}/")


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    pytest.importorskip("google.cloud.storage")
    from google.auth.credentials import AnonymousCredentials

    from trilho.testing.emulator.http import Router, Server
    from trilho.testing.emulator.storage import StorageService

    rules = Rules()
    service = StorageService(tmp_path / "gcs", rules, project=PROJECT, location=REGION)
    server = Server(Router(service.routes, rules))
    server.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.address)
    cloud = Cloud(
        project=PROJECT,
        region=REGION,
        bucket=BUCKET,
        patience=Patience(seconds=2.0, first_seconds=0.01, most_seconds=0.1),
    )
    cloud.__dict__["credentials"] = AnonymousCredentials()  # type: ignore[no-untyped-call]
    cloud.storage.create_bucket(BUCKET)
    yield Bucket(cloud, tmp_path / "gcs" / "buckets" / BUCKET, rules)
    cloud.storage.close()
    server.stop()
    service.close()


@dataclass
class Google:
    """Google Cloud on this machine, as `trilho emulate` serves it, and this process as its client."""

    emulator: Emulator
    cloud: Cloud

    @property
    def environment(self) -> dict[str, str]:
        """What makes other processes its clients too."""
        return {**os.environ, **self.emulator.environment}


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a server's certificate; gRPC reads which roots it trusts once in a process.

    What is trusted already is of other tests' fixtures: nothing is inherited from the shell.
    """
    from trilho.testing.emulator.credentials import make_credentials

    trusted = os.environ.get("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH")
    folder = Path(trusted).parent if trusted else tmp_path_factory.mktemp("tls")
    made = make_credentials(folder, project=PROJECT, token_uri="http://127.0.0.1:9/token")
    os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = str(made.authority)
    return folder


@pytest.fixture(scope="module")
def google(tmp_path_factory: pytest.TempPathFactory, authority: Path) -> Iterator[Google]:
    """An emulator for a module's tests; TRILHO_* is for each test to set."""
    pytest.importorskip("google.cloud.aiplatform_v1")
    from trilho.backends.local.store import LocalStore
    from trilho.pipeline.places import Place, Places
    from trilho.testing.emulator.serve import Emulator

    root, python = tmp_path_factory.mktemp("google"), EXAMPLES_PYTHON
    shutil.copytree(authority, root / "credentials")
    places = Places(
        python=python,
        source=root / "line" / "src",
        folder=root,
        platform=Path(sys.executable),
        images={"trilho.local/": Place(python, root / "line" / "src"), "": Place(Path(sys.executable))},
        install=False,
    )
    emulator = Emulator(root, places=places, store=LocalStore(root / "executor"), project=PROJECT, pubsub=False)
    with pytest.MonkeyPatch.context() as patch, emulator:
        for name, value in emulator.environment.items():
            patch.setenv(name, value)
        cloud = Cloud(
            project=PROJECT,
            region=REGION,
            bucket=f"{PROJECT}-trilho",
            aiplatform=emulator.aiplatform,
            logging=emulator.environment["TRILHO_LOGGING"],
            patience=Patience(seconds=2.0, first_seconds=0.01, most_seconds=0.1),
        )
        yield Google(emulator, cloud)


@pytest.fixture(scope="session")
def versions(project_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Versions:
    """Two versions of a model whose modules have the same names and say different things."""
    from tests.runtime.serving import FEATURES, ROW, make_package

    from trilho.testing.conformance_endpoint import Versions

    packages = {}
    for version, code in {1: FEATURES, 2: FEATURES.replace('frame[["x"]] * 2', 'frame[["x"]] * 3')}.items():
        folder = tmp_path_factory.mktemp(f"tiny-{version}")
        done = make_package(project_python, folder, code=code)
        assert done.returncode == 0, done.stderr
        packages[version] = folder / "package"
    return Versions(packages=packages, row=ROW, answers={1: 10.0, 2: 11.5}, key="id")


@pytest.fixture
def vertexes(google: Google, tmp_path: Path) -> Iterator[Vertexes]:
    """What makes endpoints of Vertex AI."""
    from tests.remote.endpoints import Vertexes

    (google.emulator.root / "line" / "src").mkdir(parents=True, exist_ok=True)
    made = Vertexes(google.cloud, tmp_path)
    yield made
    made.close()


TOML = """
[model]
name = "line"
task = "regression"
target = "y"
time = "ts"
key = "id"
[data]
source = "data.csv"
[steps]
features = "line.features:build"
train = "line.train:fit"
[train]
holdout = "last 10 days"
[gate]
rows = 20
[environments.cluster]
backend = "kubeflow"
endpoint = "http://127.0.0.1:9"
bucket = "file://{bucket}"
image = "registry.example.com/line@sha256:12"
"""
ROWS = (
    "SELECT 'r' || i AS id, TIMESTAMP '2020-01-01' + INTERVAL (i * 6) HOUR AS ts, (i % 17)::DOUBLE AS x, "
    "2.0 * (i % 17) + 1.0 AS y FROM range(0, 400) t(i)"
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A small project with an environment on a folder that both sides mount."""
    import duckdb

    monkeypatch.setenv("TRILHO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TRILHO_ACTOR", "ana")
    package = tmp_path / "line" / "src" / "line"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "features.py").write_text("def build(frame):\n    return frame[['x']]\n")
    (package / "train.py").write_text(
        "from sklearn.linear_model import LinearRegression\n\n\n"
        "def fit(X, y):\n    return LinearRegression().fit(X, y)\n"
    )
    (tmp_path / "line" / "trilho.toml").write_text(TOML.format(bucket=tmp_path / "shared"))
    (tmp_path / "line" / "contract.toml").write_text("")
    duckdb.sql(f"COPY ({ROWS}) TO '{tmp_path / 'line' / 'data.csv'}' (HEADER)")
    return Project.open(tmp_path / "line")


class Service:
    """A service that does what it is told to have done: its steps write their records and outputs into the folder.

    It is a Runner; `plan` says how each task ends, "ran" where nothing else is said.
    """

    def __init__(self, shared: Path) -> None:
        self.shared = shared
        self.jobs: dict[str, RemoteJob] = {}
        self.looks: dict[str, int] = {}
        self.cancelled: set[str] = set()
        self.plan: dict[str, StepRecord] = {}
        self.trouble: list[Exception] = []
        self.needs_looks = 2
        self.lines = "printed there\n"

    def submit(self, job: RemoteJob) -> str:
        self._may_fail()
        if job.run not in self.jobs:
            self.jobs[job.run] = job
        return f"there/{job.run}"

    def status(self, run: str) -> RemoteStatus:
        self._may_fail()
        if run not in self.jobs:
            raise NotFound(f"no run {run}")
        self.looks[run] = self.looks.get(run, 0) + 1
        tasks = [name for name, _ in ir.read(self.jobs[run].document).walk() if "/" not in name]
        if run in self.cancelled:
            first, *rest = (RemoteTask(name=name, state="pending") for name in tasks)
            return RemoteStatus(state="cancelled", tasks=(replace(first, state="cancelled"), *rest))
        if self.looks[run] < self.needs_looks:
            return RemoteStatus(state="running", tasks=(RemoteTask(name=tasks[0], state="running"),))
        return self._ended(run, tasks)

    def cancel(self, run: str) -> None:
        if run not in self.jobs:
            raise NotFound(f"no run {run}")
        self.cancelled.add(run)

    def log(self, run: str, task: str) -> str:
        return self.lines

    def _may_fail(self) -> None:
        if self.trouble:
            raise self.trouble.pop(0)

    def _ended(self, run: str, tasks: list[str]) -> RemoteStatus:
        failed = [name for name in tasks if self.plan.get(name, NOTHING).state == "failed"]
        stop = tasks.index(failed[0]) if failed else len(tasks)
        root = self.jobs[run].root
        for name in tasks[: stop + 1]:
            self._write(root, run, name)
        states: list[RemoteTaskState] = ["succeeded"] * stop
        states += ["failed"] * bool(failed)
        states += ["skipped"] * len(tasks)
        found = (
            RemoteTask(name=name, state="skipped" if name.startswith("condition") else state, seconds=2.0)
            for name, state in zip(tasks, states, strict=False)
        )
        state: RemoteState = "failed" if failed else "succeeded"
        return RemoteStatus(state=state, tasks=tuple(found), error="the DAG failed" if failed else None)

    def _write(self, root: str, run: str, task: str) -> None:
        record = self.plan.get(task, StepRecord(task=task, state="ran", seconds=1.0))
        path = Path(root.removeprefix("file://")) / "runs" / run / f"{task}.json"
        write_whole(path, json.dumps({"schema": 1, **asdict(record)}))

    def trains(self, metrics: dict[str, float], package: str = "a model") -> None:
        """Have the trainings from now on leave a package, and predictions that are right."""
        import duckdb

        folder = self.shared / "outputs" / package.replace(" ", "-")
        (folder / "package").mkdir(parents=True)
        (folder / "package" / "manifest.json").write_text(json.dumps({"lineage": {}, "said": package}))
        rows = f"SELECT row_number() OVER () AS row, ts AS time, y AS prediction, y AS value FROM ({ROWS})"
        duckdb.sql(f"COPY ({rows}) TO '{folder / 'predictions.parquet'}' (FORMAT parquet)")
        values = {"metrics": metrics, "history": "all", "candidates": {"all": metrics}}
        self.plan["evaluate"] = StepRecord(
            task="evaluate",
            state="ran",
            seconds=1.0,
            values=values,
            outputs={"predictions": _output(folder / "predictions.parquet")},
        )
        self.plan["pack"] = StepRecord(
            task="pack", state="ran", seconds=1.0, outputs={"package": _output(folder / "package")}
        )


NOTHING = StepRecord(task="", state="ran", seconds=0.0)


def _output(path: Path) -> dict[str, str]:
    return {"uri": f"file://{path}", "digest": digest_path(path)}


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    """The service of the project's environment."""
    from trilho.remote import follow

    made = Service(tmp_path / "shared")
    monkeypatch.setattr(environment.Target, "runner", property(lambda _target: made))
    monkeypatch.setattr(follow, "LOOK_SECONDS", (0.0, 0.0))
    return made
