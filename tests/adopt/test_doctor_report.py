"""Readiness, the ledger, whether trilho fits, and what is said to people."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.adopt.doctor_cells import FIT, HEAD, SPLIT, notebook, write

from trilho.adopt.doctor.checkup import check_notebook, check_project, find
from trilho.adopt.doctor.evidence import Evidence, Facts
from trilho.adopt.doctor.fitness import fitness
from trilho.adopt.doctor.ledger import duplicated_lines, ledger
from trilho.adopt.doctor.readiness import readiness
from trilho.adopt.doctor.subject import Chunk, of_notebook, of_project
from trilho.config import load_settings
from trilho.errors import UsageError

TOML = """
[model]
name = "bikes"
task = "regression"
target = "rides"
[data]
source = "data/*.csv"
[steps]
features = "bikes.features:build"
train = "bikes.train:fit"
"""
FEATURES = '''"""Features."""

import pandas as pd


def build(rows: pd.DataFrame) -> pd.DataFrame:
    """Give the features."""
    return rows.assign(warm=rows.temp > 20)
'''
TRAIN = '''"""Training."""

import pandas as pd
from sklearn.linear_model import Ridge


def fit(X: pd.DataFrame, y: pd.Series) -> Ridge:
    """Fit."""
    return Ridge().fit(X, y)
'''


def project(folder: Path) -> Path:
    files = {"trilho.toml": TOML, "src/bikes/features.py": FEATURES, "src/bikes/train.py": TRAIN,
             "data/rides.csv": "temp,rides\n1,2\n"}  # fmt: skip
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def scores(folder: Path, facts: Facts | None = None) -> dict[str, float]:
    subject = of_project(folder, load_settings(folder))
    return {test.id: test.points for test in readiness(Evidence(subject, (), facts or Facts())).tests}


def test_there_are_28_tests_in_four_sections(tmp_path: Path) -> None:
    found = readiness(Evidence(of_project(project(tmp_path), load_settings(tmp_path)), ()))
    assert len(found.tests) == 28
    assert {name: sum(test.section == name for test in found.tests) for name in found.sections} == dict.fromkeys(
        ("data", "model", "infrastructure", "monitoring"), 7
    )
    assert found.score == min(found.sections.values())
    assert all(test.missing for test in found.tests if test.points < 1)
    assert all(bool(test.evidence) == (test.points > 0) for test in found.tests)


def test_what_is_found_gives_points(tmp_path: Path) -> None:
    before = scores(project(tmp_path))
    assert (before["Data 1"], before["Data 7"], before["Infra 4"], before["Monitor 3"]) == (0, 0, 0.5, 0.5)
    (tmp_path / "contract.toml").write_text('[columns.temp]\ntype = "number"\n')
    tests = tmp_path / "tests" / "test_features.py"
    tests.parent.mkdir()
    tests.write_text("from bikes.features import build\n\n\ndef test_build():\n    assert build\n")
    by_hand = scores(tmp_path)
    assert (by_hand["Data 1"], by_hand["Data 7"], by_hand["Infra 2"]) == (0.5, 0.5, 0)
    workflow = tmp_path / ".github" / "workflows" / "ci.yaml"
    workflow.parent.mkdir(parents=True)
    workflow.write_text("run: pytest\n---\nrun: trilho train --sample\n")
    automatic = scores(tmp_path)
    assert (automatic["Data 1"], automatic["Data 7"], automatic["Infra 3"]) == (1, 1, 1)


def test_a_journal_is_evidence(tmp_path: Path) -> None:
    facts = Facts(
        versions=2, gates=2, canaries=1, rollbacks=1, judged=14, judged_versions=3, retrainings=1, lead_times=2
    )
    found = scores(project(tmp_path), facts)
    assert {found[name] for name in ("Infra 4", "Infra 6", "Infra 7", "Model 2", "Model 4", "Monitor 4", "Monitor 7",
                                     "Data 6")} == {1}  # fmt: skip


def test_the_least_section_is_the_score_and_has_a_meaning(tmp_path: Path) -> None:
    found = readiness(Evidence(of_project(project(tmp_path), load_settings(tmp_path)), ()))
    full = replace(found, tests=tuple(replace(test, points=1.0) for test in found.tests))
    none = replace(found, tests=tuple(replace(test, points=float(test.section != "model")) for test in found.tests))
    assert (full.score, none.score) == (7, 0)
    assert full.meaning.startswith("exceptionally")
    assert "research" in none.meaning


FITS = {
    "a model": ([HEAD, SPLIT, FIT], True, ""),
    "rules": (["import pandas as pd\ndf = pd.read_csv('x.csv')",
               "def risk(r):\n    if r.amount > 100:\n        return 1\n    elif r.country != 'BR':\n        return 1\n"
               "    return 0\ndf['risk'] = df.apply(risk, axis=1)"], False, "2 if-then rules"),
    "plots": (["import pandas as pd\npd.read_csv('x.csv').plot()"], False, "nothing is trained"),
    "no data": (["from sklearn.linear_model import Ridge\nRidge().fit([[1], [2]], [1, 2])"], False, "no data is read"),
    "made up": (["from sklearn.datasets import make_classification\nfrom sklearn.linear_model import Ridge\n"
                 "X, y = make_classification(random_state=1)\nRidge().fit(X, y)"], False, "made up"),
}  # fmt: skip


@pytest.mark.parametrize("name", FITS)
def test_whether_trilho_is_for_this(tmp_path: Path, name: str) -> None:
    cells, fits, reason = FITS[name]
    found = fitness(of_notebook(notebook(tmp_path, *cells)))
    assert found.fits == fits
    assert reason in " ".join(found.reasons)


def test_a_project_without_its_data_does_not_fit(tmp_path: Path) -> None:
    folder = project(tmp_path)
    assert fitness(of_project(folder, load_settings(folder))).fits
    (folder / "data" / "rides.csv").unlink()
    assert not fitness(of_project(folder, load_settings(folder))).fits


def test_the_ledger_of_a_notebook(tmp_path: Path) -> None:
    secret = "PASSWORD = 'correct-horse-9'"
    cells = [HEAD, secret, "df['a'] = df['b'] * 2\ndf['c'] = 1\n\n# only a comment\n", SPLIT, FIT,
             "import joblib\njoblib.dump(model, 'm.joblib')"]  # fmt: skip
    debts = {debt.name: debt for debt in ledger(of_notebook(notebook(tmp_path, *cells)))}
    assert {name: (debt.before, debt.after) for name, debt in debts.items()} == {
        "hand steps per release": (5, None),
        "untested transform lines": (8, None),
        "training/serving duplication": (8, None),
        "unpinned packages": (4, None),
        "secrets in code": (1, None),
    }
    assert all(debt.counted for debt in debts.values())


def test_the_ledger_of_an_adopted_project_has_both_sides(tmp_path: Path) -> None:
    folder = project(tmp_path)
    (folder / "notebooks").mkdir()
    write(folder / "notebooks", HEAD, SPLIT, FIT)
    (folder / "requirements.lock").write_text("pandas==2.2.0\nscikit-learn==1.5.0\n")
    debts = {debt.name: (debt.before, debt.after) for debt in check_project(folder, Facts()).ledger}
    assert debts["training/serving duplication"] == (5, 0)
    assert debts["untested transform lines"] == (5, 6)
    assert debts["unpinned packages"] == (3, 0)


def test_lines_that_stand_twice() -> None:
    import ast

    lines = "".join(f"x{n} = {n}\n" for n in range(8))
    chunks = [Chunk(lines, ast.parse(lines), None, name) for name in ("a.py", "b.py")]
    assert duplicated_lines(chunks) == 8
    assert duplicated_lines(chunks[:1]) == 0


def test_a_report_says_first_what_to_do_first(tmp_path: Path) -> None:
    cells = [HEAD, "API_KEY = 'sk_live_9f8a7b6c5d4e3f2a1b0c'",
             "df['a'] = df['g'].map(df.groupby('g')['y'].mean())", SPLIT, FIT]  # fmt: skip
    report = check_notebook(write(tmp_path, *cells))
    lines = list(report.lines())
    assert lines[0] == "Not ready: 2 errors and 0 warnings; readiness 0 of 7."
    assert lines[1] == "Do first:"
    assert lines[2].startswith("  1. secret (cell 1, line 1)")
    assert lines[3].startswith("  2. leakage (cell 2, line 1)")
    assert len(report.first) == 3
    assert "9f8a7b6c5d4e" not in "\n".join(lines)


def test_what_is_examined(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nor a notebook"):
        find(tmp_path)
    path = write(tmp_path, "x = 1")
    assert find(tmp_path) == path
    write(tmp_path, "x = 2", name="other")
    with pytest.raises(UsageError, match="2 notebooks"):
        find(tmp_path)
    assert find(project(tmp_path)) == tmp_path
