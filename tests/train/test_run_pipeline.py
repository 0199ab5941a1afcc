"""The training's pipeline: begun here and run elsewhere, compiled, and changed by its project."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest
from tests.line_project import rows
from tests.train.trainer import TOML, Trainer

from trilho.core.records import (
    TaskResult,
)
from trilho.errors import UsageError
from trilho.pipeline.execution.execute import RunResult
from trilho.train.run import begin, finish, train
from trilho.train.training import Training


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
