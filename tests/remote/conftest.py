"""A bucket that the real storage client speaks to, and a project of Google Cloud around it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.line_project import rows, write_project
from tests.remote.service import Service

from trilho.backends.gcp.cloud import Cloud
from trilho.core.retry import Patience
from trilho.project import Project
from trilho.remote import environment
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


SETTINGS = """[train]
holdout = "last 10 days"
[gate]
rows = 20
[environments.cluster]
backend = "kubeflow"
endpoint = "http://127.0.0.1:9"
bucket = "file://{bucket}"
image = "registry.example.com/line@sha256:12"
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The line project with an environment on a folder that both sides mount."""
    monkeypatch.setenv("TRILHO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TRILHO_ACTOR", "ana")
    folder = write_project(tmp_path / "line", SETTINGS.format(bucket=tmp_path / "shared"), rows(0, 400, 2.0))
    (folder / "contract.toml").write_text("")
    return Project.open(folder)


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    """The service of the project's environment."""
    from trilho.remote import follow

    made = Service(tmp_path / "shared")
    monkeypatch.setattr(environment.Target, "runner", property(lambda _target: made))
    monkeypatch.setattr(follow, "LOOK_SECONDS", (0.0, 0.0))
    return made
