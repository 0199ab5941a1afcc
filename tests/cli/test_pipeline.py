"""`trilho pipeline`: compiled, run, shown, handed over; in a project and in any folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from trilho.core.ports import ScheduleInfo
from trilho.remote.environment import Target

if TYPE_CHECKING:
    from tests.cli.conftest import Made, Verb

STEPS = """
from typing import NamedTuple
from trilho_runtime.step import In, Out, Table, step


class Found(NamedTuple):
    rows: int
    names: list[str]


@step
def load(table: Out[Table], rows: int = 4) -> Found:
    print("loading", rows)
    table.path.write_text("x\\\\n" * rows)
    return Found(rows, ["a", "b"])


@step
def measure(table: In[Table], name: str, limits: dict = {}) -> float:
    if name == limits.get("refuse"):
        raise ValueError(f"{name} is refused")
    return len(table.path.read_text()) / 2


@step
def total(numbers: list) -> float:
    return sum(numbers)
"""
PIPELINES = """
from trilho_runtime.pipeline import Collected, Item, Param, Pipeline, Value


def nightly() -> Pipeline:
    p = Pipeline("nightly", parameters={"rows": int, "limits": {}})
    p.task("load", "shop.steps:load", rows=Param("rows"))
    with p.each("name", over=Value("load.names")):
        p.task("measure", "shop.steps:measure", table="load.table", name=Item("name"), limits=Param("limits"))
    p.task("total", "shop.steps:total", numbers=Collected("measure.output"))
    p.output("total", "total.output")
    p.output("table", "load.table")
    return p


def wrong() -> Pipeline:
    p = Pipeline("wrong")
    p.task("load", "shop.steps:lod")
    p.task("total", "shop.steps:total", numbers=Value("load.rows"), more=3)
    return p


def odd() -> Pipeline:
    p = Pipeline("odd")
    p.task("load", "shop.steps:load")
    return p
"""
NAMES = ["load", "for-loop-1/0/measure", "for-loop-1/1/measure", "total"]


def write_shop(folder: Path) -> None:
    package = folder / "src" / "shop"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "steps.py").write_text(STEPS.replace("\\\\n", "\\n"))
    (package / "pipelines.py").write_text(PIPELINES)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with steps and no trilho.toml, that the test stands in."""
    folder = tmp_path / "shop"
    folder.mkdir()
    write_shop(folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def project(made: Made) -> Made:
    write_shop(made.folder)
    with (made.folder / "trilho.toml").open("a") as file:
        file.write('\n[pipeline]\ndefine = "shop.pipelines:nightly"\n')
    return made


def states(said: dict[str, Any]) -> dict[str, str]:
    return {task["name"]: task["state"] for task in said["tasks"]}


def test_a_pipeline_is_compiled_to_a_file_the_same_each_time(shop: Path, trilho: Verb) -> None:
    said = trilho("pipeline", "compile", "shop.pipelines:nightly", "-o", "one.yaml")
    assert said.code == 0
    assert said.out.startswith("Compiled nightly: 3 tasks in trilho.local/nightly@sha256:")
    assert said.out.endswith("Next: trilho pipeline run one.yaml --param rows=...\n")
    printed = trilho("pipeline", "compile", "shop.pipelines:nightly")
    assert printed.out == (shop / "one.yaml").read_text()
    told = trilho("pipeline", "compile", "shop.pipelines:nightly", "--image", "eu.gcr.io/a/b@sha256:12", "--json").json
    assert (told["pipeline"], told["tasks"], told["image"]) == ("nightly", 3, "eu.gcr.io/a/b@sha256:12")
    executors = told["spec"]["deploymentSpec"]["executors"].values()
    assert {one["container"]["image"] for one in executors} == {"eu.gcr.io/a/b@sha256:12"}


def test_an_image_without_a_digest_is_warned_of(shop: Path, trilho: Verb) -> None:
    words = (
        "the image eu.gcr.io/a/b:v1 has no digest; a tag can name another image tomorrow; give it as NAME@sha256:..."
    )
    said = trilho("pipeline", "compile", "shop.pipelines:nightly", "--image", "eu.gcr.io/a/b:v1", "--json")
    assert (said.code, said.json["warnings"][-1]) == (0, words)
    assert f"warning: {words}\n" in said.err
    named = trilho("pipeline", "compile", "shop.pipelines:nightly", "--image", "eu.gcr.io/a/b@sha256:12", "--json")
    assert named.json["warnings"] == said.json["warnings"][:-1]
    assert "digest" not in named.err


def test_the_image_that_stands_for_the_code_changes_with_it(shop: Path, trilho: Verb) -> None:
    images = []
    for text in ("", "# a comment\n", "def more() -> None: ...\n"):
        (shop / "src" / "shop" / "other.py").write_text(text)
        images.append(trilho("pipeline", "compile", "shop.pipelines:nightly", "--json").json["image"])
    (shop / "requirements.txt").write_text("numpy==2\n")
    images.append(trilho("pipeline", "compile", "shop.pipelines:nightly", "--json").json["image"])
    assert images[0] == images[1]
    assert len(set(images)) == 3


def test_what_is_wrong_is_listed_by_file_and_line(shop: Path, trilho: Verb) -> None:
    said = trilho("pipeline", "compile", "shop.pipelines:wrong")
    assert said.code == 2
    assert "pipeline wrong has" in said.err
    assert "src/shop/pipelines.py:18: " in said.err
    assert "did you mean 'shop.steps:load'?" in said.err
    assert "src/shop/pipelines.py:19: " in said.err


def test_what_is_only_odd_is_a_warning(shop: Path, trilho: Verb) -> None:
    said = trilho("pipeline", "compile", "shop.pipelines:odd", "--json")
    assert said.code == 0
    assert "warning: src/shop/pipelines.py:25: nobody reads load." in said.err
    assert len(said.json["warnings"]) == 3


def test_without_a_project_a_function_must_be_named(shop: Path, trilho: Verb) -> None:
    said = trilho("pipeline", "compile")
    assert (said.code, "has no trilho.toml that says which pipeline" in said.err) == (2, True)


def test_a_pipeline_runs_and_what_was_done_is_not_done_again(shop: Path, trilho: Verb) -> None:
    trilho("pipeline", "compile", "shop.pipelines:nightly", "-o", "p.yaml")
    first = trilho("pipeline", "run", "p.yaml", "--param", "rows=6", "--json")
    assert first.code == 0
    assert set(first.json) == {"schema", "run", "state", "tasks", "outputs", "next"}
    assert (first.json["state"], states(first.json)) == ("succeeded", dict.fromkeys(NAMES, "ran"))
    assert first.json["outputs"]["total"] == 12.0
    assert Path(first.json["outputs"]["table"]["uri"]).read_text() == "x\n" * 6
    assert (shop / ".trilho" / "runs" / first.json["run"] / "run.json").exists()
    again = trilho("pipeline", "run", "p.yaml", "-p", "rows=6", "--json").json
    assert states(again) == dict.fromkeys(NAMES, "cached")
    assert all(set(task) == {"name", "state", "seconds", "reason"} for task in again["tasks"])
    other = trilho("pipeline", "run", "p.yaml", "-p", "rows=6", "--no-cache", "--json").json
    assert states(other) == dict.fromkeys(NAMES, "ran")


def test_a_run_in_words_ends_with_its_outputs(shop: Path, trilho: Verb) -> None:
    said = trilho("pipeline", "run", "shop.pipelines:nightly", "-p", "rows=1")
    lines = [line.split()[:2] for line in said.out.splitlines()]
    assert ["load", "ran"] in lines
    assert ["total", "2.0"] in lines
    assert "succeeded in" in said.out


def test_tasks_stand_in_columns_however_deep_they_are(shop: Path, trilho: Verb) -> None:
    lines = trilho("pipeline", "run", "shop.pipelines:nightly", "-p", "rows=3").out.splitlines()[:4]
    assert {line.index("ran") for line in lines} == {2 + len("for-loop-1/0/measure") + 2}


def test_the_next_command_asks_for_what_is_missing(shop: Path, trilho: Verb) -> None:
    said = trilho("pipeline", "compile", "shop.pipelines:nightly", "-o", "nightly.yaml", "--json").json
    assert said["next"] == "trilho pipeline run nightly.yaml --param rows=..."


def test_a_failure_is_told_with_its_output_and_where_the_log_is(shop: Path, trilho: Verb) -> None:
    said = trilho("pipeline", "run", "shop.pipelines:nightly", "-p", "rows=1", "-p", 'limits={"refuse": "b"}', "--json")
    assert said.code == 1
    assert said.json["state"] == "failed"
    assert states(said.json)["for-loop-1/1/measure"] == "failed"
    assert states(said.json)["total"] == "skipped"
    assert "ValueError: b is refused" in said.json["error"]
    log = Path(said.json["next"].removeprefix("less "))
    assert "b is refused" in log.read_text()


def test_a_run_goes_on_where_it_stopped(shop: Path, trilho: Verb) -> None:
    words = ["pipeline", "run", "shop.pipelines:nightly", "-p", "rows=1", "--json"]
    failed = trilho(*words, "-p", 'limits={"refuse": "b"}').json
    resumed = trilho(*words, "--resume", failed["run"]).json
    assert resumed["state"] == "succeeded"
    assert states(resumed)["load"] == "cached"
    unknown = trilho(*words, "--resume", "r1")
    assert (unknown.code, "there is no run r1" in unknown.err) == (2, True)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["rows=x"], "parameter rows is 'x'; a whole number is wanted"),
        (["rows=1.5"], "parameter rows is '1.5'; a whole number is wanted"),
        (["rows=true"], "parameter rows is 'true'; a whole number is wanted"),
        (["rows=1", "limits=[1]"], "parameter limits is '[1]'; an object as JSON is wanted"),
        (["rows=1", "limit={}"], "pipeline nightly has no parameter 'limit'"),
        (["rows"], "--param is 'rows'; NAME=VALUE is wanted"),
        ([], "parameter rows of pipeline nightly is missing"),
        (["limits={}"], "parameter rows of pipeline nightly is missing"),
    ],
)
def test_wrong_parameters_are_named_before_anything_runs(shop: Path, trilho: Verb, given: list[str], said: str) -> None:
    words = [word for one in given for word in ("--param", one)]
    result = trilho("pipeline", "run", "shop.pipelines:nightly", *words)
    assert (result.code, result.err.splitlines()[0]) == (2, said)
    assert not list((shop / ".trilho").glob("runs/*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--timeout", "soon"], "--timeout is 'soon'; seconds or a duration is wanted"),
        (["--timeout", "0"], "--timeout is 0: nothing could run"),
        (["--python", "/no/such"], "--python is /no/such, and no interpreter is there"),
    ],
)
def test_wrong_options_are_named(shop: Path, trilho: Verb, words: list[str], said: str) -> None:
    result = trilho("pipeline", "run", "shop.pipelines:nightly", "-p", "rows=1", *words)
    assert (result.code, result.err.splitlines()[0]) == (2, said)


def test_a_file_that_is_none_is_named(shop: Path, trilho: Verb) -> None:
    said = trilho("pipeline", "run", "gone.yaml")
    assert (said.code, said.err.splitlines()[0]) == (
        2,
        "gone.yaml cannot be read: No such file or directory",
    )


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("shop.pipelines", ""),
        ("shop.pipelines:", ""),
        ("p.yaml", "\nHint: trilho pipeline run p.yaml, if it is compiled already"),
    ],
)
def test_what_is_no_function_is_not_compiled(shop: Path, trilho: Verb, given: str, hint: str) -> None:
    said = trilho("pipeline", "compile", given)
    assert (said.code, said.err.strip()) == (2, f"{given!r} is no function; package.module:function is wanted{hint}")


def test_in_a_project_a_run_is_on_record(project: Made, trilho: Verb) -> None:
    said = trilho("pipeline", "run", "-p", "rows=2", "--json").json
    assert said["next"] == f"trilho runs show {said['run']}"
    shown = trilho("runs", "show", said["run"], "--json").json
    assert (shown["pipeline"], shown["state"], shown["trigger"]) == ("nightly", "succeeded", "a person")
    assert [task["name"] for task in shown["tasks"]] == NAMES
    failed = trilho("pipeline", "run", "-p", "rows=2", "-p", 'limits={"refuse": "a"}', "--json").json
    runs = trilho("runs", "--json").json["runs"]
    assert [(run["id"], run["state"]) for run in runs] == [(failed["run"], "failed"), (said["run"], "succeeded")]
    assert failed["next"].startswith(f"trilho runs logs {failed['run']} ")
    assert trilho(*failed["next"].split()[1:]).code == 0


def test_what_is_refused_is_not_on_record(project: Made, trilho: Verb) -> None:
    trilho("pipeline", "compile", "-o", "p.yaml")
    document = yaml.safe_load((project.folder / "p.yaml").read_text())
    document["deploymentSpec"]["executors"]["exec-total"]["container"]["command"] = ["no-such-command"]
    (project.folder / "p.yaml").write_text(json.dumps(document))
    said = trilho("pipeline", "run", "p.yaml", "-p", "rows=2")
    assert said.code == 3
    assert "task total: " in said.err
    assert trilho("runs", "--json").json["runs"] == []
    assert not list((project.home / "runs").glob("*"))


def test_the_standard_training_is_not_run_by_itself(made: Made, trilho: Verb) -> None:
    said = trilho("pipeline", "run")
    assert (said.code, said.err.splitlines()[1]) == (2, "Hint: trilho train")


def test_a_pipeline_is_shown_as_a_tree(shop: Path, trilho: Verb) -> None:
    trilho("pipeline", "compile", "shop.pipelines:nightly", "-o", "p.yaml")
    said = trilho("pipeline", "show", "p.yaml")
    assert said.out.splitlines()[0].startswith("nightly (KFP 2.1.0, by trilho-")
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert "rows int required" in lines
    assert "for-loop-1 for each item of load.names after load" in lines
    assert "measure shop.steps:measure" in lines
    assert "total = total.output" in lines
    told = trilho("pipeline", "show", "p.yaml", "--json").json
    loop = told["tasks"][1]
    assert (loop["kind"], loop["runs"]) == ("loop", "for each item of load.names")
    assert loop["tasks"][0]["inputs"] == {"limits": "limits", "name": "item of load.names", "table": "load.table"}


def test_the_projects_own_is_shown_without_a_file(project: Made, trilho: Verb) -> None:
    assert trilho("pipeline", "--json").json["pipeline"] == "nightly"
    assert trilho("pipeline", "show", "--json").json["pipeline"] == "nightly"


class Schedules:
    """A scheduler that keeps what it is told."""

    def __init__(self) -> None:
        self.kept: list[ScheduleInfo] = []
        self.done: list[tuple[str, str]] = []

    def create(self, job: Any, cron: str, timezone: str) -> str:
        info = ScheduleInfo(id="7", name=job.run, cron=cron, timezone=timezone, paused=False, next=None)
        self.kept.append(info)
        self.done.append(("create", json.dumps(dict(job.parameters))))
        return "7"

    def list(self) -> list[ScheduleInfo]:
        return self.kept

    def pause(self, id_: str) -> None:
        self.done.append(("pause", id_))

    def resume(self, id_: str) -> None:
        self.done.append(("resume", id_))

    def delete(self, id_: str) -> None:
        self.done.append(("delete", id_))


@pytest.fixture
def schedules(project: Made, monkeypatch: pytest.MonkeyPatch) -> Schedules:
    found = Schedules()
    monkeypatch.setattr(Target, "scheduler", found)
    with (project.folder / "trilho.toml").open("a") as file:
        file.write('\n[environments.prod]\nbackend = "gcp"\nproject = "shop"\nbucket = "gs://shop-models"\n'
                   'image = "eu.gcr.io/shop/shop@sha256:12"\n')  # fmt: skip
    return found


def test_a_pipeline_is_scheduled(schedules: Schedules, trilho: Verb) -> None:
    words = ["pipeline", "schedule", "--on", "vertex", "--env", "prod"]
    said = trilho(*words, "--cron", "0 3 * * 1", "--timezone", "America/Sao_Paulo", "-p", "rows=3", "--json")
    assert said.code == 0
    assert (said.json["schedule"], said.json["cron"]) == ("7", "0 3 * * 1")
    assert schedules.done == [("create", '{"rows": 3}')]
    listed = trilho(*words, "--list", "--json").json["schedules"]
    assert [(one["id"], one["name"], one["timezone"]) for one in listed] == [("7", "nightly", "America/Sao_Paulo")]
    assert trilho(*words, "--pause", "7").code == 0
    assert trilho(*words, "--resume", "7").code == 0
    assert trilho(*words, "--delete", "7").code == 0
    assert schedules.done[1:] == [("pause", "7"), ("resume", "7"), ("delete", "7")]


def test_an_environments_image_without_a_digest_is_warned_of(schedules: Schedules, project: Made, trilho: Verb) -> None:
    toml = project.folder / "trilho.toml"
    toml.write_text(toml.read_text().replace("shop@sha256:12", "shop:v1"))
    said = trilho("pipeline", "schedule", "--on", "vertex", "--env", "prod", "--cron", "0 3 * * 1", "-p", "rows=3")
    assert said.code == 0
    assert "warning: the image eu.gcr.io/shop/shop:v1 has no digest; a tag can name another image" in said.err


def test_a_schedule_needs_a_time_and_an_environment(schedules: Schedules, trilho: Verb) -> None:
    assert "--cron is missing" in trilho("pipeline", "schedule", "--on", "vertex").err
    assert trilho("pipeline", "schedule", "--on", "kubeflow", "--cron", "0 3 * * 1").code == 2
    assert trilho("pipeline", "submit", "--on", "mars").code == 2
    assert trilho("pipeline", "schedule", "--cron", "never").code == 2


@pytest.mark.parametrize("verb", ["compile", "run", "show", "submit", "schedule"])
def test_every_verb_has_examples(trilho: Verb, verb: str) -> None:
    said = trilho("pipeline", verb, "--help")
    assert f"trilho pipeline {verb}" in said.out.partition("Examples:")[2]
