"""What changes a fingerprint, and what does not."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from trilho.core.files import write_whole
from trilho.errors import ConfigError
from trilho.pipeline import fingerprint as module
from trilho.pipeline.fingerprint import closure, code_digest, fingerprint, libraries_of
from trilho.pipeline.graph import Task, Work, versioned

DOUBLE = ("small.steps:double",)


def edit(file: Path, change: Callable[[str], str]) -> None:
    file.write_text(change(file.read_text()))


def test_the_closure_follows_imports_within_the_project(source: Path) -> None:
    names = {file.relative_to(source).as_posix() for file in closure(source, ["small.steps"])}
    assert names == {"small/__init__.py", "small/steps.py", "small/rules.py"}


def test_a_comment_or_a_file_out_of_reach_changes_nothing(source: Path) -> None:
    before = code_digest(source, DOUBLE)
    edit(source / "small" / "rules.py", lambda text: "# why\n\n" + text.replace("2 * n", "2  *  n  # twice"))
    edit(source / "small" / "unrelated.py", lambda text: text + "Y = 2\n")
    assert code_digest(source, DOUBLE) == before


@pytest.mark.parametrize("file", ["rules.py", "steps.py", "__init__.py"])
def test_code_in_reach_counts(source: Path, file: str) -> None:
    before = code_digest(source, DOUBLE)
    edit(source / "small" / file, lambda text: text + "\nZ = 3\n")
    assert code_digest(source, DOUBLE) != before


def test_a_data_file_beside_the_code_counts(source: Path) -> None:
    before = code_digest(source, DOUBLE)
    (source / "small" / "holidays.csv").write_text("2011-01-01\n")
    assert code_digest(source, DOUBLE) != before


def test_a_file_outside_every_package_does_not_count(source: Path) -> None:
    before = code_digest(source, DOUBLE)
    (source / "data").mkdir()
    (source / "data" / "rows.csv").write_text("1\n")
    assert code_digest(source, DOUBLE) == before


def test_the_whole_tree_counts_where_it_is_asked_for(source: Path) -> None:
    before = code_digest(source, ("*",))
    edit(source / "small" / "unrelated.py", lambda text: text + "Y = 2\n")
    assert code_digest(source, ("*",)) != before


def test_parameters_inputs_libraries_and_call_count_and_uncounted_ones_do_not(source: Path) -> None:
    task = Task("t", "project", "small.steps:double", code=DOUBLE, uncounted=frozenset({"run"}))

    def mark(task: Task = task, x: int = 1, run: str = "r1", table: str = "d1", libraries: str = "l1") -> str:
        return fingerprint(task, {"x": x, "run": run}, {"table": table}, source, libraries)

    assert mark(run="r2") == mark()
    other = Task("t", "project", "small.steps:total", code=DOUBLE, uncounted=frozenset({"run"}))
    marks = {mark(), mark(x=2), mark(table="d2"), mark(libraries="l2"), mark(task=other)}
    assert len(marks) == 5


def test_a_platform_function_counts_by_its_version_only(source: Path) -> None:
    @versioned(1)
    def one(work: Work) -> None: ...

    @versioned(2)
    def two(work: Work) -> None: ...

    two.__qualname__ = one.__qualname__
    first = fingerprint(Task("t", "platform", one), {}, {}, source, "l1")
    assert fingerprint(Task("t", "platform", one), {}, {}, source / "elsewhere", "l2") == first
    assert fingerprint(Task("t", "platform", two), {}, {}, source, "l1") != first


def test_an_interpreter_is_asked_once_until_its_folders_change(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = libraries_of(Path(sys.executable), home)
    asked: list[Path] = []

    def ask(python: Path) -> tuple[dict[str, str], list[str]]:
        asked.append(python)
        return {"pandas": "9"}, []

    monkeypatch.setattr(module, "_ask", ask)
    assert libraries_of(Path(sys.executable), home) == first
    assert asked == []
    (kept,) = (home / "cache").glob("python-*.json")
    known = json.loads(kept.read_text())
    known["folders"] = {folder: modified - 1 for folder, modified in known["folders"].items()}
    write_whole(kept, json.dumps(known))
    assert libraries_of(Path(sys.executable), home) != first
    assert asked == [Path(sys.executable)]


def test_an_interpreter_that_cannot_run_is_a_configuration_error(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot run trilho-runtime.*\nHint: .*-m pip install trilho-runtime"):
        libraries_of(tmp_path / "nopython", home)
