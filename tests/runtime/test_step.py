"""Typed steps and the executor contract."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trilho_runtime.step import In, Out, StepError, execute, load_function, run, signature_of, step


@step
def scale(table: In, scaled: Out, factor: float, names: list[str] | None = None) -> dict[str, Any]:
    numbers = json.loads(table.path.read_text())
    scaled.path.write_text(json.dumps([factor * number for number in numbers]))
    scaled.metadata["rows"] = len(numbers)
    return {"rows": len(numbers)}


def request(tmp_path: Path, **parameters: Any) -> dict[str, Any]:
    (tmp_path / "table.json").write_text("[1, 2, 3]")
    return {
        "inputs": {
            "parameterValues": parameters,
            "artifacts": {"table": {"artifacts": [{"name": "table", "uri": str(tmp_path / "table.json")}]}},
        },
        "outputs": {
            "outputFile": str(tmp_path / "out" / "output.json"),
            "parameters": {"rows": {"outputFile": str(tmp_path / "rows")}},
            "artifacts": {"scaled": {"artifacts": [{"name": "scaled", "uri": str(tmp_path / "new" / "scaled")}]}},
        },
    }


def test_a_step_reads_writes_and_says_what_it_found(tmp_path: Path) -> None:
    execute(scale, request(tmp_path, factor=2))
    assert json.loads((tmp_path / "new" / "scaled").read_text()) == [2, 4, 6]
    assert json.loads((tmp_path / "out" / "output.json").read_text()) == {
        "parameterValues": {"rows": 3},
        "artifacts": {
            "scaled": {
                "artifacts": [
                    {"name": "scaled", "uri": str(tmp_path / "new" / "scaled"), "metadata": {"rows": 3}},
                ]
            }
        },
    }
    assert (tmp_path / "rows").read_text() == "3"


def test_what_a_step_takes_is_read_from_its_types() -> None:
    found = signature_of(scale)
    assert (found.inputs, found.outputs, set(found.parameters)) == (("table",), ("scaled",), {"factor", "names"})
    assert found.required == {"factor"}


def test_an_argument_without_a_type_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="step bare: x has no type"):
        step(_bare())


def _bare() -> Any:
    names: dict[str, Any] = {}
    exec("def bare(x): ...", names)
    return names["bare"]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({}, "parameter factor is missing"),
        ({"factor": "2"}, "parameter factor is '2'; float is wanted"),
        ({"factor": True}, "parameter factor is True; float is wanted"),
        ({"factor": 1, "facto": 2}, "unknown parameter facto; it takes factor, names"),
    ],
)
def test_wrong_parameters_are_told(tmp_path: Path, parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(StepError, match=words):
        execute(scale, request(tmp_path, **parameters))


def test_a_missing_input_and_a_missing_output_are_told(tmp_path: Path) -> None:
    asked = request(tmp_path, factor=1)
    del asked["inputs"]["artifacts"]["table"]
    with pytest.raises(StepError, match="given no artifact table"):
        execute(scale, asked)

    @step
    def lazy(scaled: Out) -> None: ...

    with pytest.raises(StepError, match="left no output scaled"):
        execute(lazy, {**request(tmp_path), "inputs": {}})
    assert not (tmp_path / "out" / "output.json").exists()


def test_a_value_that_is_no_json_leaves_no_output_file(tmp_path: Path) -> None:
    @step
    def odd(scaled: Out) -> dict[str, Any]:
        scaled.path.write_text("x")
        return {"value": float("nan")}

    with pytest.raises(ValueError, match="not JSON compliant"):
        execute(odd, {**request(tmp_path), "inputs": {}})
    assert list((tmp_path / "out").glob("*")) == []


def test_wrong_names_are_told() -> None:
    with pytest.raises(StepError, match=r"no module trilho_runtime\.fitt, named by trilho_runtime\.fitt:fit"):
        load_function("trilho_runtime.fitt:fit")
    with pytest.raises(StepError, match=r"no function fitt in trilho_runtime\.fit"):
        load_function("trilho_runtime.fit:fitt")


MODULE = """
from trilho_runtime.step import Out, step

def deep():
    raise ValueError("boom")

@step
def fails(made: Out) -> None:
    deep()

@step
def leaves(made: Out) -> None:
    raise SystemExit(0)
"""


def _run(tmp_path: Path, name: str) -> tuple[int, str]:
    (tmp_path / "mine.py").write_text(MODULE)
    place = {"artifacts": [{"name": "made", "uri": str(tmp_path / "made")}]}
    asked = {"inputs": {}, "outputs": {"outputFile": str(tmp_path / "o.json"), "artifacts": {"made": place}}}
    (tmp_path / "in.json").write_text(json.dumps(asked))
    words = ["-m", "trilho_runtime.step", f"mine:{name}", "--executor-input", str(tmp_path / "in.json")]
    done = subprocess.run(
        [sys.executable, *words, "--path", str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, done.stderr


def test_a_failing_step_shows_its_own_traceback_only(tmp_path: Path) -> None:
    code, said = _run(tmp_path, "fails")
    lines = said.splitlines()
    assert code == 1
    assert lines[0] == "Traceback (most recent call last):"
    assert "mine.py" in lines[1]
    assert "trilho_runtime/" not in said
    assert lines[-2:] == ["ValueError: boom", "step mine:fails failed: ValueError: boom"]
    assert not (tmp_path / "o.json").exists()


def test_leaving_by_exit_is_a_failure(tmp_path: Path) -> None:
    assert _run(tmp_path, "leaves") == (1, "step mine:leaves failed: it called exit(0)\n")


def test_an_error_in_the_projects_import_is_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken_import.py").write_text("import surely_not_there\n")
    assert run("broken_import:f", {}, [str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "broken_import.py" in said
    assert said.splitlines()[-1].endswith("ModuleNotFoundError: No module named 'surely_not_there'")
