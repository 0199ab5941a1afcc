"""What answers raw rows: the model that holds its state, the command that predicts a file, and the decision."""

from __future__ import annotations

from dataclasses import replace

from trilho.adopt.emit.code import body_text
from trilho.adopt.emit.naming import cells_phrase, docstring, indent, renamed
from trilho.adopt.plan import Choice, Function, Plan, Threshold

SCORES = {"classification": "the probability of class 1", "regression": "the prediction"}


def has_model(plan: Plan) -> bool:
    """Say whether the project has a Model of its own, which takes raw rows."""
    return plan.predict is not None


def model_fields(plan: Plan) -> tuple[tuple[str, str], ...]:
    """Give what a Model holds: the parameters of the plan's predict but the rows, which are its last."""
    if plan.predict is None:
        return ()
    given = plan.predict.parameters[:-1]
    return tuple((name, plan.estimator_type if kind in ("", "object") else kind) for name, kind in given)


def model_text(plan: Plan, choice: Choice) -> str:
    """Write the class of fitted models that take raw rows."""
    assert plan.predict is not None
    held = model_fields(plan)
    what = "The fitted model and the state that its features need" if plan.state else "The fitted model"
    rows_told = "raw rows after their past, true values included" if plan.past is not None else "raw rows"
    lines = ["@dataclass(frozen=True)", "class Model:", indent(docstring(f"{what}: it is asked with {rows_told}"))]
    lines += ["", *(f"    {name}: {kind}" for name, kind in held), ""]
    score = _method(plan.predict, tuple(name for name, _ in held))
    rows = plan.predict.parameters[-1][0]
    if choice.task == "regression":
        return "\n".join([*lines, indent(_written("predict", rows, "Give the prediction of each raw row", score))])
    ask = f"score = self._score({rows})\nreturn np.column_stack([1 - score, score])"
    proba = _written("predict_proba", rows, "Give the probabilities of the classes 0 and 1 of each raw row", (ask, ""))
    hidden = _written("_score", rows, "Score raw rows as the notebook did", score)
    return "\n".join([*lines, indent(proba), "", indent(hidden)])


def _method(function: Function, held: tuple[str, ...]) -> tuple[str, str]:
    """Give the body of the plan's predict as a method's, and which cells it is from."""
    body = body_text(replace(function, name="_score"))
    return _renamed(body, {name: f"self.{name}" for name in held}), cells_phrase(function.cells)


def _renamed(body: str, names: dict[str, str]) -> str:
    lines = renamed("def _():\n" + indent(body), names).splitlines()[1:]  # a return stands in a function
    return "\n".join(line.removeprefix("    ") for line in lines)


def _written(name: str, rows: str, doc: str, body: tuple[str, str]) -> str:
    said = docstring(doc, body[1], "        ") if doc or body[1] else ""
    lines = [f"def {name}(self, {rows}: pd.DataFrame) -> np.ndarray:"]
    lines += [indent(said)] if said else []
    return "\n".join([*lines, indent(body[0])])


def predict_text(plan: Plan, choice: Choice) -> list[str]:
    """Write the function that predicts raw rows, and the command that predicts a file of them."""
    kind = "Model" if has_model(plan) else plan.estimator_type
    asked = "rows" if has_model(plan) or plan.form == "whole" else "build(rows)"
    call = f"model.predict_proba({asked})[:, 1]" if choice.task == "classification" else f"model.predict({asked})"
    doc = docstring(f"Give {SCORES[choice.task]} for each raw row")
    predict = f"def predict(model: {kind}, rows: pd.DataFrame) -> np.ndarray:\n    {doc}\n    return {call}"
    loaded = "load(given.rows)" + (
        "" if plan.past is not None else f'.drop(columns={choice.target.column!r}, errors="ignore")'
    )
    held = "raw rows, the past ones with their true values" if plan.past is not None else "raw rows"
    command = f"python -m {plan.package}.predict"
    main = f'''def main() -> None:
    """Predict a file of {held}."""
    parser = argparse.ArgumentParser(prog="{command}", description=main.__doc__)
    parser.add_argument("model", type=Path, help="a fitted model, pickled")
    parser.add_argument("rows", type=Path, help="a file of the form that load reads")
    parser.add_argument("out", type=Path, help="the CSV file to write")
    given = parser.parse_args()
    model = pickle.loads(given.model.read_bytes())
    rows = {loaded}
    pd.DataFrame({{"prediction": predict(model, rows)}}).to_csv(given.out, index=False)'''
    return [predict, main, 'if __name__ == "__main__":\n    main()']


def decide_text(threshold: Threshold) -> list[str]:
    """Write the function that says yes or no to a score."""
    name = limit_name(threshold)
    direction = "above" if threshold.operator == ">" else "at or above"
    doc = docstring(f"Say yes to a score {direction} the notebook's limit", cells_phrase([threshold.cell]), "    ")
    return [f"{name} = {threshold.value!r}",
            f"def decide(score: float) -> bool:\n    {doc}\n    return score {threshold.operator} {name}"]  # fmt: skip


def limit_name(threshold: Threshold) -> str:
    """Give what the limit is called in decide.py: as in the notebook, where it has a name there."""
    return threshold.source if threshold.source.isidentifier() else "THRESHOLD"
