"""The project's tests: equality with the notebook at every boundary, and an answer for every row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from trilho.adopt.emit.keeping import FILE as KEEPING
from trilho.adopt.emit.keeping import has_limit, keeping_script
from trilho.adopt.emit.scoring import has_model
from trilho.adopt.plan import Choice, Lookback, Plan

TABLES = ("confusion_matrix", "classification_report", "roc_curve", "precision_recall_curve")  # no single number
HEAD = '''"""What the tests share: the data, a fitted model, and golden/: what the notebook made of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

GOLDEN = Path(__file__).parent / "golden"
DATA = Path(__file__).parents[1] / DATA_FILE


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what to do where the answers changed because the model was meant to change."""
    if terminalreporter.stats.get("failed"):
        said = 'Was the model meant to change? make golden WHY="..." keeps its answers as what is expected.'
        terminalreporter.write_line(said)


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    """Give what is known of the notebook's run."""
    return json.loads((GOLDEN / "golden.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def table() -> pd.DataFrame:
    """Give the data as the project loads it."""
    return load(DATA)


@pytest.fixture(scope="session")
def rows(table: pd.DataFrame) -> pd.DataFrame:
    """Give the raw rows without what is predicted."""
    return table.drop(columns=TARGET_NAME)


@pytest.fixture(scope="session")
def target(table: pd.DataFrame) -> pd.Series:
    """Give what is predicted."""
    return table[TARGET_NAME]


@pytest.fixture(scope="session")
def sample(rows: pd.DataFrame, golden: dict[str, Any]) -> pd.DataFrame:
    """Give the raw rows that were kept in golden/."""
    return rows.iloc[golden["positions"]]


@pytest.fixture(scope="session")
def model(rows: pd.DataFrame, target: pd.Series) -> MODEL_TYPE:
    """Give the model, fitted to the rows that the notebook's was fitted to."""
    FITTED
'''
ROWS_FIXTURE = '''    """Give the raw rows without what is predicted."""
    return table.drop(columns=TARGET_NAME)
'''
PAST_ROWS = '''    """Give the raw rows as the past is given: with their true values, in the last column."""
    return table.drop(columns=TARGET_NAME).assign(TARGET_FLOAT)
'''
ROWS_MADE = "rows = table.drop(columns=TARGET_NAME)"
PAST_MADE = "rows = table.drop(columns=TARGET_NAME).assign(TARGET_FLOAT)"
LOAD = '''"""The project reads the rows that the notebook read."""

import hashlib
from pathlib import Path
from typing import Any

import pandas as pd

GOLDEN = Path(__file__).parent / "golden"


def test_columns_and_types_are_the_notebooks(table: pd.DataFrame, golden: dict[str, Any]) -> None:
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == golden["dtypes"]
    assert len(table) == golden["rows"]


def test_the_sample_is_equal(table: pd.DataFrame, golden: dict[str, Any]) -> None:
    expected = pd.read_parquet(GOLDEN / "rows.parquet")
    found = table.iloc[golden["positions"]][list(expected.columns)]
    pd.testing.assert_frame_equal(found, expected, check_exact=True, check_freq=False)
'''
LOAD_WHOLE = """

def test_every_row_is_equal(table: pd.DataFrame, golden: dict[str, Any]) -> None:
    hashes = pd.util.hash_pandas_object(table, index=False)
    assert hashlib.sha256(hashes.to_numpy().tobytes()).hexdigest() == golden["digest"]
"""
FEATURES = '''"""The features are the notebook's; floats to 1e-12, since processors differ in the last digit."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def features(ROWS_ARGUMENTS) -> pd.DataFrame:
    """Give the features of all rows."""
    return BUILT_ROWS


def test_the_sample_is_equal(features: pd.DataFrame, golden: dict[str, Any]) -> None:
    expected = pd.read_parquet(GOLDEN / "features.parquet")
    found = features.iloc[golden["positions"]][list(expected.columns)]
    pd.testing.assert_frame_equal(found, expected, rtol=1e-12, atol=0, check_freq=False)


def test_columns_types_and_sums_are_the_notebooks(
    features: pd.DataFrame, golden: dict[str, Any]
) -> None:
    assert {str(name): str(dtype) for name, dtype in features.dtypes.items()} == golden["features"]
    for name, total in golden["sums"].items():
        assert features[name].sum() == pytest.approx(total, rel=1e-9, nan_ok=True)


def test_raw_rows_are_left_as_they_are(MORE_ARGUMENTS) -> None:
    before = sample.copy()
    BUILT_SAMPLE
    pd.testing.assert_frame_equal(sample, before)
'''
ALONE_FEATURES = """

def test_a_row_has_the_same_features_alone_and_among_others(MORE_ARGUMENTS) -> None:
    together = BUILT_SAMPLE
    for at in range(min(5, len(sample))):
        one = sample.iloc[[at]]
        alone, among = BUILT_ONE.reset_index(drop=True), together.iloc[[at]].reset_index(drop=True)
        pd.testing.assert_frame_equal(alone, among, check_dtype=False, rtol=1e-12)
"""
FIT = '''"""The project's fit gives the model that the notebook ships."""

from typing import Any

import numpy as np
import pandas as pd


def test_predictions_are_the_notebooks(SCORED_ARGUMENTS, golden: dict[str, Any]) -> None:
    found = SCORED
    np.testing.assert_allclose(found, golden["predictions"], rtol=1e-9, atol=1e-12)
'''
STATE = '''

@pytest.mark.parametrize("name", STATE_NAMES)
def test_what_is_learnt_besides_is_the_notebooks(
    model: Model, golden: dict[str, Any], name: str
) -> None:
    assert described(getattr(model.state, name)) == golden["state"][name]


def described(value: Any) -> str:
    """Write a learnt value as text, floats to twelve digits."""
    if isinstance(value, pd.Series):
        value = value.to_dict()
    if isinstance(value, pd.Index | np.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        parts = sorted((described(key), described(held)) for key, held in value.items())
        return "{" + ", ".join(f"{key}: {held}" for key, held in parts) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(described, value)) + "]"
    if isinstance(value, bool | np.bool_) or value is None:
        return str(value)
    if isinstance(value, int | float | np.number):
        return f"{float(value):.12g}"
    return repr(value) if isinstance(value, str) else type(value).__name__
'''
EVALUATE = '''"""The project's metrics on held-out rows are the notebook's."""

from typing import Any

import pandas as pd
import pytest


def test_metrics_are_the_notebooks(
    rows: pd.DataFrame, target: pd.Series, golden: dict[str, Any]
) -> None:
    found = evaluate(rows, target)
    for name, value in golden["metrics"].items():
        assert found[name] == pytest.approx(value, rel=1e-9)
'''
PARITY = '''"""From raw rows to predictions, as a server does it: every row gets the answer that is its own."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

GOLDEN = json.loads((Path(__file__).parent / "golden" / "golden.json").read_text(encoding="utf-8"))


def test_a_model_that_was_kept_predicts_the_same(
    model: MODEL_TYPE, SCORED_ROWS: pd.DataFrame
) -> None:
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(predict(again, SCORED_ROWS), predict(model, SCORED_ROWS))


def test_every_prediction_is_a_number(model: MODEL_TYPE, rows: pd.DataFrame) -> None:
    found = np.asarray(predict(model, rows))
    assert found.shape == (len(rows),)
    assert np.isfinite(found).all()
'''
ALONE = """

def test_a_row_is_predicted_the_same_alone_and_among_others(
    model: MODEL_TYPE, sample: pd.DataFrame
) -> None:
    together = predict(model, sample)
    for at in range(min(5, len(sample))):
        alone = predict(model, sample.iloc[[at]])
        np.testing.assert_allclose(alone, together[at : at + 1], rtol=1e-9, atol=1e-12)
"""
AFTER_PAST = """

def test_a_row_is_predicted_the_same_after_its_past_and_in_the_table(
    model: MODEL_TYPE, rows: pd.DataFrame
) -> None:
    together = predict(model, rows)
    known = [at for at in GOLDEN["positions"] if np.isfinite(together[at])]
    for at in known[-5:]:
        row = rows.iloc[[at]].assign(TARGET_UNKNOWN)
        earlier = rows[rows[TIME_NAME] < row[TIME_NAME].iloc[0]]
        SAME_ENTITY
        past = earlier.sort_values(TIME_NAME, kind="stable").tail(PAST_COUNT)
        alone = predict(model, pd.concat([past, row], ignore_index=True))
        np.testing.assert_allclose(alone[-1], together[at], rtol=1e-9, atol=1e-12)
"""
UNSEEN = """

@pytest.mark.parametrize("column", GOLDEN["unseen"])
def test_a_text_that_was_never_seen_gets_an_answer(
    model: MODEL_TYPE, sample: pd.DataFrame, column: str
) -> None:
    row = sample.iloc[[0]].assign(**{column: "never seen before"})
    assert np.isfinite(predict(model, row)).all()
"""
MISSING = """

@pytest.mark.parametrize("column", GOLDEN["missing"])
def test_a_missing_value_gets_an_answer(
    model: MODEL_TYPE, sample: pd.DataFrame, column: str
) -> None:
    row = sample.iloc[[0]].copy()
    row[column] = pd.Series([None], index=row.index).astype(row[column].dtype)
    assert np.isfinite(predict(model, row)).all()
"""
DECIDE = '''"""The decision is the notebook's at its own limit, and on both sides of it."""

import json
import math
from pathlib import Path

LIMIT = json.loads((Path(__file__).parent / "golden" / "golden.json").read_text(encoding="utf-8"))["limit"]


def test_the_limit_itself() -> None:
    assert decide(LIMIT) is AT_LIMIT
    assert decide(math.nextafter(LIMIT, 1)) is True
    assert decide(math.nextafter(LIMIT, 0)) is False
'''


EVALUATE_FILE = '''"""The project's metrics are the notebook's: its experiment, run again from the file."""

from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parents[1] / DATA_FILE


def test_metrics_are_the_notebooks(golden: dict[str, Any]) -> None:
    found = evaluate(DATA)
    assert found
    for name, value in found.items():
        assert value == pytest.approx(golden["metrics"][name], rel=1e-9)
'''


def write_tests(plan: Plan, choice: Choice, facts: Mapping[str, Any], data: str) -> dict[str, str]:
    """Give the texts of the project's tests, not yet formatted."""
    names = _names(plan, choice, data, facts)
    imports = [f"from {plan.package}.load import load", f"from {plan.package}.fit import fit"]
    head = HEAD if plan.past is None else HEAD.replace(ROWS_FIXTURE, PAST_ROWS)
    texts = {"conftest.py": _with(head, names, imports + _built(plan) + _typed(plan))}
    texts["test_load.py"] = LOAD + (LOAD_WHOLE if facts["digest"] else "")
    if facts["features"]:
        alone = ALONE_FEATURES if facts["alone"] and not choice.lags else ""
        imports = [f"from {plan.package}.features import build", *_model_import(plan)]
        texts["test_features.py"] = _with(FEATURES + alone, names, imports)
    scoring = [f"from {plan.package}.predict import predict", *_typed(plan)]
    state = STATE.replace("STATE_NAMES", repr(sorted(facts["state"]))) if facts["state"] and has_model(plan) else ""
    texts["test_fit.py"] = _with(FIT + state, names, [*scoring, "import pytest"])
    if choice.metrics and plan.evaluate:
        texts["test_evaluate.py"] = _with(
            EVALUATE_FILE if plan.prepared else EVALUATE, names, [f"from {plan.package}.evaluate import evaluate"]
        )
    parts = [
        PARITY if plan.past is None else PARITY.replace("isfinite(found)", 'isfinite(found[GOLDEN["positions"]])'),
        AFTER_PAST if plan.past is not None else "",
        ALONE if facts["alone"] else "",
        UNSEEN if facts["unseen"] else "",
        MISSING if facts["missing"] else "",
    ]
    texts["test_parity.py"] = _with("".join(parts), names, scoring)
    script, imports = keeping_script(plan, choice, facts)
    made = PAST_MADE if plan.past is not None else ROWS_MADE
    texts[KEEPING] = _with(script, names | {"ROWS_MADE": made.replace("TARGET_NAME", names["TARGET_NAME"])
                                            .replace("TARGET_FLOAT", names.get("TARGET_FLOAT", ""))},
                           [*imports, *_typed(plan)])  # fmt: skip
    if choice.threshold is not None and choice.task == "classification":
        names |= {"AT_LIMIT": str(choice.threshold.operator == ">=")}
        texts["test_decide.py"] = _with(DECIDE, names, [f"from {plan.package}.decide import decide"])
    return texts


def golden_text(choice: Choice, facts: Mapping[str, Any], types: Mapping[str, str]) -> str:
    """Write golden.json: what is known of the notebook's run, and what the model answers to."""
    features = facts["features"]
    golden = {
        "rows": facts["rows"], "dtypes": {c["name"]: types.get(c["name"], c["dtype"]) for c in facts["columns"]},
        "digest": facts["digest"], "positions": facts["positions"],
        "features": dict(zip(features["columns"], features["dtypes"], strict=True)) if features else {},
        "sums": features["sums"] if features else {},
        "predictions": facts["predictions"], "state": facts["state"],
        "metrics": {m.name: m.value for m in choice.metrics if not m.function.endswith(TABLES)},
        "missing": facts["missing"], "unseen": facts["unseen"],
        **({"limit": choice.threshold.value} if choice.threshold is not None and has_limit(choice) else {}),
    }  # fmt: skip
    lines = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in golden.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _names(plan: Plan, choice: Choice, data: str, facts: Mapping[str, Any]) -> dict[str, str]:
    own = has_model(plan)
    stateful = bool(plan.features) and len(plan.features[-1].parameters) > 1
    state = ", model.state" if stateful else ""
    batch = bool(choice.lags)
    scored = "rows" if batch else "sample"
    return {
        **(_past_names(plan.past, choice, facts["past"]["rows"]) if plan.past is not None else {}),
        "DATA_FILE": " / ".join(repr(part) for part in data.split("/")),
        "TARGET_NAME": repr(choice.target.column),
        "MODEL_TYPE": "Model" if own else plan.estimator_type,
        "FITTED": _fitting(plan, facts["fitted"]),
        "ROWS_ARGUMENTS": "rows: pd.DataFrame" + (", model: Model" if stateful else ""),
        "MORE_ARGUMENTS": "sample: pd.DataFrame" + (", model: Model" if stateful else ""),
        "BUILT_ROWS": f"build(rows{state})" + ("" if plan.past is None else ".loc[rows.index]"),
        "BUILT_SAMPLE": f"build(sample{state})",
        "BUILT_ONE": f"build(one{state})",
        "SCORED_ARGUMENTS": f"model: {'Model' if own else plan.estimator_type}, {scored}: pd.DataFrame",
        "SCORED_ROWS": scored,
        "SCORED": 'predict(model, rows)[golden["positions"]]' if batch else "predict(model, sample)",
    }


def _past_names(past: Lookback, choice: Choice, rows: int) -> dict[str, str]:
    """Give what the tests say of past rows."""
    target = choice.target.column
    return {
        "TARGET_FLOAT": f"**{{{target!r}: table[{target!r}].astype(float)}}",
        "TARGET_UNKNOWN": f"**{{{target!r}: float('nan')}}",
        "TIME_NAME": repr(choice.time),
        "        SAME_ENTITY\n": "".join(
            f"        earlier = earlier[earlier[{name!r}] == row[{name!r}].iloc[0]]\n" for name in past.entity
        ),
        "PAST_COUNT": str(rows),
    }


def _fitting(plan: Plan, some: bool) -> str:
    """Write the fit that the tests look at: to all rows, or to some."""
    given = "build(rows)" if plan.form == "features" else "rows"
    if not some:
        return f"return fit({given}, target)"
    read = 'chosen = np.load(GOLDEN / "fitted.npy")\n    '
    given = "build(rows.iloc[chosen])" if plan.form == "features" else "rows.iloc[chosen]"
    return f"{read}return fit({given}, target.iloc[chosen])"


def _with(text: str, names: Mapping[str, str], imports: list[str]) -> str:
    """Put names in their places, and imports below the docstring."""
    for name, value in sorted(names.items(), key=lambda item: -len(item[0])):
        text = text.replace(name, value)
    first, _, rest = text.partition('"""\n')
    return f'{first}"""\n\n' + "\n".join(dict.fromkeys(imports)) + rest


def _built(plan: Plan) -> list[str]:
    return [f"from {plan.package}.features import build"] if plan.form == "features" else []


def _model_import(plan: Plan) -> list[str]:
    return [f"from {plan.package}.predict import Model"] if has_model(plan) else []


def _typed(plan: Plan) -> list[str]:
    """Give the import of the model's class as the tests annotate it."""
    if has_model(plan):
        return _model_import(plan)
    root = plan.estimator_type.partition(".")[0]
    return [line for line in plan.imports if root in _bound(line)]


def _bound(line: str) -> set[str]:
    from trilho.adopt.emit.naming import bound_names

    return bound_names(line)
