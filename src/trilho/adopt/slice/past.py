"""A model of lags as a project that answers row by row: every function is given the past rows, their targets too.

The plan is of form "model". Its features run on a table that holds the target, known for past rows and missing for the
one that is asked; they sort it as the notebook does and keep the rows' labels, by which the answers find their places.
"""

from __future__ import annotations

import ast
from dataclasses import replace

from trilho.adopt.plan import Finding, Function, Part, Plan
from trilho.adopt.slice import calls
from trilho.adopt.slice.assemble import Assembly
from trilho.adopt.slice.ground import Text
from trilho.adopt.slice.live import Live
from trilho.adopt.slice.lookback import look_back
from trilho.adopt.slice.program import Program, Step
from trilho.adopt.slice.roles import Roles
from trilho.adopt.slice.shared import Shared, Unsliceable
from trilho.adopt.trace import Value

HEAD = 6  # statements at most that name columns and parse the time
MISSING_TAKEN = ("lightgbm.", "xgboost.", "catboost.", "sklearn.ensemble._hist_gradient_boosting.")


class PastAssembly(Assembly):
    """Puts the functions together where a row is answered after its past."""

    def __init__(self, program: Program, roles: Roles, live: Live, package: str) -> None:
        super().__init__(program, roles, live, package)
        self.back = look_back(program)
        self.choice = replace(self.choice, lags=())  # a lag is no reason against a plan here
        self.head: list[Text] = []

    def plan_past(self) -> Plan:
        """Write the functions. Raises Unsliceable."""
        if self.given != "target" or self.derives or self.choice.target.transform:
            raise self._refusal("past values of its target are not the numbers that it was read as")
        plan = replace(self.plan(allow_features=False), past=self.back)
        if plan.features[-1].returns_type != "pd.DataFrame":
            raise self._refusal("its input is no table")
        there = self._columns_loaded()
        absent = [name for name in (*self.back.entity, self.choice.time) if name not in there]
        if absent or not self.choice.time:
            raise self._refusal(f"{absent[0] or 'a time'} is no column of the table that is read")
        return plan

    def _refusal(self, why: str) -> Unsliceable:
        lag = self.program.choice.lags[0]
        return Unsliceable(lag.source, lag.cell, lag.line, why)

    def _new_shared(self, *, joined: bool) -> Shared:
        return replace(super()._new_shared(joined=joined), lags=True)

    def _rest_needs_target(self) -> bool:
        return True

    def _take_cleaning(self, texts: list[Text]) -> list[Text]:
        self.head, rest = self._take_head(texts)
        return super()._take_cleaning([self._labelled(text) for text in rest])

    def _take_head(self, texts: list[Text]) -> tuple[list[Text], list[Text]]:
        """Take what names the columns and parses the time into load: the past is found by both."""
        wanted = len(texts)
        if self._is_ready(self.program.read.value):
            return [], texts
        for at, text in enumerate(texts[:HEAD]):
            if text.learns or text.filters:
                break
            value = text.step.did.values.get(self.live.frame)
            if value is not None and self._is_ready(value):
                wanted = at + 1
                break
        head = [text for text in texts[:wanted] if not _sorts(text.step)]
        if wanted == len(texts) and not self._is_ready(self._value_after(head)):
            return [], texts
        return head, [text for text in texts if text not in head]

    def _is_ready(self, value: Value | None) -> bool:
        """Say whether a table has the target and the time under their names, the latter as a time."""
        if value is None or not value.columns or not value.dtypes:
            return False
        types = dict(zip(value.columns, value.dtypes, strict=True))
        return self.column in types and types.get(self.choice.time, "").startswith("datetime64")

    def _value_after(self, head: list[Text]) -> Value | None:
        return head[-1].step.did.values.get(self.live.frame) if head else self.program.read.value

    def _columns_loaded(self) -> list[str]:
        value = self._value_after(self.head)
        return list(value.columns or []) if value is not None else []

    def _labelled_parts(self) -> list[Part]:
        head = [Part(t.source, t.step.cell, t.step.node.lineno, t.step.id) for t in self.head]
        return [*head, *super()._labelled_parts()]

    def _labelled(self, text: Text) -> Text:
        """Let a table that is merged into the rows leave their labels as they are."""
        node = text.step.node
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
            return text
        merged = node.value.func.value if isinstance(node.value.func, ast.Attribute) else None
        name, merges = getattr(merged, "id", ""), calls.is_method(node.value, "merge")
        if not merges or not name or "left" not in text.source or not text.source.rstrip().endswith(")"):
            return text
        return replace(text, source=f"{text.source.rstrip()}.set_axis({self.renames.get(name, name)}.index)")

    def _predict(self) -> Function:
        """Let each answer stand in its row's place, none where the past of a past row is too short."""
        written = super()._predict()
        first = written.parts[0]
        X = first.source.partition(" = ")[0]
        made = [first]
        if self._leaves_out_incomplete():
            made.append(replace(first, source=f"{X} = {X}.dropna()  # where a row's past is too short\n"
                                              f"if {X}.empty:\n    return np.full(len(rows), np.nan)"))  # fmt: skip
        returns = f"pd.Series({written.returns}, index={X}.index).reindex(rows.index).to_numpy()"
        return replace(written, parts=(*made, *written.parts[1:]), returns=returns)

    def _leaves_out_incomplete(self) -> bool:
        seen = next((o for o in self.program.trace.objects if o.id == self.choice.shipped), None)
        kind = seen.type if seen is not None else ""
        return not kind.startswith(MISSING_TAKEN) and any("dropna" in rule for rule in self.shared.train_only)

    def _findings(self) -> list[Finding]:
        lag = self.program.choice.lags[0]
        whose = f" of its {' and '.join(self.back.entity)}" if self.back.entity else ""
        said = f"`{lag.source}` looks at past rows: a row is answered after the newest ones{whose}"
        return [*super()._findings(), Finding("past-rows", lag.cell, lag.line, said, "note")]


def _sorts(step: Step) -> bool:
    return any(isinstance(n, ast.expr) and calls.only_sorts(n) for n in ast.walk(step.node))
