"""What an image runs: one version or several in one container, as its environment says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.serving import FEATURES, ROW, Running, alive, call, make_package, until

from trilho_runtime import container
from trilho_runtime.container import address, callers
from trilho_runtime.processes.plan import PlanError, Shadow, read_plan, versions_in

TRIPLE = FEATURES.replace('frame[["x"]] * 2', 'frame[["x"]] * 3')
KEY = "a-key-of-more-than-16-letters"


@pytest.fixture(scope="module")
def versions(made: Path, project_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two versions whose modules have the same names and say different things."""
    other = tmp_path_factory.mktemp("triple")
    done = make_package(project_python, other, code=TRIPLE)
    assert done.returncode == 0, done.stderr
    folder = tmp_path_factory.mktemp("versions")
    shutil.copytree(made / "package", folder / "1")
    shutil.copytree(other / "package", folder / "v2")
    return folder


class Containers:
    """Runs the image's command with the environment of a platform, and nothing of ours."""

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder, self.python = folder, python
        self.started: list[Running] = []

    def run(self, *arguments: object, **env: object) -> Running:
        number = len(self.started)
        ready, errors = self.folder / f"ready-{number}.json", self.folder / f"said-{number}.txt"
        command = [str(self.python), "-m", "trilho_runtime.container", *map(str, arguments)]
        told = {"PATH": os.environ["PATH"], "TRILHO_HOST": "127.0.0.1", "TMPDIR": str(self.folder), "PORT": "0"}
        with errors.open("wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.folder,
                env=told | {name: str(value) for name, value in env.items()},
            )  # fmt: skip
        self.started.append(Running(process, ready, errors))
        return self.started[-1]

    def address(self, running: Running) -> str:
        """Find the router's address in the folder that the container keeps for itself."""

        def found() -> str | None:
            assert running.process.poll() is None, running.errors.read_text()
            for path in self.folder.glob("trilho-*/router.ready.json"):
                at = str(json.loads(path.read_bytes())["address"])
                if call(at, "/health").status == 200:
                    return at
            return None

        return str(until(found, what="the router"))


@pytest.fixture
def containers(tmp_path: Path, project_python: Path) -> Iterator[Containers]:
    made = Containers(tmp_path, project_python)
    yield made
    for running in made.started:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait(10)


def routes(*shares: tuple[int, float], **more: Any) -> str:
    return json.dumps({"versions": [{"version": number, "share": share} for number, share in shares], **more})


def ask(at: str, name: str = "a") -> tuple[int, float]:
    answer = call(at, "/predict", {"instances": [{**ROW, "id": name}]})
    assert answer.status == 200, answer.body
    return answer.json["version"], answer.json["predictions"][0]


def test_two_versions_of_one_module_each_answer_with_their_own_code(versions: Path, containers: Containers) -> None:
    log = containers.folder / "log"
    running = containers.run(TRILHO_PACKAGES=versions, TRILHO_ROUTES=routes((1, 50), (2, 50)), TRILHO_LOG=log)
    at = containers.address(running)
    found = Counter(ask(at) for _ in range(20))
    assert found == Counter({(1, 10.0): 10, (2, 11.5): 10})  # 2 * 1.5 and 3 * 1.5, and the rest
    told = call(at, "/").json["versions"]
    assert [(item["version"], item["share"]) for item in told] == [(1, 50), (2, 50)]
    assert all(item["memory_bytes"] > 10_000_000 for item in told)
    assert running.stop() == 0
    lines = [json.loads(line) for path in (log / "predictions").glob("*.jsonl") for line in path.open()]
    assert Counter((line["n"], line["y"]) for line in lines) == found


def test_a_customer_stays_with_a_version(versions: Path, containers: Containers) -> None:
    told = routes((1, 50), (2, 50), sticky="id")
    at = containers.address(containers.run(TRILHO_PACKAGES=versions, TRILHO_ROUTES=told))
    first = {name: ask(at, name) for name in "abcdefghij"}
    assert {version for version, _ in first.values()} == {1, 2}
    assert {name: ask(at, name) for name in first} == first


def test_routes_change_while_it_runs(versions: Path, containers: Containers) -> None:
    file = containers.folder / "routes.json"
    file.write_text(routes((1, 100)))
    running = containers.run(TRILHO_PACKAGES=versions, TRILHO_ROUTES=file)
    at = containers.address(running)
    assert {ask(at) for _ in range(4)} == {(1, 10.0)}
    file.write_text(routes((2, 100), shadow={"version": 1, "share": 100}))
    until(lambda: ask(at) == (2, 11.5))
    until(lambda: ask(at) and call(at, "/stats").json["shadow"].get("1", {}).get("requests"))
    file.write_text("{")
    until(lambda: "the routes stay as they were" in running.errors.read_text())
    assert ask(at) == (2, 11.5)
    file.write_text(routes((2, 100)))
    pid = str(running.process.pid)

    def servers() -> int:
        shown = subprocess.run(["ps", "-o", "args=", "--ppid", pid], capture_output=True, text=True, check=False).stdout
        return shown.count("trilho_runtime.server")

    until(lambda: servers() == 1, what="the version that was dropped to end")
    assert ask(at) == (2, 11.5)


def test_a_version_that_dies_is_started_again(versions: Path, containers: Containers) -> None:
    running = containers.run(TRILHO_PACKAGES=versions, TRILHO_ROUTES=routes((1, 50), (2, 50)))
    at = containers.address(running)
    told = [json.loads(path.read_bytes()) for path in containers.folder.glob("trilho-*/v1.ready.json")]
    os.kill(told[0]["pid"], signal.SIGKILL)
    assert {ask(at) for _ in range(10)} <= {(1, 10.0), (2, 11.5)}
    until(lambda: {ask(at), ask(at)} == {(1, 10.0), (2, 11.5)})
    assert "v1 ended with signal 9" in running.errors.read_text()


def test_nothing_outlives_the_first_process(versions: Path, containers: Containers) -> None:
    running = containers.run(TRILHO_PACKAGES=versions, TRILHO_ROUTES=routes((1, 50), (2, 50)))
    containers.address(running)
    pids = [json.loads(path.read_bytes())["pid"] for path in containers.folder.glob("trilho-*/*.ready.json")]
    assert len(pids) == 3
    running.process.kill()
    until(lambda: not any(alive(pid) for pid in pids))


def test_what_cannot_start_ends_the_container(versions: Path, containers: Containers) -> None:
    broken = Path(shutil.copytree(versions / "1", containers.folder / "7" / "7"))
    (broken / "sample.json").write_text("{}")
    running = containers.run(TRILHO_PACKAGES=broken.parent)
    assert running.process.wait(30) == 1
    assert "sample.json" in running.errors.read_text()


def test_one_package_is_served_by_the_first_process_itself(package: Path, containers: Containers) -> None:
    ready = containers.folder / "own.json"
    running = containers.run(package, "--ready-file", ready, TRILHO_VERSION=4, TRILHO_API_KEYS=KEY)
    at = str(until(lambda: ready.exists() and json.loads(ready.read_bytes())["address"]))
    assert json.loads(ready.read_bytes())["pid"] == running.process.pid
    until(lambda: call(at, "/health").status == 200)
    assert call(at, "/predict", {"instances": [ROW]}).status == 401
    assert call(at, "/predict", {"instances": [ROW]}, {"x-api-key": KEY}).json["version"] == 4
    assert KEY not in Path(f"/proc/{running.process.pid}/cmdline").read_text()
    assert running.stop() == 0


@pytest.mark.parametrize(("env", "said"), [
    ({"TRILHO_ROUTES": "nowhere.json"}, "TRILHO_ROUTES is nowhere.json: No such file or directory"),
    ({"TRILHO_ROUTES": routes((3, 100))}, "version 3 of the routes has no package; there are: 1, 2"),
    ({}, "TRILHO_ROUTES is not set"),
])  # fmt: skip
def test_a_wrong_environment_is_said_in_two_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], env: dict[str, str], said: str
) -> None:
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "manifest.json").write_text("{}")
    for name, value in {"TRILHO_PACKAGES": str(tmp_path), **env}.items():
        monkeypatch.setenv(name, value)
    assert container.main([]) == 2
    fact, hint = capsys.readouterr().err.splitlines()
    assert said in fact
    assert hint.startswith("Hint: ")


class TestEnvironment:
    def told(self, monkeypatch: pytest.MonkeyPatch, arguments: list[str], **env: str) -> list[str]:
        """Give the command that would serve one package."""
        told: list[str] = []
        for name, value in env.items():
            monkeypatch.setenv(name, value)

        def serve(given: Any) -> int:
            told.extend(given)
            return 0

        for module in ("server", "workers"):
            fake = type(sys)(f"trilho_runtime.{module}")
            vars(fake)["main"] = serve
            monkeypatch.setitem(sys.modules, f"trilho_runtime.{module}", fake)
        assert container.main(arguments) == 0
        return told

    def test_vertex_ai_says_where(self, monkeypatch: pytest.MonkeyPatch) -> None:
        told = self.told(monkeypatch, [], AIP_HTTP_PORT="8085", AIP_STORAGE_URI="gs://b/m")
        assert told == ["--host", "0.0.0.0", "--port", "8085", "--open", "--notes", "json", "gs://b/m"]

    def test_a_package_of_the_image_is_the_last_choice(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(container, "DEFAULTS", (str(tmp_path / "none"), str(tmp_path)))
        assert self.told(monkeypatch, [])[-1] == str(tmp_path)
        assert self.told(monkeypatch, [], TRILHO_PACKAGE="/p")[-1] == "/p"
        assert self.told(monkeypatch, ["/q", "--version", "2"])[-3:] == ["/q", "--version", "2"]

    def test_workers_are_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        told = self.told(monkeypatch, ["/p"], TRILHO_WORKERS="2", TRILHO_LOG="/log")
        assert told[:2] == ["--workers", "2"]
        assert told[-7:] == [
            "--log",
            "/log/predictions",
            "--profiles",
            "/log/profiles",
            "--label-dir",
            "/log/labels",
            "/p",
        ]

    def test_cloud_run_says_the_port(self) -> None:
        assert address({"PORT": "9000"})[-1] == "9000"
        assert address({"PORT": "9000", "AIP_HTTP_PORT": "1"})[-1] == "1"
        assert address({})[-1] == "8080"

    def test_no_key_is_on_the_command_line(self) -> None:
        env = {"TRILHO_API_KEYS": KEY, "TRILHO_API_KEYS_FILE": "/keys", "TRILHO_AUDIENCE": "https://x"}
        told = callers(env)
        assert KEY not in told
        assert told == ["--api-key", "env:TRILHO_API_KEYS", "--api-key", "file:/keys", "--audience", "https://x"]


class TestPlan:
    PACKAGES: Mapping[int, str] = {1: "/m/1", 2: "/m/2"}

    def test_shares_shadow_and_the_rest_are_read(self) -> None:
        plan = read_plan(
            routes((1, 90), (2, 10), sticky="id", shadow={"version": 3, "package": "gs://b/3"}), self.PACKAGES
        )
        assert plan.shares == {1: 90.0, 2: 10.0}
        assert plan.shadow == Shadow(3, 100.0)
        assert plan.packages == {1: "/m/1", 2: "/m/2", 3: "gs://b/3"}
        assert plan.more == {"sticky": "id"}

    @pytest.mark.parametrize(("told", "said"), [
        ("", "malformed"), ("[]", "malformed"), ('{"versions": 3}', "malformed"), ('{"versions": [{}]}', "malformed"),
        (routes((1, 90)), "add up to 90"), (routes((1, 110), (2, -10)), "add up to 100; allowed: 0 to 100 each"),
        (routes((1, 50), (1, 50)), "names? a version twice"), (routes((9, 100)), "no package; there are: 1, 2"),
        (routes((1, 100), shadow={"version": 2, "share": 200}), "the shadow's share is 200"),
        (routes((1, 100), shadow={"share": 20}), "malformed"),
    ])  # fmt: skip
    def test_what_is_wrong_is_said(self, told: str, said: str) -> None:
        with pytest.raises(PlanError, match=said):
            read_plan(told, self.PACKAGES)

    def test_packages_are_found_by_their_numbers(self, tmp_path: Path) -> None:
        for name in ("1", "v12", "notes", "3", "0"):
            (tmp_path / name).mkdir()
        for name in ("1", "v12", "notes", "0"):
            (tmp_path / name / "manifest.json").write_text("{}")
        assert versions_in(tmp_path) == {1: str(tmp_path / "1"), 12: str(tmp_path / "v12")}
        assert versions_in(tmp_path / "none") == {}
