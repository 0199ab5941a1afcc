"""A step where a service runs it: found unchanged in the store, put on record, safe against a kill at any moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from trilho_runtime.steps.digest import digest_file, digest_json
from trilho_runtime.steps.fingerprint import libraries_digest, step_fingerprint
from trilho_runtime.steps.remote import RemoteStep

ROOT = "gs://bucket/root"
STEPS = '''
    import os, time
    from pathlib import Path
    from typing import NamedTuple
    from trilho_runtime.step import File, In, Metrics, Out, Table, step

    class Sum(NamedTuple):
        rows: int
        until: str

    def _ran():
        with open(os.environ["RAN"], "a") as file:
            file.write("x")

    @step
    def double(numbers: In[Table], doubled: Out[Table], times: int = 2, where: str = "") -> Sum:
        """Multiply."""
        _ran()
        found = [times * int(n) for n in numbers.path.read_text().split()]
        doubled.path.write_text(" ".join(map(str, found)))
        doubled.metadata["unit"] = "cm"
        return Sum(len(found), "2020-01-01")

    @step
    def score(doubled: In[Table], scores: Out[Metrics], folder: Out[File]) -> float:
        _ran()
        scores.metadata["mae"] = 1.5
        folder.path.mkdir()
        (folder.path / "a.txt").write_text("a")
        return 1.5

    @step
    def boom(numbers: In[Table], never: Out[Table]) -> None:
        _ran()
        raise ValueError("no such luck")

    @step
    def refuse(numbers: In[Table], never: Out[Table]) -> None:
        class NotYet(Exception):
            fact, hint, exit_code = "too little data", "wait", 4
        raise NotYet

    @step
    def slow(numbers: In[Table], never: Out[Table]) -> None:
        _ran()
        time.sleep(60)

    @step(side_effect=True)
    def deploy(numbers: In[Table]) -> None:
        _ran()

    @step
    def count() -> int:
        _ran()
        return 7
'''


@dataclass
class Service:
    """A bucket that is mounted, a project's code, and steps run as a service's containers run them."""

    folder: Path
    environment: dict[str, str]
    jobs: int = 0

    @property
    def bucket(self) -> Path:
        return self.folder / "buckets" / "bucket"

    @property
    def source(self) -> Path:
        return self.folder / "src"

    def write(self, name: str, text: str) -> str:
        place = self.bucket / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        return f"gs://bucket/{name}"

    def request(self, inputs: Mapping[str, Any], outputs: tuple[str, ...], **parameters: Any) -> dict[str, Any]:
        self.jobs += 1
        place = f"root/123/job{self.jobs}"
        given = {
            name: {"artifacts": [artifact if isinstance(artifact, dict) else {"name": name, "uri": artifact}]}
            for name, artifact in inputs.items()
        }
        made = {
            name: {"artifacts": [{"name": f"id-{self.jobs}", "uri": f"gs://bucket/{place}/{name}",
                                  "type": {"schemaTitle": "system.Dataset"}, "metadata": {}}]}
            for name in outputs
        }  # fmt: skip
        output = str(self.bucket / place / "executor_output.json")
        return {
            "inputs": {"parameterValues": parameters, "artifacts": given},
            "outputs": {"outputFile": output, "artifacts": made},
        }

    def start(
        self, step: str, request: Mapping[str, Any], run: str, *options: str, **env: str
    ) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "trilho_runtime.step", f"shop:{step}", "--executor-input", json.dumps(request)]
        words += ["--root", ROOT, "--run", run, "--task", step, "--path", str(self.source), *options]
        return subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**self.environment, **env}
        )

    def do(self, step: str, request: Mapping[str, Any], run: str, *options: str, **env: str) -> tuple[int, str]:
        process = self.start(step, request, run, *options, **env)
        out, err = process.communicate(timeout=60)
        return process.returncode, out + err

    def output(self, request: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(Path(request["outputs"]["outputFile"]).read_text())
        return found

    def record(self, run: str, task: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.bucket / "root" / "runs" / run / f"{task}.json").read_text())
        return found

    @property
    def manifests(self) -> list[Path]:
        return sorted((self.bucket / "root" / "cache").glob("*"))

    @property
    def ran(self) -> int:
        place = Path(self.environment["RAN"])
        return len(place.read_text()) if place.exists() else 0


@pytest.fixture
def service(tmp_path: Path) -> Service:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "shop.py").write_text(textwrap.dedent(STEPS))
    mounts = json.dumps({"gs://": f"{tmp_path}/buckets/"})
    return Service(tmp_path, {**os.environ, "TRILHO_MOUNTS": mounts, "RAN": str(tmp_path / "ran")})


def test_a_first_run_leaves_digests_a_manifest_and_a_record(service: Service) -> None:
    numbers = service.write("numbers.txt", "1 2")
    request = service.request({"numbers": numbers}, ("doubled",), times=3)
    assert service.do("double", request, "r1") == (0, "")
    digest = digest_file(service.bucket / "root/123/job1/doubled")
    assert service.output(request) == {
        "parameterValues": {"rows": 2, "until": "2020-01-01"},
        "artifacts": {
            "doubled": {
                "artifacts": [
                    {
                        "name": "id-1",
                        "uri": "gs://bucket/root/123/job1/doubled",
                        "type": {"schemaTitle": "system.Dataset"},
                        "metadata": {"unit": "cm", "trilho_digest": digest},
                    }
                ]
            }
        },
    }
    record = service.record("r1", "double")
    assert record.pop("seconds") > 0
    (manifest,) = service.manifests
    assert record == {
        "schema": 1,
        "task": "double",
        "state": "ran",
        "fingerprint": manifest.stem,
        "outputs": {"doubled": {"uri": "gs://bucket/root/123/job1/doubled", "digest": digest}},
        "values": {"rows": 2, "until": "2020-01-01"},
    }
    assert manifest.stem == step_fingerprint(
        "shop:double",
        {"times": 3},
        {"numbers": digest_file(service.bucket / "numbers.txt")},
        ["doubled"],
        source=service.source,
        libraries=libraries_digest(),
    )


def test_a_second_run_is_given_what_the_first_left(service: Service) -> None:
    first = service.request({"numbers": service.write("a.txt", "1 2")}, ("doubled",), times=3)
    service.do("double", first, "r1")
    same = service.write("elsewhere/b.txt", "1 2")
    second = service.request({"numbers": same}, ("doubled",), times=3)
    assert service.do("double", second, "r2") == (0, "step shop:double: unchanged since r1\n")
    assert service.ran == 1
    made, known = (service.output(x)["artifacts"]["doubled"]["artifacts"][0] for x in (first, second))
    assert known == {**made, "name": "id-2"}
    assert service.output(second)["parameterValues"] == {"rows": 2, "until": "2020-01-01"}
    record = service.record("r2", "double")
    assert (record["state"], record["since"]) == ("cached", "r1")
    assert record["outputs"] == service.record("r1", "double")["outputs"]
    assert record["fingerprint"] == service.record("r1", "double")["fingerprint"]


def test_a_digest_in_an_inputs_metadata_is_believed_and_saves_reading_it(service: Service) -> None:
    service.do("double", service.request({"numbers": service.write("a.txt", "1 2")}, ("doubled",)), "r1")
    known = digest_file(service.bucket / "a.txt")
    gone = {"name": "n", "uri": "gs://bucket/gone.txt", "metadata": {"trilho_digest": known}}
    service.do("double", service.request({"numbers": gone}, ("doubled",)), "r2")
    assert service.record("r2", "double")["state"] == "cached"


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ("comment", "cached"),
        ("other function", "cached"),
        ("where", "cached"),
        ("code", "ran"),
        ("times", "ran"),
        ("data", "ran"),
        ("no cache", "ran"),
        ("gone", "ran"),
        ("torn", "ran"),
        ("newer", "ran"),
    ],
)
def test_what_makes_a_step_run_again(service: Service, change: str, state: str) -> None:
    numbers = service.write("a.txt", "1 2")
    env = {"TRILHO_UNCOUNTED": "where,other"}
    service.do("double", service.request({"numbers": numbers}, ("doubled",), times=3, where="here"), "r1", **env)
    code, times, where, options = service.source / "shop.py", 3, "here", ()
    (manifest,) = service.manifests
    if change in ("comment", "other function", "code"):
        old, new = {
            "comment": ('"cm"', '"cm"  # why'),
            "other function": ("no such luck", "bad luck"),
            "code": ('"cm"', '"mm"'),
        }[change]
        code.write_text(code.read_text().replace(old, new))
    elif change == "gone":
        (service.bucket / "root/123/job1/doubled").unlink()
    elif change == "torn":
        manifest.write_text(manifest.read_text()[:40])
    elif change == "newer":
        manifest.write_text(manifest.read_text().replace('"schema": 1', '"schema": 2'))
    else:
        times = 4 if change == "times" else 3
        where = "there" if change == "where" else "here"
        numbers = service.write("a.txt", "1 2 3") if change == "data" else numbers
        options = ("--no-cache",) if change == "no cache" else ()  # type: ignore[assignment]
    request = service.request({"numbers": numbers}, ("doubled",), times=times, where=where)
    assert service.do("double", request, "r2", *options, **env)[0] == 0
    assert service.record("r2", "double")["state"] == state
    assert Path(service.output(request)["artifacts"]["doubled"]["artifacts"][0]["uri"]).name == "doubled"


def test_metrics_without_a_file_and_folders_are_found_again(service: Service) -> None:
    table = service.write("t.txt", "1")
    first = service.request({"doubled": table}, ("scores", "folder"))
    assert service.do("score", first, "r1") == (0, "")
    second = service.request({"doubled": table}, ("scores", "folder"))
    service.do("score", second, "r2")
    assert service.record("r2", "score")["state"] == "cached"
    made = service.output(second)["artifacts"]
    assert made["scores"]["artifacts"][0]["metadata"]["mae"] == 1.5
    expected = digest_json({"a.txt": digest_file(service.bucket / "root/123/job1/folder/a.txt")})
    assert made["folder"]["artifacts"][0]["metadata"]["trilho_digest"] == expected
    (service.bucket / "root/123/job1/folder/a.txt").unlink()
    (service.bucket / "root/123/job1/folder").rmdir()
    service.do("score", service.request({"doubled": table}, ("scores", "folder")), "r3")
    assert service.record("r3", "score")["state"] == "ran"


@pytest.mark.parametrize("options", [(), ("--timeout", "30")])
def test_a_failed_step_is_on_record_with_its_traceback(service: Service, options: tuple[str, ...]) -> None:
    request = service.request({"numbers": service.write("a.txt", "1")}, ("never",))
    code, said = service.do("boom", request, "r1", *options)
    assert code == 1
    record = service.record("r1", "boom")
    assert record["state"] == "failed"
    assert record["error"] == {
        "kind": "ValueError",
        "fact": "ValueError: no such luck",
        "hint": None,
        "exit_code": 1,
    }
    assert record["said"][0] == "Traceback (most recent call last):"
    assert record["said"][1].strip().startswith(f'File "{service.source / "shop.py"}", line ')
    assert record["said"][-1] == "ValueError: no such luck"
    assert "\n".join(record["said"]) in said
    assert service.manifests == []
    service.do("boom", request, "r2", *options)
    assert service.ran == 2


def test_a_refusal_keeps_its_kind_hint_and_exit_code(service: Service) -> None:
    request = service.request({"numbers": service.write("a.txt", "1")}, ("never",))
    assert service.do("refuse", request, "r1")[0] == 1
    error = {"kind": "NotYet", "fact": "too little data", "hint": "wait", "exit_code": 4}
    assert service.record("r1", "refuse")["error"] == error
    assert service.record("r1", "refuse")["said"] == []


def test_a_step_that_takes_too_long_is_on_record(service: Service) -> None:
    request = service.request({"numbers": service.write("a.txt", "1")}, ("never",))
    assert service.do("slow", request, "r1", "--timeout", "1")[0] == 124
    error = service.record("r1", "slow")["error"]
    assert error["fact"] == "it ran for 1 seconds, which is as long as it may"


def test_a_step_without_inputs_needs_no_word_of_them(service: Service) -> None:
    for run, state in (("r1", "ran"), ("r2", "cached")):
        request = service.request({}, ())
        del request["inputs"]  # as a service writes it that leaves out what is empty
        code, said = service.do("count", request, run)
        assert code == 0, said
        assert service.output(request)["parameterValues"] == {"output": 7}
        assert service.record(run, "count")["state"] == state
    assert service.ran == 1


def test_a_side_effect_runs_every_time_and_leaves_no_manifest(service: Service) -> None:
    request = service.request({"numbers": service.write("a.txt", "1")}, ())
    for run in ("r1", "r2"):
        assert service.do("deploy", request, run, "--no-cache") == (0, "")
        assert service.record(run, "deploy")["state"] == "ran"
    assert (service.ran, service.manifests) == (2, [])


def test_a_store_that_cannot_be_written_loses_the_record_and_not_the_step(service: Service) -> None:
    request = service.request({"numbers": service.write("a.txt", "1")}, ("doubled",))
    service.write("root/cache", "in the way")
    service.write("root/runs", "in the way")
    code, said = service.do("double", request, "r1")
    assert code == 0
    assert "cannot be written: " in said
    assert service.output(request)["parameterValues"]["rows"] == 1


CRASH = """
import json, os, signal, sys
from trilho_runtime.steps import remote
from trilho_runtime.step import run

request, path, moment = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
count, whole = 0, remote._write_whole

def dying(place, content):
    global count
    if count == moment:
        os.kill(os.getpid(), signal.SIGKILL)
    count += 1
    whole(place, content)

remote._write_whole = dying
step = remote.RemoteStep("shop:double", request, "gs://bucket/root", "r1", "double", remote.Path(path))
sys.exit(step.perform(lambda: run("shop:double", request, [path])))
"""


@pytest.mark.parametrize("moment", [0, 1, 2])
def test_whatever_is_killed_when_the_next_run_has_whole_results(service: Service, moment: int) -> None:
    """The moments are before the digests, before the manifest, and before the record."""
    numbers = service.write("a.txt", "1 2")
    request = service.request({"numbers": numbers}, ("doubled",))
    words = [sys.executable, "-c", CRASH, json.dumps(request), str(service.source), str(moment)]
    assert subprocess.run(words, env=service.environment, check=False).returncode == -signal.SIGKILL
    assert len(service.manifests) == (1 if moment == 2 else 0)
    assert not (service.bucket / "root" / "runs").exists()
    again = service.request({"numbers": numbers}, ("doubled",))
    assert service.do("double", again, "r2")[0] == 0
    assert service.record("r2", "double")["state"] == ("cached" if moment == 2 else "ran")
    assert service.output(again)["parameterValues"] == {"rows": 2, "until": "2020-01-01"}
    place = service.bucket / str(service.record("r2", "double")["outputs"]["doubled"]["uri"]).removeprefix(
        "gs://bucket/"
    )
    assert place.read_text() == "2 4"


def test_two_at_once_leave_one_whole_manifest(service: Service) -> None:
    numbers = service.write("a.txt", "1 2")
    requests = [service.request({"numbers": numbers}, ("doubled",)) for _ in range(3)]
    processes = [service.start("double", request, f"r{n}") for n, request in enumerate(requests)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    for process in processes:
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()
    (manifest,) = service.manifests
    assert json.loads(manifest.read_text())["values"]["rows"] == 2
    assert {service.record(f"r{n}", "double")["state"] for n in range(3)} <= {"ran", "cached"}


def test_a_step_that_is_killed_leaves_nothing_and_runs_again(service: Service) -> None:
    request = service.request({"numbers": service.write("a.txt", "1")}, ("never",))
    process = service.start("slow", request, "r1")
    deadline = time.monotonic() + 30
    while service.ran == 0:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=30)
    assert service.manifests == []
    assert not (service.bucket / "root" / "runs").exists()


def test_a_platform_step_counts_by_its_version(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    request = service.request({}, (), x=1)
    monkeypatch.setenv("TRILHO_VERSION", "3")
    step = RemoteStep("trilho.train.steps:pair", request, ROOT, "r1", "pair")
    assert step.fingerprint == step_fingerprint("trilho.train.steps:pair", {"x": 1}, {}, (), version="3")
