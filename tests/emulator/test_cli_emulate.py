"""`trilho emulate` as its users meet it: a process of its own, found by clients through the environment it prints."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("google.cloud.aiplatform_v1")

from trilho.cli.emulate import _places
from trilho.cli.session import Session
from trilho.errors import UsageError
from trilho.pipeline.places import Place
from trilho.testing.emulator.pubsub import find_jar

CLIENTS = """
import json, sys
import google.auth
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform, bigquery, secretmanager_v1, storage
said = {}
found, said["project"] = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
for name, credentials in (("default", None), ("anonymous", AnonymousCredentials()), ("file", found)):
    bucket = storage.Client(credentials=credentials).bucket("trilho-emulated-trilho")
    bucket.blob(name).upload_from_string(name)
    rows = bigquery.Client(credentials=credentials).query("SELECT 40 + 2 AS n").result()
    secrets = secretmanager_v1.SecretManagerServiceClient(credentials=credentials)
    secrets.create_secret(parent="projects/trilho-emulated", secret_id=name, secret={"replication": {"automatic": {}}})
    secrets.add_secret_version(parent=f"projects/trilho-emulated/secrets/{name}", payload={"data": b"s"})
    latest = secrets.access_secret_version(name=f"projects/trilho-emulated/secrets/{name}/versions/latest")
    aiplatform.init(project="trilho-emulated", location="southamerica-east1", credentials=credentials,
                    api_endpoint=sys.argv[1] or None)
    endpoint = aiplatform.Endpoint.create(display_name=name)
    said[name] = [bucket.blob(name).download_as_text(), [row.n for row in rows], latest.payload.data.decode(),
                  aiplatform.Endpoint(endpoint.resource_name).display_name]
said["email"], said["token"] = found.service_account_email, found.token[:5]
print(json.dumps(said))
"""
PUBLISH = """
from google.cloud import pubsub_v1
publisher, subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
topic, subscription = "projects/trilho-emulated/topics/rows", "projects/trilho-emulated/subscriptions/rows"
publisher.create_topic(name=topic)
subscriber.create_subscription(name=subscription, topic=topic)
publisher.publish(topic, b"hello").result(20)
print(subscriber.pull(subscription=subscription, max_messages=1).received_messages[0].message.data.decode())
"""

STEPS = """
from trilho_runtime.pipeline import Pipeline
from trilho_runtime.step import step

@step
def double(number: int = 2) -> int:
    return 2 * number

def doubling() -> Pipeline:
    p = Pipeline("doubling")
    p.task("double", "shop.steps:double")
    return p
"""
SUBMIT = """
import sys
from google.cloud import aiplatform
aiplatform.init(project="trilho-emulated", location="southamerica-east1", api_endpoint=sys.argv[1])
job = aiplatform.PipelineJob(display_name="p", template_path=sys.argv[2], pipeline_root="gs://trilho-emulated-trilho/r")
job.run()
print(job.state.name)
"""


@contextmanager
def emulating(*words: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Run the program until the end of the block; give its process and the first line that it printed."""
    with (folder / "err").open("w") as complaints:
        process = subprocess.Popen(
            [sys.executable, "-m", "trilho", "emulate", "--json", *words],
            stdout=subprocess.PIPE, stderr=complaints, text=True, cwd=folder,
        )  # fmt: skip
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, (folder / "err").read_text()
        yield process, json.loads(line)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(30)
        process.stdout.close()


def run(code: str, said: dict[str, Any], *words: str) -> str:
    """Run a client in a process of its own, in the environment that the emulator printed."""
    environment = {**os.environ, **said["env"]}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with emulating(folder=tmp_path_factory.mktemp("emulate")) as (_, said):
        yield said


class TestClients:
    @pytest.mark.parametrize("told", [True, False])
    def test_find_it_by_the_environment_alone(self, emulated: dict[str, Any], told: bool) -> None:
        code = CLIENTS if told else CLIENTS.replace('secret_id=name', 'secret_id=name + "2"').replace(
            "/secrets/{name}", "/secrets/{name}2"
        )  # fmt: skip
        said = json.loads(run(code, emulated, emulated["aiplatform"] if told else ""))
        assert said == {
            "project": "trilho-emulated", "email": "emulator@trilho-emulated.iam.gserviceaccount.com", "token": "ya29.",
            **{name: [name, [42], "s", name] for name in ("default", "anonymous", "file")},
        }  # fmt: skip

    def test_the_line_says_what_is_where(self, emulated: dict[str, Any]) -> None:
        environment = emulated["env"]
        assert {"STORAGE_EMULATOR_HOST", "BIGQUERY_EMULATOR_HOST", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "TRILHO_LOGGING",
                "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "TRILHO_KUBEFLOW",
                "TRILHO_BUCKET"} <= set(environment)  # fmt: skip
        assert environment["TRILHO_AIPLATFORM"] == emulated["aiplatform"]
        assert emulated["aiplatform"].startswith("localhost:")
        assert Path(environment["GOOGLE_APPLICATION_CREDENTIALS"]).stat().st_mode & 0o077 == 0

    @pytest.mark.skipif(find_jar() is None, reason="Google's Pub/Sub emulator is not installed")
    def test_pubsub_is_googles_own(self, emulated: dict[str, Any]) -> None:
        assert run(PUBLISH, emulated) == "hello"


class TestLife:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_it_and_all_that_it_started(self, tmp_path: Path, number: signal.Signals) -> None:
        with emulating(folder=tmp_path) as (process, said):
            pubsub = said["env"].get("PUBSUB_EMULATOR_HOST")
            process.send_signal(number)
            assert process.wait(30) == 0
        assert (tmp_path / "err").read_text() == ""
        assert not Path(said["data"]).exists()
        assert pubsub is None or not _answers(pubsub)

    def test_pubsub_ends_when_it_is_killed(self, tmp_path: Path) -> None:
        with emulating("--data", str(tmp_path / "data"), folder=tmp_path) as (process, said):
            pubsub = said["env"].get("PUBSUB_EMULATOR_HOST")
            process.kill()
            process.wait(30)
        until = time.monotonic() + 20
        while pubsub and _answers(pubsub) and time.monotonic() < until:
            time.sleep(0.05)
        assert pubsub is None or not _answers(pubsub)

    def test_state_is_kept_in_a_folder_that_one_emulator_holds(self, tmp_path: Path) -> None:
        data = str(tmp_path / "data")
        write = "from google.cloud import storage; print(storage.Client().create_bucket('kept').name)"
        read = "from google.cloud import storage; print(storage.Client().get_bucket('kept').name)"
        with emulating("--data", data, folder=tmp_path) as (_, said):
            assert run(write, said) == "kept"
            second = _refused("--data", data, folder=tmp_path)
            assert (second["exit"], "another emulator has its state in" in second["error"]) == (2, True)
            key = Path(said["env"]["GOOGLE_APPLICATION_CREDENTIALS"]).read_text()
        port = _free_ports()
        with emulating("--data", data, "--port", str(port), "--project", "other-project", folder=tmp_path) as (_, said):
            assert run(read, said) == "kept"
            assert said["aiplatform"] == f"localhost:{port}"
            assert said["env"]["STORAGE_EMULATOR_HOST"] == f"http://127.0.0.1:{port + 1}"
            again = json.loads(Path(said["env"]["GOOGLE_APPLICATION_CREDENTIALS"]).read_text())
            assert (again["private_key"], again["project_id"]) == (json.loads(key)["private_key"], "other-project")
            taken = _refused("--port", str(port), folder=tmp_path)
            assert (taken["exit"], f"port {port} cannot be used" in taken["error"]) == (2, True)

    def test_rules_stand_before_every_service(self, tmp_path: Path) -> None:
        code = """
from google.api_core import exceptions
from google.cloud import aiplatform, storage
aiplatform.init(project="trilho-emulated", location="southamerica-east1")
said = []
for call in (lambda: aiplatform.Endpoint.create(display_name="x"),
             lambda: storage.Client().bucket("trilho-emulated-trilho").blob("x").upload_from_string("x")):
    try:
        call()
    except exceptions.Forbidden as error:
        said.append(error.message.split("'")[1])
print(said)
"""
        words = (
            "--deny",
            "aiplatform.endpoints.create",
            "--deny",
            "storage.objects.*",
            "--fail",
            "storage.objects.get=503:1",
        )
        with emulating(*words, "--latency", "1", folder=tmp_path) as (_, said):
            assert run(code, said) == "['aiplatform.endpoints.create', 'storage.objects.create']"


class TestFolder:
    @pytest.mark.parametrize("named", [False, True])
    @pytest.mark.parametrize("src", [False, True])
    def test_without_a_project_runs_its_own_code(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool, src: bool
    ) -> None:
        monkeypatch.delenv("TRILHO_PYTHON", raising=False)
        source = tmp_path / "src" if src else tmp_path
        source.mkdir(exist_ok=True)
        if not named:
            monkeypatch.chdir(tmp_path)
        places = _places(Session(folder=tmp_path if named else None), ["eu/=python3"], install=True)
        assert places.of("trilho.local/nightly@sha256:12") == Place(Path(sys.executable), source)
        assert (places.folder, places.source, places.of("python:3.11")) == (tmp_path, None, None)
        assert places.of("eu/x") is not None

    def test_runs_the_pipeline_that_is_compiled_there(self, tmp_path: Path) -> None:
        shop = tmp_path / "work" / "shop"
        shop.mkdir(parents=True)
        (shop / "__init__.py").touch()
        (shop / "steps.py").write_text(STEPS)
        trilho = [sys.executable, "-m", "trilho", "-C", str(shop.parent), "pipeline", "compile"]
        compiled = [*trilho, "shop.steps:doubling", "-o", str(tmp_path / "p.yaml")]
        assert subprocess.run(compiled, capture_output=True, timeout=60).returncode == 0
        with emulating("-C", str(shop.parent), folder=tmp_path) as (_, said):
            assert run(SUBMIT, said, said["aiplatform"], str(tmp_path / "p.yaml")) == "PIPELINE_STATE_SUCCEEDED"


class TestMistakes:
    @pytest.mark.parametrize(
        ("words", "fact"),
        [
            (("--fail", "CreatePipelineJob"), "METHOD=STATUS:COUNT"),
            (("--latency", "soon"), "--latency is 'soon'"),
            (("--image", "x"), "--image is 'x'"),
            (("--image", "x=/nowhere/python"), "PYTHON an interpreter"),
            (("--project", "UP"), "--project is 'UP'"),
            (("-C", "/nowhere"), "/nowhere is not a folder"),
        ],
    )
    def test_are_refused(self, tmp_path: Path, words: tuple[str, ...], fact: str) -> None:
        said = _refused(*words, folder=tmp_path)
        assert (said["exit"], fact in said["error"]) == (2, True), said

    def test_a_missing_library_is_told_with_the_line_that_installs_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from trilho.testing.emulator import serve

        monkeypatch.setattr(serve, "find_spec", lambda name: None if name == "sqlglot" else True)
        with pytest.raises(UsageError) as caught:
            serve.require_libraries()
        assert caught.value.fact == "trilho emulate needs sqlglot"
        assert caught.value.hint == 'pip install "trilho[emulate]"'


def _refused(*words: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "trilho", "emulate", "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=60)
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def _answers(address: str) -> bool:
    host, _, port = address.partition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=1):
            return True
    except OSError:
        return False


def _free_ports() -> int:
    """Give a port that is free, with the two after it."""
    for _ in range(50):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port < 65_000 and not any(_answers(f"127.0.0.1:{port + step}") for step in range(3)):
            return port
    raise AssertionError("no free ports")
