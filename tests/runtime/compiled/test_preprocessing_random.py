"""Random pipelines: what is compiled answers as the original does, row by row, and refuses what it refuses."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.runtime.compiled.pipelines import Case, asked_rows, random_case

from trilho_runtime.compiled import NotCompiled, load
from trilho_runtime.compiled.compile import compile_model
from trilho_runtime.compiled.original import scores_of
from trilho_runtime.compiled.prove import prove

SEEDS = range(150)
GROUP = 15
ALONE = 10


def asked(model: Any, case: Case, columns: Any) -> Any:
    """Give the original's scores of rows, or nothing where it refuses them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return scores_of(model, case.signature.frame(columns))
        except Exception:  # noqa: BLE001
            return None


def check_rows(case: Case, compiled: Any, seed: int) -> None:
    """Compare the answers of rows asked alone; then of all that are answered, in the halves that the original takes."""
    rows = asked_rows(case, np.random.default_rng(seed))
    for row in rows[:ALONE]:
        columns = case.signature.columns([row])
        expected = asked(case.model, case, columns)
        if expected is None:
            with pytest.raises(ValueError):
                compiled.predict(columns)
        else:
            np.testing.assert_allclose(
                compiled.predict(columns), expected, rtol=1e-9, atol=1e-9, err_msg=f"seed {seed}: {row}"
            )
    check_halves(case, compiled, rows)


def check_halves(case: Case, compiled: Any, rows: list[dict[str, Any]]) -> None:
    """Compare all rows at once where the original answers them, else each half."""
    columns = case.signature.columns(rows)
    expected = asked(case.model, case, columns)
    if expected is not None:
        np.testing.assert_allclose(compiled.predict(columns), expected, rtol=1e-9, atol=1e-9)
        return
    with pytest.raises(ValueError):
        compiled.predict(columns)
    if len(rows) > 1:
        check_halves(case, compiled, rows[: len(rows) // 2])
        check_halves(case, compiled, rows[len(rows) // 2 :])


def _model(case: Case) -> Any:
    return case.model


@pytest.mark.parametrize("start", SEEDS[::GROUP])
def test_random_pipelines_answer_as_the_original_does(start: int, tmp_path: Path) -> None:
    paths = []
    for seed in range(start, start + GROUP):
        case = random_case(seed)
        try:
            compiled = compile_model(case.model, case.table, case.signature)
        except NotCompiled as error:
            pytest.fail(f"seed {seed}: nothing of it was compiled: {error}")
        prove(case.model, compiled, case.table, case.signature)
        folder = tmp_path / str(seed)
        folder.mkdir()
        compiled.save(folder)
        check_rows(case, load(folder, {}, original=partial(_model, case)), seed)
        paths.append(compiled.path)
    assert paths.count("compiled") >= GROUP * 0.6
