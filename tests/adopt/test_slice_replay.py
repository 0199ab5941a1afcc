"""Plans of small, hard notebooks, replayed in the notebook's interpreter: the same predictions and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.adopt import slice_cases as cases
from tests.adopt import slice_replay as harness

from trilho.adopt.capture import capture, find_interpreter
from trilho.adopt.notebook import read_notebook
from trilho.adopt.plan import Choice, Plan
from trilho.adopt.slice.choose import choose
from trilho.adopt.slice.slice import make_plan

HERE = Path(__file__).parent
PYTHON = HERE.parent / "notebooks" / ".venv" / "bin" / "python"
pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="make notebooks")


@dataclass(frozen=True)
class Replayed:
    plan: Plan
    choice: Choice
    found: dict[str, Any]

    @property
    def code(self) -> str:
        functions = [*self.plan.features, *self.plan.fit, *self.plan.evaluate]
        parts = [*(p for f in functions for p in f.parts), *(p for ps in self.plan.definitions.values() for p in ps)]
        return "\n".join([*(part.source for part in parts), *(f"return {f.returns}" for f in functions)])

    def differences(self) -> list[float]:
        """Give the largest difference of each comparison that a served row can be held to."""
        wanted = "predict_proba" if self.choice.task == "classification" else "predict"
        compared = [
            c for c in self.found["compared"] if c[2] == wanted and not (c[0] == "predict" and c[1] in self.plan.unlike)
        ]
        return [min(c[4], c[5]) if wanted == "predict" else c[4] for c in compared]


def replay(folder: Path, name: str) -> Replayed:
    path = cases.write_case(folder, name)
    notebook = read_notebook(path)
    scratch = folder / "scratch"
    trace = capture(notebook, find_interpreter(notebook, str(PYTHON)), scratch, lambda _: None)
    choice = choose(notebook, trace, scratch=scratch)
    plan = make_plan(notebook, trace, choice, name="project")
    return Replayed(plan, choice, harness.replay(plan, choice, trace, scratch, str(PYTHON), folder / "project"))


@pytest.mark.parametrize(
    ("name", "form", "code"),
    [
        (
            "encoders_in_a_loop",
            "model",
            [
                'le = state.once(f"le_{c}", lambda c=c: LabelEncoder().fit(df[c]))',
                'state.once("age_mean", lambda: df["age"].mean())',
                'df["city"].map(state.once("city_income_mean", lambda: df.groupby("city")["income"].mean()))',
                'errors="ignore"',
            ],
        ),
        ("encoded_columns_joined", "model", ["state.ohe = ohe", "state.scaler.transform(X_test[num])"]),
        ("statistics_per_call", "model", ["b = prep(test, State())", "state.a_columns = a.columns"]),
        ("arrays_and_logs", "model", ["df = clean(df)", 'np.log1p(df["value"])']),
        ("categories_and_early_stopping", "model", ["astype(state.once(", "eval_set=[(X_va, y_va)]"]),
        ("loop_over_both_sides", "model", ["for d in [df]:", "state.train_churn_mean"]),
        (
            "everything_in_functions",
            "features",
            ["model = fit(X_train, y_train)", "return train_model(X_train, y_train)"],
        ),
        ("models_in_a_dict", "model", ["best = models[best_name]"]),
    ],
)
def test_a_plan_gives_the_notebooks_answers(tmp_path: Path, name: str, form: str, code: list[str]) -> None:
    done = replay(tmp_path, name)
    assert "error" not in done.found, done.found
    assert done.plan.form == form
    assert done.differences()
    assert max(done.differences()) < 1e-12
    for metric, (mine, theirs) in done.found["metrics"].items():
        assert mine == pytest.approx(theirs, rel=1e-12), metric
    assert set(done.found["metrics"]) == {m.name for m in done.choice.metrics}
    assert done.found["alone"] < 1e-12
    for text in code:
        assert text.replace("return ", "") in done.code
