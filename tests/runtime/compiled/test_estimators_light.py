"""What loading a compiled estimator imports and needs: none of the libraries that fitted it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
import xgboost
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from tests.runtime.compiled.originals import read_again, table, target

from trilho_runtime.compiled import NotCompiled
from trilho_runtime.compiled.estimators import COMPILERS, EVALUATORS, compile_estimator, load_estimator

HEAVY = ("pandas", "sklearn", "scipy", "pyarrow", "xgboost", "lightgbm", "joblib", "granian")
ASK = f"""
import json, sys
from pathlib import Path
import numpy as np
from trilho_runtime.compiled.estimators import load_estimator
folder = Path(sys.argv[1])
arrays = dict(np.load(folder / "arrays.npz", allow_pickle=False))
made = load_estimator(json.loads((folder / "spec.json").read_text()), arrays, folder)
found = made(np.load(folder / "asked.npy"))
peak = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
heavy = [name for name in {HEAVY!r} if name in sys.modules]
print(json.dumps({{"found": found.tolist(), "heavy": heavy, "peak_mb": int(peak[0]) / 1024}}))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(20, random_state=0),
        HistGradientBoostingClassifier(max_iter=10, categorical_features=[2]),
        LogisticRegression(),
        MLPClassifier((5,), max_iter=20),
        CalibratedClassifierCV(xgboost.XGBClassifier(n_estimators=10), cv=2),
        xgboost.XGBClassifier(n_estimators=200),
        lightgbm.LGBMClassifier(n_estimators=200, verbosity=-1),
    ],
)
def test_nothing_heavy_is_imported(model: Any, tmp_path: Path) -> None:
    matrix = table(1)
    made = read_again(compile_estimator(model.fit(matrix, target(matrix, "words" if "GBM" in repr(model) else "two")),
                                        sparse=False), tmp_path)  # fmt: skip
    np.save(tmp_path / "asked.npy", matrix[:5])
    done = subprocess.run([sys.executable, "-c", ASK, tmp_path], capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["heavy"] == []
    assert told["found"] == made(matrix[:5]).tolist()
    assert told["peak_mb"] < 80


def test_every_name_that_is_known_is_there() -> None:
    from importlib import import_module

    for where in {*COMPILERS.values(), *EVALUATORS.values()}:
        module, _, name = where.partition(":")
        assert callable(getattr(import_module(f"trilho_runtime.compiled.{module}"), name))
    for name, where in EVALUATORS.items():
        module, _, kind = where.partition(":")
        assert getattr(import_module(f"trilho_runtime.compiled.{module}"), kind).name == name


def test_parts_of_another_schema_or_kind_are_refused(tmp_path: Path) -> None:
    matrix = table(2)
    spec, arrays, _ = compile_estimator(
        LogisticRegression().fit(matrix, target(matrix, "two")), sparse=False
    ).to_parts()
    with pytest.raises(NotCompiled, match="schema 7; 1 is known here"):
        load_estimator({**spec, "schema": 7}, arrays)
    with pytest.raises(NotCompiled, match="is a 'quantum'; known here are forest"):
        load_estimator({**spec, "estimator": {"name": "quantum"}}, arrays)


def test_an_empty_matrix_gives_no_scores() -> None:
    matrix = table(3)
    for kind, shape in (("two", (0,)), ("words", (0, 3))):
        found = compile_estimator(LogisticRegression().fit(matrix, target(matrix, kind)), sparse=False)
        assert found(matrix[:0]).shape == shape
        with pytest.raises(ValueError, match="the model takes 6 columns"):
            found(np.zeros((0, 4)))
