"""Trainings that fail: what is told, what is on record, and from where the next one goes on."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from tests.line_project import FEATURES, rows, write_rows
from tests.train.trainer import TOML, Trainer

from trilho.core.records import (
    ContractChecked,
    DatasetVersioned,
    RunEnded,
    RunStarted,
    TaskResult,
)
from trilho.errors import ConfigError, DataError, NotYet, Refused, StepFailed
from trilho.train.run import train


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
    write_rows(trainer.project, rows(0, 20, 2.0))
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
