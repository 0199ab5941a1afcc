"""What cannot run here is said before anything runs: every task of it, by name, with the reason."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline import sdk, sdk_installing
from tests.pipeline.executing import Bench, document, spec_of

from trilho.errors import Refused, UsageError
from trilho.pipeline.ir.reader import read
from trilho.pipeline.places import Place, Places
from trilho.pipeline.workers import obstacles as refuse
from trilho.pipeline.workers.workers import Problem, Workers

PYTHON = Path(sys.executable)
Check = Callable[..., list[Problem]]


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(python=PYTHON, source=None, folder=tmp_path, platform=PYTHON)


@pytest.fixture
def check(places: Places, tmp_path: Path) -> Check:
    def problems(pipeline: Any, parameters: Mapping[str, Any] | None = None, **other: Any) -> list[Problem]:
        with Workers(replace(places, **other), tmp_path / "home") as workers:
            return workers.check(spec_of(pipeline), parameters or {})

    return problems


def running(*words: str, **container: Any) -> dict[str, Any]:
    made = document({"a": {"run": list(words)}})
    executor = {"image": "eu/shop:1", "command": list(words), **container}
    made["deploymentSpec"]["executors"]["exec-a"]["container"] = executor
    return made


def executing(**executor: Any) -> dict[str, Any]:
    made = document({"a": {}})
    made["deploymentSpec"]["executors"]["exec-a"] = executor
    return made


def importing(uri: Any, **task: Any) -> dict[str, Any]:
    made = document({"a": task, "b": {}})
    made["deploymentSpec"]["executors"]["exec-a"] = {"importer": {"artifactUri": uri}}
    return made


@pytest.mark.parametrize("name", ["branches", "artifacts", "containers", "static_loops", "exits", "nested", "retrying"])
def test_what_the_sdk_compiles_for_this_machine_is_accepted(check: Check, name: str) -> None:
    assert check(getattr(sdk, name)) == []


def test_every_task_is_named_at_once_and_nothing_runs(tmp_path: Path, places: Places) -> None:
    tasks = {"a": {"run": ["touch", "ran"]}, "b": {"run": ["nonesuch", "x"]}, "c": {"run": ["/opt/app/start"]}}
    bench = Bench(tmp_path / "home", tmp_path)
    with Workers(places, bench.home) as workers, pytest.raises(Refused) as caught:
        bench(document(tasks), workers=workers)
    assert caught.value.fact.splitlines()[1:] == [
        "task b: its command nonesuch (image img) does not exist here",
        "task c: its command /opt/app/start (image img) does not exist here",
    ]
    assert caught.value.exit_code == 3
    assert bench.told == []


@pytest.mark.parametrize("optional", [False, True])
def test_a_pipeline_that_takes_an_artifact_is_refused_unless_it_is_optional(tmp_path: Path, optional: bool) -> None:
    made = document({"a": {"run": ["true"]}})
    taken = {"artifactType": {"schemaTitle": "system.Dataset", "schemaVersion": "0.0.1"}, "isOptional": optional}
    made["root"]["inputDefinitions"] = {"artifacts": {"d": taken}}
    bench = Bench(tmp_path / "home", tmp_path)
    if optional:
        assert bench(made).state == "succeeded"
        return
    with pytest.raises(UsageError) as caught:
        bench(made)
    name = made["pipelineInfo"]["name"]
    assert caught.value.fact == f"pipeline {name} takes artifact d, and artifacts can't be given here"
    assert (caught.value.hint, caught.value.exit_code) == ("import it with dsl.importer", 2)
    assert bench.told == []


def test_a_task_deep_in_groups_is_named_by_its_path(check: Check) -> None:
    spec = spec_of(sdk.loop_in_condition)
    made = json.loads(json.dumps(spec.document))
    made["deploymentSpec"]["executors"]["exec-text"]["container"]["command"] = ["nonesuch"]
    (problem,) = check(made)
    assert problem.task == "for-loop-1/condition-2/text"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("python", "/app/train.py"), "its program /app/train.py does not exist here"),
        (("python3", "-m", "tfx.orchestration.run"), "has no module tfx.orchestration.run"),
        (("python3", "-m", "json.nonesuch"), "has no module json.nonesuch"),
        (("python3", "-m", "kfp.dsl.executor_main", "--executor_input", "{{$}}"), "its code is in the image eu/shop:1"),
        (("python", "-m", "trilho_runtime.step", "shop.steps:fit"), "no source folder is known here"),
    ],
)  # fmt: skip
def test_what_is_only_in_the_image_is_refused(check: Check, words: tuple[str, ...], reason: str) -> None:
    (problem,) = check(running(*words))
    assert reason in problem.reason
    assert problem.fatal


@pytest.mark.parametrize(
    "words",
    [
        ("python", "-m", "json.tool"), ("python3", "-m", "timeit"), ("sh", "-c", "nonesuch"),
        ("{{$.inputs.parameters['program']}}", "x"), ("python", "{{$.inputs.parameters['program']}}"),
        ("python", "-m", "trilho_runtime.step", "trilho.train.steps:check"), ("python", "-c", "pass"),
        ("python", "-m", "trilho_runtime.step", "trilho_runtime.fit:fit"), ("sh", "-c", "pip install x && python -V"),
    ],
)  # fmt: skip
def test_what_is_here_or_cannot_be_known_is_not_refused(check: Check, words: tuple[str, ...]) -> None:
    assert check(running(*words)) == []


def test_a_program_of_the_folder_and_a_step_of_the_source_are_here(check: Check, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("")
    (tmp_path / "src" / "shop").mkdir(parents=True)
    (tmp_path / "src" / "shop" / "steps.py").write_text("raise SystemExit('not to be imported')")
    assert check(running("python", "train.py")) == []
    words = ("python", "-m", "trilho_runtime.step", "shop.steps:fit")
    assert check(running(*words), source=tmp_path / "src") == []
    (problem,) = check(running(*words[:3], "shop.other:fit"), source=tmp_path / "src")
    assert problem.reason == f"its code, shop.other:fit, is not here: {tmp_path / 'src'} has no module shop.other"


def test_what_stands_for_an_image_is_where_its_commands_are(check: Check, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "serve"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert [problem.reason for problem in check(running("serve"))] == [
        "its command serve (image eu/shop:1) does not exist here"
    ]
    assert check(running("serve"), images={"eu/": Place(program.parent / "python")}) == []


def test_an_image_that_starts_by_itself_is_refused(check: Check) -> None:
    made = running("true")
    made["deploymentSpec"]["executors"]["exec-a"]["container"] = {"image": "argostub/createpvc", "args": ["x"]}
    (problem,) = check(made)
    assert problem.reason.startswith("it runs what the image argostub/createpvc starts by itself")


def test_without_installation_somebody_must_have_the_sdk(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check(sdk_installing.plain, install=False) == []
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    monkeypatch.setenv("PATH", "/nonexistent")
    (problem,) = check(sdk_installing.plain, install=False, python=bare, platform=bare)
    assert problem == Problem(
        "bare", f"it needs kfp.dsl.executor_main, which none of {bare} has", "run it without --no-install"
    )
    (problem,) = check(spec_of(sdk.ordered), python=bare, platform=bare)[:1]
    assert problem.hint == "install kfp into the project's environment"


def test_pip_in_the_midst_of_a_script_cannot_be_skipped(check: Check) -> None:
    (problem,) = check(running("sh", "-c", "pip install x && python -V"), install=False)
    assert problem.reason == "its command installs packages in a way that cannot be told from the rest"


@pytest.mark.parametrize("kind", ["resolver", "customJob"])
def test_executors_that_only_a_cloud_has_are_refused(check: Check, kind: str) -> None:
    (problem,) = check(executing(**{kind: {}}))
    assert problem.reason == f"an executor of kind {kind} runs on Vertex AI only"


def test_a_command_before_the_cache_is_refused(check: Check) -> None:
    (problem,) = check(running("true", lifecycle={"preCacheCheck": {"command": ["true"]}}))
    assert "preCacheCheck" in problem.reason


def test_a_uri_that_nothing_here_stands_for_is_refused(check: Check, tmp_path: Path) -> None:
    (problem,) = check(importing({"constant": "gs://bucket/data.csv"}))
    assert problem.reason == "the URI gs://bucket/data.csv cannot be reached from here"
    assert problem.hint == """give a local path, or map it: TRILHO_MOUNTS='{"gs://": "FOLDER/"}'"""
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket" / "data.csv").write_text("x")
    mounts = {"TRILHO_MOUNTS": json.dumps({"gs://": f"{tmp_path}/"})}
    assert check(importing({"constant": "gs://bucket/data.csv"}), environment=mounts) == []
    assert check(importing({"constant": "file:///" + str(tmp_path / "bucket")})) == []
    (problem,) = check(importing({"constant": "other.csv"}))
    assert problem.reason == f"{tmp_path / 'other.csv'}, which it imports, does not exist"
    assert check(importing({"constant": "other.csv"}, dependentTasks=["b"])) == []


def test_a_uri_that_is_a_parameter_is_known_where_the_run_gives_it(check: Check, tmp_path: Path) -> None:
    assert check(sdk.importing, {"uri": str(tmp_path)}) == []
    (problem,) = check(sdk.importing, {"uri": "s3://bucket/x"})
    assert (problem.task, problem.reason) == ("importer", "the URI s3://bucket/x cannot be reached from here")


SETTINGS: dict[str, Any] = {
    "secretAsEnv": [{"secretName": "s", "keyToEnv": [{"secretKey": "k", "envVar": "TOKEN"}]}],
    "configMapAsEnv": [{"configMapName": "c", "keyToEnv": [{"configMapKey": "k", "envVar": "MODE"}]}],
    "fieldPathAsEnv": [{"name": "RUN_NAME", "fieldPath": "metadata.name"}],
    "secretAsVolume": [{"secretName": "s", "mountPath": "/nonexistent/secret"}],
    "pvcMount": [{"constant": "pvc", "mountPath": "/nonexistent/data"}],
}


def on_kubernetes(settings: Mapping[str, Any]) -> Any:
    executors = {"exec-a": settings}
    return read(running("true"), {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}})


def test_what_a_cluster_gives_is_refused_unless_it_is_here(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons = [problem.reason for problem in check(on_kubernetes(SETTINGS))]
    assert reasons == [
        "it reads a cluster's volume at /nonexistent/secret (secretAsVolume), which does not exist here",
        "it reads a cluster's volume at /nonexistent/data (pvcMount), which does not exist here",
        "it is given TOKEN by the cluster (secretAsEnv), and that is not set here",
        "it is given MODE by the cluster (configMapAsEnv), and that is not set here",
        "it is given RUN_NAME by the cluster, and that is not set here",
    ]
    monkeypatch.setenv("TOKEN", "t")
    settings = {"secretAsEnv": SETTINGS["secretAsEnv"], "pvcMount": [{"constant": "x", "mountPath": str(tmp_path)}]}
    assert check(on_kubernetes(settings)) == []
    assert check(on_kubernetes({"fieldPathAsEnv": SETTINGS["fieldPathAsEnv"]}), environment={"RUN_NAME": "r"}) == []
    optional = {"secretAsVolume": [{**SETTINGS["secretAsVolume"][0], "optional": True}]}
    assert check(on_kubernetes({**optional, "nodeSelector": {"labels": {"a": "b"}}, "imagePullPolicy": "Always"})) == []


def test_hardware_that_is_not_here_is_a_warning(
    check: Check, places: Places, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wanted = {"accelerator": {"type": "NVIDIA_TESLA_T4", "count": 1}}
    monkeypatch.setattr(refuse, "GPU", (tmp_path / "nvidia0",))
    assert check(running("true", resources=wanted)) == [
        Problem("a", "it asks for NVIDIA_TESLA_T4, and there is none here: it runs without", fatal=False)
    ]
    said: list[str] = []
    with Workers(places, tmp_path / "home", say=said.append) as workers:
        workers.check(read(running("true", resources=wanted)), {})
    assert said == ["task a: it asks for NVIDIA_TESLA_T4, and there is none here: it runs without"]
    (tmp_path / "nvidia0").write_text("")
    assert check(running("true", resources=wanted)) == []
