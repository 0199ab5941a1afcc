"""The standard pipeline as a definition: its shape for each kind of history, and what a project may make of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from trilho.config import Settings
from trilho.data.contract import Contract
from trilho.errors import ConfigError
from trilho.pipeline.definition.document import Definition, GraphError, load_definition, read_interfaces
from trilho.pipeline.rules.check import check
from trilho.train import pipeline
from trilho.train.pipeline import require_results, training_pipeline
from trilho.train.plan import compile_training
from trilho_runtime.pipeline import Pipeline, Value


def settings(history: str = "all", time: str | None = "ts", define: str | None = None, **model: Any) -> Settings:
    given = {"name": "line", "task": "regression", "target": "y", **({"time": time} if time else {}), **model}
    steps = {"features": "line.features:build", "train": "line.train:fit"}
    tables = {"model": given, "data": {"source": "d.csv"}, "steps": steps, "train": {"history": history}}
    return Settings.model_validate({**tables, **({"pipeline": {"define": define}} if define else {})})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "line").mkdir()
    (tmp_path / "line" / "__init__.py").write_text("")
    (tmp_path / "line" / "features.py").write_text("def build(frame):\n    return frame\n")
    (tmp_path / "line" / "train.py").write_text("def fit(X, y):\n    return X\n")
    return tmp_path


def defined(written: Pipeline, source: Path) -> Definition:
    return load_definition(None, written, python=Path(sys.executable), source=source, home=source / "home")


@pytest.mark.parametrize(
    ("history", "time", "names", "split", "evaluate"),
    [
        ("all", "ts", ["all"], "split", "evaluate"),
        ("latest 30 days", "ts", ["window"], "split", "evaluate"),
        ("auto", "ts", ["all", "window"], "split_twice", "evaluate_two"),
        ("auto", None, ["all"], "split", "evaluate"),
        ("latest 30 days", None, ["all"], "split", "evaluate"),
    ],
)
def test_the_standard_pipeline_is_sound_and_its_tasks_keep_their_names(
    source: Path, history: str, time: str | None, names: list[str], split: str, evaluate: str
) -> None:
    definition = defined(training_pipeline(settings(history, time), Contract()), source)
    assert check(definition, read_interfaces(definition, source)) == []
    steps = {task.name: task.step for task in definition.tasks}
    fits = [f"{verb}-{name}" for name in names for verb in ("fit", "predict")]
    assert list(steps) == ["extract", "check", "split", *fits, "evaluate", "pack", "score", "pair"]
    assert steps["split"] == f"trilho.train.steps:{split}"
    assert steps["evaluate"] == f"trilho.train.steps:{evaluate}"
    (group,) = definition.groups
    inside = [task.name for task in definition.tasks if task.group == group.name]
    assert inside == ["score", "pair"]
    require_results(definition, read_interfaces(definition, source), "line.steps:define")


def test_what_looks_at_the_clock_is_not_cached(source: Path) -> None:
    fresh = Contract.model_validate({"table": {"freshness": "60 days"}})
    for contract, cached in ((Contract(), True), (fresh, False)):
        definition = defined(training_pipeline(settings(), contract), source)
        assert next(task.cache for task in definition.tasks if task.name == "check") is cached


def test_the_timeout_goes_with_the_steps_of_the_project(source: Path) -> None:
    definition = defined(training_pipeline(settings(), Contract()), source)
    limits = {task.name: task.timeout_seconds for task in definition.tasks}
    assert limits["fit-all"] == limits["predict-all"] == limits["pack"] == limits["score"] == 3600


def test_a_pipeline_of_its_own_that_gives_what_a_training_needs_is_accepted(source: Path) -> None:
    changed = training_pipeline(settings(), Contract())
    changed.replace("pack", metrics=Value("evaluate.metrics"), name="other")
    definition = defined(changed, source)
    require_results(definition, read_interfaces(definition, source), "line.steps:define")


@pytest.mark.parametrize(
    ("gone", "fact"),
    [
        ("pack", "it has no task pack, and a training needs pack.package: the version itself"),
        ("pair", "it has no task pair, and a training needs pair.challenger: what the gate compares"),
    ],
)
def test_one_that_lacks_what_a_training_needs_is_refused(source: Path, gone: str, fact: str) -> None:
    less = training_pipeline(settings(), Contract())
    less.remove(gone)
    definition = defined(less, source)
    with pytest.raises(ConfigError) as caught:
        require_results(definition, read_interfaces(definition, source), "line.steps:less")
    assert caught.value.fact == f"pipeline.define is 'line.steps:less': {fact}"
    assert caught.value.hint is not None
    assert "trilho pipeline run" in caught.value.hint


def test_a_task_of_the_right_name_and_another_output_is_refused(source: Path) -> None:
    (source / "line" / "steps.py").write_text(
        "from trilho_runtime.step import Out, step\n@step\ndef other(box: Out) -> None: ...\n"
    )
    own = Pipeline("own")
    for name in ("evaluate", "pair"):
        own.task(name, "line.steps:other")
    definition = defined(own, source)
    with pytest.raises(ConfigError, match=r"its task evaluate has no output metrics, and a training needs"):
        require_results(definition, read_interfaces(definition, source), "line.steps:own")


# ---- kept until something changes ------------------------------------------------------------------------------


class Planning:
    """Plans a training over and over, and counts how often it is written anew."""

    def __init__(self, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.source, self.times, write = source, 0, pipeline.write_training

        def counted(*arguments: Any) -> Any:
            self.times += 1
            return write(*arguments)

        monkeypatch.setattr(pipeline, "write_training", counted)

    def __call__(self, contract: Contract | None = None, image: str | None = None, **model: Any) -> dict[str, Any]:
        asked, home = settings(**model), self.source.parent / "home"
        return compile_training(asked, contract or Contract(), self.source, Path(sys.executable), home, image)


@pytest.fixture
def planning(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> Planning:
    (tmp_path / "src").mkdir()
    (source / "line").rename(tmp_path / "src" / "line")
    return Planning(tmp_path / "src", monkeypatch)


def test_a_pipeline_is_compiled_once(planning: Planning) -> None:
    first = planning()
    assert planning() == first
    (planning.source / "line" / "train.py").write_text("# why\ndef fit(X, y):\n    return X\n")
    assert planning() == first
    assert planning.times == 1


def test_another_setting_contract_image_or_code_compiles_it_anew(planning: Planning) -> None:
    planning()
    planning(target="z")
    planning(contract=Contract.model_validate({"table": {"min_rows": 5}}))
    assert "eu/line" in str(planning(image="eu/line@sha256:1"))
    (planning.source / "line" / "train.py").write_text("def fit(X, y):\n    return y\n")
    planning()
    (kept, *_) = sorted((planning.source.parent / "home" / "cache").glob("plan-*.json"))
    for file in kept.parent.glob("plan-*.json"):
        file.write_text(file.read_text()[:9])
    planning()
    assert planning.times == 6


def test_a_pipeline_that_is_wrong_is_told_each_time(planning: Planning) -> None:
    for _ in range(2):
        with pytest.raises(GraphError, match=r"line\.absent"):
            planning(define="line.absent:own")
    assert planning.times == 2
