"""Trainings from beginning to end, in the example projects' own environment."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from trilho.backends.local.store import LocalStore
from trilho.config import load_settings
from trilho.core.records import (
    ContractChecked,
    DatasetVersioned,
    Payload,
    RunEnded,
    RunStarted,
    TaskResult,
)
from trilho.errors import ConfigError, DataError, NotYet, Refused, StepFailed, UsageError
from trilho.pipeline.execution.execute import RunResult
from trilho.pipeline.keeping.runs import RunFolder
from trilho.pipeline.places import Places
from trilho.pipeline.workers.workers import Workers
from trilho.train.evaluate import read_predictions
from trilho.train.run import TrainContext, Training, begin, finish, settle_runs, train

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
history = "auto"
"""
FEATURES = "def build(frame):\n    return frame[['x']]\n"
TRAIN = """
from sklearn.linear_model import LinearRegression

def fit(X, y):
    return LinearRegression().fit(X, y)
"""


def rows(first: int, count: int, slope: float) -> str:
    return (
        f"SELECT 'r' || i AS id, TIMESTAMP '2020-01-01' + INTERVAL (i * 6) HOUR AS ts, (i % 17)::DOUBLE AS x, "
        f"{slope} * (i % 17) + 1.0 AS y FROM range({first}, {first + count}) t(i)"
    )


def write_project(folder: Path) -> Path:
    package = folder / "src" / "line"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "features.py").write_text(FEATURES)
    (package / "train.py").write_text(TRAIN)
    (folder / "trilho.toml").write_text(TOML)
    duckdb.sql(f"COPY ({rows(0, 400, 2.0)}) TO '{folder / 'data.csv'}' (HEADER)")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all projects here, one after the other, so that one warm interpreter does for all."""
    return tmp_path_factory.mktemp("line") / "project"


def workers_of(project: Path, python: Path, home: Path) -> Workers:
    places = Places(python=python, source=project / "src", folder=project, platform=Path(sys.executable))
    return Workers(places, home)


@pytest.fixture(scope="module")
def workers(project_python: Path, place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    with workers_of(place, project_python, tmp_path_factory.mktemp("warm")) as found:
        yield found


@pytest.fixture
def project(place: Path) -> Iterator[Path]:
    yield write_project(place)
    for left in place.iterdir():  # the folder itself stays: the warm interpreter is in it
        shutil.rmtree(left) if left.is_dir() else left.unlink()


class Trainer:
    """Trains a project over and over, and keeps what was told and recorded."""

    def __init__(self, project: Path, home: Path, python: Path, workers: Workers) -> None:
        self.project, self.home, self.python, self.workers = project, home, python, workers
        self.store = LocalStore(home / "store")
        self.records: list[Payload] = []
        self.tasks: dict[str, TaskResult] = {}
        self.count = 0

    def context(self, **changes: Any) -> TrainContext:
        self.count += 1
        self.records, self.tasks = [], {}
        settings = load_settings(self.project)
        context = TrainContext(
            settings=settings,
            project=self.project,
            source=self.project / "src",
            home=self.home,
            store=self.store,
            python=self.python,
            sources=[self.project / settings.data.source],
            served=None,
            champion_package=None,
            first_dataset=None,
            run_id=f"r{self.count}",
            trigger="a person",
            commit="abc",
            commit_time=None,
            record=lambda *payloads: self.records.extend(payloads),
            on_task=lambda task: self.tasks.__setitem__(task["name"], task),
            workers=self.workers,
        )
        return replace(context, **changes)

    @property
    def states(self) -> dict[str, str]:
        return {name: task["state"] for name, task in self.tasks.items()}

    @property
    def kinds(self) -> list[type[Payload]]:
        return [type(payload) for payload in self.records]

    @property
    def end(self) -> RunEnded:
        (found,) = [payload for payload in self.records if isinstance(payload, RunEnded)]
        return found


@pytest.fixture
def trainer(project: Path, tmp_path: Path, project_python: Path, workers: Workers) -> Trainer:
    return Trainer(project, tmp_path / "home", project_python, workers)


def manifest(trainer: Trainer, package: str | None) -> dict[str, Any]:
    assert package is not None
    found: dict[str, Any] = json.loads((trainer.store.path(package) / "manifest.json").read_text())
    return found


def test_a_training_leaves_a_package_and_its_records(trainer: Trainer) -> None:
    result = train(trainer.context())
    assert result.error is None
    assert (result.state, result.history, result.metric) == ("succeeded", "all", "mae")
    assert result.metrics["mae"] < 1e-9
    assert result.metrics["rows"] == 40
    assert (result.train_until, result.data_until) == ("2020-03-30T18:00:00", "2020-04-09T18:00:00")
    assert trainer.kinds == [DatasetVersioned, RunStarted, ContractChecked, RunEnded]
    assert trainer.end.state == "succeeded"
    assert [task["name"] for task in trainer.end.tasks] == [
        *("extract", "check", "split", "fit-all", "predict-all", "evaluate", "pack")
    ]
    needs = {task["name"]: set(task["needs"]) for task in trainer.end.tasks}
    assert needs["evaluate"] == {"fit-all", "predict-all", "split"}
    packed = manifest(trainer, result.package)
    assert packed["lineage"] == {
        "dataset": result.dataset,
        "run": "r1",
        "commit": "abc",
        "data_until": "2020-04-09T18:00:00",
        "train_until": "2020-03-30T18:00:00",
        "history": "all",
    }
    assert result.predictions is not None
    prediction, value = read_predictions(result.predictions)
    assert prediction == pytest.approx(value)
    assert result.champion_predictions is None


def test_an_unchanged_training_is_the_same_version_and_starts_nothing(trainer: Trainer) -> None:
    first = train(trainer.context())
    assert first.dataset is not None
    never = workers_of(trainer.project, Path("/nonexistent/python"), trainer.home)
    again = train(trainer.context(workers=never, datasets=frozenset({first.dataset})))
    assert again.package == first.package
    assert set(trainer.states.values()) == {"cached"}
    assert trainer.kinds == [RunStarted, ContractChecked, RunEnded]


def test_a_comment_trains_nothing_and_a_change_of_the_features_trains(trainer: Trainer) -> None:
    first = train(trainer.context())
    features = trainer.project / "src" / "line" / "features.py"
    features.write_text("# why\n" + FEATURES)
    assert train(trainer.context()).package == first.package
    features.write_text(FEATURES.replace("frame[['x']]", "frame[['x']] * 2"))
    assert train(trainer.context()).package != first.package
    assert trainer.states == {
        **dict.fromkeys(("extract", "check", "split"), "cached"),
        **dict.fromkeys(("fit-all", "predict-all", "evaluate", "pack"), "ran"),
    }


def test_new_rows_reach_training_and_the_holdout_moves(trainer: Trainer, tmp_path: Path) -> None:
    first = train(trainer.context())
    assert first.package is not None
    served = tmp_path / "served.parquet"
    duckdb.sql(f"COPY ({rows(400, 600, 5.0)}) TO '{served}' (FORMAT parquet)")
    champion = trainer.store.path(first.package)
    result = train(trainer.context(served=served, champion_package=champion))
    assert result.error is None
    assert trainer.records[0] == replace(trainer.records[0], rows=1000, served_rows=600)  # type: ignore[call-arg]
    assert (result.train_until, result.data_until) == ("2020-08-27T18:00:00", "2020-09-06T18:00:00")
    assert not served.exists()  # the store has it
    assert (result.history, result.candidates, first.candidates) == ("window", 2, 1)
    assert result.metrics["mae"] < 1e-9
    fits = ("fit-all", "fit-window", "predict-all", "predict-window")
    assert trainer.states == dict.fromkeys(
        ("extract", "check", "split", *fits, "evaluate", "pack", "score", "pair"), "ran"
    )
    needs = {task["name"]: set(task["needs"]) for task in trainer.end.tasks}
    assert (needs["score"], needs["pair"]) == ({"evaluate", "split"}, {"score"})
    assert result.predictions is not None
    assert result.champion_predictions is not None
    challenger, value = read_predictions(result.predictions)
    old, same = read_predictions(result.champion_predictions)
    assert value.tolist() == same.tolist()
    assert len(value) == 40
    assert abs(challenger - value).mean() < 1e-9
    assert old == pytest.approx(2.0 * (value - 1) / 5 + 1)


def test_a_bad_served_row_is_left_out_and_the_training_goes_on(trainer: Trainer, tmp_path: Path) -> None:
    (trainer.project / "contract.toml").write_text("[columns.x]\nmax = 16\n")
    served = tmp_path / "served.parquet"
    x, ts = "CASE i WHEN 0 THEN 99.0 ELSE x END AS x", "CASE i WHEN 1 THEN 'soon' ELSE ts::VARCHAR END AS ts"
    bad = f"SELECT * REPLACE ({x}, {ts})"
    numbered = f"SELECT *, row_number() OVER () - 1 AS i FROM ({rows(400, 20, 2.0)})"
    duckdb.sql(f"COPY ({bad} FROM ({numbered})) TO '{served}' (FORMAT parquet)")
    result = train(trainer.context(served=served))
    assert (result.state, result.error) == ("succeeded", None)
    assert trainer.records[0] == replace(trainer.records[0], rows=418, served_rows=18)  # type: ignore[call-arg]
    log = (trainer.home / "runs" / "r1" / "extract.log").read_text()
    assert "2 served rows left out: they break the contract" in log


def test_rows_that_the_champion_was_trained_on_are_not_compared(trainer: Trainer) -> None:
    first = train(trainer.context())
    assert first.package is not None
    toml = trainer.project / "trilho.toml"
    toml.write_text(TOML.replace("last 10 days", "last 20 days"))
    result = train(trainer.context(champion_package=trainer.store.path(first.package)))
    assert result.predictions is not None
    assert len(read_predictions(result.predictions)[0]) == 40
    assert result.metrics["rows"] == 80


def test_data_that_breaks_its_contract_stops_the_run_before_training(trainer: Trainer) -> None:
    (trainer.project / "contract.toml").write_text("[columns.x]\nmax = 10\n[columns.z]\nnullable = false\n")
    result = train(trainer.context())
    assert isinstance(result.problem, Refused)
    assert (result.state, result.package) == ("failed", None)
    assert trainer.kinds == [DatasetVersioned, RunStarted, ContractChecked, RunEnded]
    checked = trainer.records[2]
    assert isinstance(checked, ContractChecked)
    assert checked.verdict == "fail"
    assert checked.findings == ["x: goes up to 16; at most 10 is allowed", "z: the data has no such column"]
    assert trainer.end.error == f"the data breaks its contract: {checked.findings[0]} (and 1 more)"
    assert trainer.states["check"] == "failed"
    assert {trainer.states[name] for name in ("split", "fit-all", "pack")} == {"skipped"}


def test_a_failing_function_shows_its_own_traceback_and_the_next_run_goes_on_there(trainer: Trainer) -> None:
    features = trainer.project / "src" / "line" / "features.py"
    features.write_text("def build(frame):\n    return frame[['xx']]\n")
    result = train(trainer.context())
    assert isinstance(result.problem, StepFailed)
    assert result.error is not None
    lines = result.error.splitlines()
    assert lines[0].startswith("step fit-all failed: KeyError: ")
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[2].lstrip().startswith(f'File "{features}", line 2, in build')
    assert lines[-1] == "Hint: trilho runs logs r1 fit-all"
    assert trainer.end.error == lines[0]
    features.write_text(FEATURES)
    assert train(trainer.context()).state == "succeeded"
    assert [trainer.states[name] for name in ("extract", "check", "split", "fit-all")] == ["cached"] * 3 + ["ran"]


@pytest.mark.parametrize(
    ("file", "code", "words"),
    [
        ("features.py", "def build(frame):\n    return frame.x\n", "build returned Series; a DataFrame is wanted"),
        ("features.py", "def build(frame):\n    return frame[['x']].head(3)\n", "made 3 rows of 360"),
        ("train.py", "def fit(X, y):\n    return 'model'\n", "fit returned str, which has no predict"),
        ("train.py", "def fit(X, y)\n", "SyntaxError"),
        ("train.py", "import nopandas\ndef fit(X, y): ...\n", "No module named 'nopandas'"),
    ],
)
def test_functions_that_do_not_keep_their_word(trainer: Trainer, file: str, code: str, words: str) -> None:
    (trainer.project / "src" / "line" / file).write_text(code)
    if words == "SyntaxError":
        with pytest.raises(ConfigError, match=r"line\.train is not valid Python"):
            train(trainer.context())
        assert trainer.records == []
        return
    result = train(trainer.context())
    assert result.error is not None
    assert words in result.error.splitlines()[0]


def test_an_estimator_that_predicts_nonsense_is_told(trainer: Trainer) -> None:
    code = "class Odd:\n    def predict(self, X):\n        return [float('nan')] * len(X)\n"
    (trainer.project / "src" / "line" / "train.py").write_text(code + "\ndef fit(X, y):\n    return Odd()\n")
    result = train(trainer.context())
    assert result.error is not None
    assert result.error.splitlines()[0] == "step predict-all failed: Odd predicted nan for row 0"


def test_wrong_function_names_are_told_before_anything_is_recorded(trainer: Trainer) -> None:
    (trainer.project / "trilho.toml").write_text(TOML.replace("features:build", "features:buidl"))
    with pytest.raises(ConfigError) as caught:
        train(trainer.context())
    assert caught.value.fact == (
        f"{trainer.project / 'trilho.toml'}: steps.features is 'line.features:buidl': "
        "no function buidl in line.features"
    )
    assert caught.value.hint == "did you mean 'line.features:build'?"
    assert trainer.records == []


def test_a_missing_file_is_on_record_and_the_run_has_failed(trainer: Trainer) -> None:
    (trainer.project / "data.csv").unlink()
    result = train(trainer.context())
    assert isinstance(result.problem, DataError)
    assert trainer.kinds == [RunStarted, RunEnded]
    assert trainer.end.error == f"{trainer.project / 'data.csv'}: no such file"


def test_a_pattern_that_finds_nothing_is_on_record(trainer: Trainer) -> None:
    def nothing() -> list[Path]:
        raise DataError("no file matches")

    result = train(trainer.context(sources=nothing))
    assert (result.state, trainer.end.error) == ("failed", "no file matches")


def test_an_ignored_column_that_is_not_there_is_a_configuration_error(trainer: Trainer) -> None:
    toml = TOML.replace("[watch]\n", "[watch]\nignore = ['tt']\n")
    (trainer.project / "trilho.toml").write_text(toml if toml != TOML else TOML + "\n[watch]\nignore = ['tt']\n")
    with pytest.raises(ConfigError, match=r"watch\.ignore has 'tt'"):
        train(trainer.context())
    assert trainer.end.state == "failed"


def test_a_column_that_is_not_there_is_a_configuration_error_on_record(trainer: Trainer) -> None:
    (trainer.project / "trilho.toml").write_text(TOML.replace('target = "y"', 'target = "yy"'))
    with pytest.raises(ConfigError, match="did you mean 'y'"):
        train(trainer.context())
    assert trainer.kinds == [RunStarted, RunEnded]


def test_too_little_data_says_what_is_missing(trainer: Trainer) -> None:
    duckdb.sql(f"COPY ({rows(0, 20, 2.0)}) TO '{trainer.project / 'data.csv'}' (HEADER)")
    result = train(trainer.context())
    assert isinstance(result.problem, NotYet)
    assert trainer.states["split"] == "failed"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("(i % 3)", "target y has 3 classes (0, 1, 2); only 0 and 1 can be learnt so far"),
        ("1", "target y has one class in the training rows, 1; two are needed"),
        ("CASE WHEN i > 5 THEN i % 2 END", "target y is missing in 6 of 360 rows"),
    ],
)
def test_targets_that_cannot_be_learnt(trainer: Trainer, target: str, words: str) -> None:
    (trainer.project / "trilho.toml").write_text(TOML.replace("regression", "classification"))
    query = f"SELECT * REPLACE ({target} AS y) FROM ({rows(0, 400, 1.0)}) r, range(400) t(i) WHERE id = 'r' || i"
    duckdb.sql(f"COPY (SELECT * EXCLUDE (i) FROM ({query})) TO '{trainer.project / 'data.csv'}' (HEADER)")
    result = train(trainer.context())
    assert result.error is not None
    assert result.error.splitlines()[0] == f"step fit-all failed: {words}"


def test_an_interrupt_is_on_record(trainer: Trainer) -> None:
    def stop(task: TaskResult) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(trainer.context(on_task=stop))
    assert (trainer.end.state, trainer.end.error) == ("failed", "it was interrupted: KeyboardInterrupt")


def test_runs_without_an_end_get_one_unless_they_live(trainer: Trainer) -> None:
    ended: list[RunEnded] = []
    gone = RunFolder.of(trainer.home, "gone")
    gone.write({"run": "gone", "state": "running", "started": "2020-01-01T00:00:00+00:00", "tasks": []})
    with RunFolder.of(trainer.home, "alive").lease():
        settle_runs(trainer.home, "line", ("gone", "alive", "never"), ended.append)
    assert [(end.run, end.state, end.error) for end in ended] == [
        ("gone", "failed", "its runner was stopped before it ended"),
        ("never", "failed", "its runner was stopped before it ended"),
    ]
    manifest = gone.read()
    assert manifest is not None
    assert manifest["state"] == "failed"


def test_without_time_and_key_the_last_rows_are_held_out(trainer: Trainer) -> None:
    (trainer.project / "trilho.toml").write_text(TOML.replace('time = "ts"\nkey = "id"\n', ""))
    result = train(trainer.context())
    assert result.error is None
    assert (result.metrics["rows"], result.train_until, result.data_until) == (80, None, None)


def test_a_package_in_the_store_does_not_change_with_the_source(trainer: Trainer) -> None:
    result = train(trainer.context())
    assert result.package is not None
    shutil.rmtree(trainer.project / "src")
    code = trainer.store.path(result.package) / "code" / "line" / "features.py"
    assert code.read_text() == textwrap.dedent(FEATURES)


def test_the_bike_example_trains(bike_project: Path, tmp_path: Path, project_python: Path) -> None:
    with workers_of(bike_project, project_python, tmp_path) as workers:
        trainer = Trainer(bike_project, tmp_path / "home", project_python, workers)
        result = train(trainer.context())
    assert result.error is None
    assert (result.train_until, result.metrics["rows"]) == ("2011-11-01T23:00:00", 1440)
    assert 35 < result.metrics["mae"] < 50


def test_the_flight_example_trains(flight_project: Path, tmp_path: Path, project_python: Path) -> None:
    with workers_of(flight_project, project_python, tmp_path) as workers:
        trainer = Trainer(flight_project, tmp_path / "home", project_python, workers)
        result = train(trainer.context())
    assert result.error is None
    assert result.metric == "roc_auc"
    assert 0.64 < result.metrics["roc_auc"] < 0.74


# ---- elsewhere, and a project's own pipeline -------------------------------------------------------------------


def test_a_training_may_run_elsewhere_between_its_beginning_and_its_end(trainer: Trainer) -> None:
    local = train(trainer.context())
    here, context = list(trainer.kinds), trainer.context(image="eu/line@sha256:12", runner="vertex", place="p/r2")
    training = begin(context)
    assert isinstance(training, Training)
    assert training.parameters["run"] == training.run == "r2"
    assert training.parameters["dataset"] == training.dataset.digest == local.dataset
    images = {one["container"]["image"] for one in training.document["deploymentSpec"]["executors"].values()
              if "container" in one}  # fmt: skip
    assert images == {"eu/line@sha256:12"}
    tasks = [TaskResult(name="check", state="ran", seconds=1.0, needs=[], reason="")]
    values = {"evaluate.metrics": {"mae": 3.0}, "evaluate.history": "all", "evaluate.candidates": {"all": {}}}
    assert local.package is not None
    done = RunResult("succeeded", tasks, {}, values, {"pack.package": local.package}, None, 1.0)
    result = finish(context, training.dataset, done, 9.0)
    assert (result.package, result.metrics, trainer.kinds) == (local.package, {"mae": 3.0}, here)


def test_the_compiled_pipeline_depends_on_the_settings_alone(trainer: Trainer, tmp_path: Path) -> None:
    found = [begin(trainer.context())]
    first = train(trainer.context())
    served = tmp_path / "served.parquet"
    duckdb.sql(f"COPY ({rows(400, 600, 5.0)}) TO '{served}' (FORMAT parquet)")
    assert first.package is not None
    found.append(begin(trainer.context(served=served, champion_package=trainer.store.path(first.package))))
    plain, compared = (one for one in found if isinstance(one, Training))
    assert plain.document == compared.document
    assert plain.parameters["since"] == plain.parameters["champion_uri"] == ""
    assert compared.parameters["since"] == "2020-05-20T00:00:00"
    assert compared.champion == first.package
    assert str(trainer.home) not in json.dumps(plain.document)
    assert str(trainer.project) not in json.dumps(plain.document)


CHANGED = """
from trilho_runtime.pipeline import Pipeline, Value
from trilho_runtime.step import In, Out, Table, step

@step
def clean(table: In[Table], cleaned: Out[Table]) -> int:
    import pandas as pd
    rows = pd.read_parquet(table.path)
    rows = rows[rows.x < 16]
    rows.to_parquet(cleaned.path, index=False)
    return len(rows)

def more(standard: Pipeline) -> None:
    standard.task("clean", clean, table="extract.table", after=["check"])
    standard.replace("split", table="clean.cleaned")
    standard.output("clean_rows", "clean.output")

def less(standard: Pipeline) -> None:
    standard.remove("pack")

def other(standard: Pipeline) -> None:
    standard.replace("evaluate", clean, table="extract.table", without=["task"])

def own() -> Pipeline:
    made = Pipeline("own")
    made.task("clean", clean, table="nothing.here")
    return made
"""


def test_a_project_may_add_a_step_of_its_own(trainer: Trainer) -> None:
    (trainer.project / "src" / "line" / "steps.py").write_text(CHANGED)
    (trainer.project / "trilho.toml").write_text(TOML + '[pipeline]\ndefine = "line.steps:more"\n')
    result = train(trainer.context())
    assert result.error is None
    assert trainer.states["clean"] == "ran"
    assert result.metrics["rows"] == 38  # of 40 held-out rows two have x = 16
    assert train(trainer.context()).package == result.package
    assert set(trainer.states.values()) == {"cached"}


@pytest.mark.parametrize(
    ("define", "words"),
    [
        ("less", "it has no task pack, and a training needs pack.package: the version itself"),
        ("other", "evaluate"),
        ("own", "nothing.here"),
        ("absent", "absent"),
    ],
)
def test_a_pipeline_that_cannot_train_is_told_before_anything_is_recorded(
    trainer: Trainer, define: str, words: str
) -> None:
    (trainer.project / "src" / "line" / "steps.py").write_text(CHANGED)
    (trainer.project / "trilho.toml").write_text(TOML + f'[pipeline]\ndefine = "line.steps:{define}"\n')
    with pytest.raises(UsageError) as caught:
        train(trainer.context())
    assert words in caught.value.fact
    assert trainer.records == []
