"""The shared steps as text: rewritten so that training learns, and serving asks them again for other rows."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import replace

from trilho.adopt.slice import calls
from trilho.adopt.slice.ground import Ground, Text, loop_names
from trilho.adopt.slice.labels import find_labels
from trilho.adopt.slice.learn import Learner
from trilho.adopt.slice.program import Step
from trilho.adopt.slice.reading import (
    lookup_of,
    rest_of_read,
)
from trilho.adopt.slice.text import Edit, comments_above, finished, span_of
from trilho.adopt.slice.truth import assigned


class Steps(Ground):
    """The texts of steps."""

    def _shared_texts(self, *, joined: bool) -> list[Text]:
        self.shared.joined = joined
        self.lookups = []
        texts: list[Text] = []
        work = self._work()
        for at, id_ in enumerate(work):
            step = self.program.steps[id_]
            if self.live.kind(id_) == "read" and not rest_of_read(self.program, self.live.frame):
                continue
            before = self.program.steps[work[at - 1]].node if at else None
            texts += self._shared_text(step, before, texts)
        return self._only_stacked(texts) if self.shared.seconds else texts

    def _only_stacked(self, texts: list[Text]) -> list[Text]:
        """Prepare a table that is stacked under the main one in training only, and where it is stacked."""
        own = [t for t in texts if self._prepares_second(t.step)]
        rest = [t for t in texts if t not in own]
        first = next((at for at, t in enumerate(rest) if t.step.reads & self.shared.seconds), None)
        if not own or first is None:
            return texts
        inner = "\n".join(t.source for t in own).replace("\n", "\n    ")
        stacked = replace(rest[first], source=f"if state.learning:\n    {inner}\n{rest[first].source}")
        return [*rest[:first], stacked, *rest[first + 1 :]]

    def _prepares_second(self, step: Step) -> bool:
        names = step.defines
        of_rows = any(self.roles.after[step.id][n].kind == "rows" for n in names)
        return bool(names) and names <= self.shared.seconds and not of_rows

    def _shared_text(self, step: Step, before: ast.stmt | None, texts: list[Text]) -> list[Text]:
        kind = self.live.kind(step.id)
        if kind == "table":
            return [Text(step, self._table_text(step))]
        if kind == "constant":
            return [Text(step, self._plain(step))]
        rules, learner = len(self.shared.train_only), self._learner(step)
        if self._only_learns(step):
            return [Text(step, self._learning_block(step), learns=True)]
        values = [(n, v) for n, v in assigned(step.node) if not self._is_truth(step, n)]
        if isinstance(step.node, ast.Assign) and len(values) < len(assigned(step.node)):
            if not values:
                return []
            return [Text(step, self._pairs(step, learner, values))]
        if self._makes_only_truth(step):
            return self._pops(step)
        previous = before if before is not None and self._adjacent(before, step) else None
        learner.statement(step.node, previous)
        if previous is not None and any(e.text == "\0" and e.span == span_of(previous) for e in learner.edits):
            texts.pop()
        edits = list(learner.edits)
        if previous is None or isinstance(previous, ast.Assign):
            self._drop_built(learner, step, previous, texts)
        source = self._source(step, learner.code, edits)
        return [Text(step, source, learner.uses_state, len(self.shared.train_only) > rules)] if source else []

    def _pops(self, step: Step) -> list[Text]:
        """Take the target out of its table where the notebook did while it took its values."""
        popped = [n for n in ast.walk(step.node) if isinstance(n, ast.Call) and calls.is_method(n, "pop")]
        tables = [n.func.value for n in popped if isinstance(n.func, ast.Attribute)]
        if not (self.shared.joined and self._given_truth(step)) or len(tables) != 1:
            return []
        table = self._learner(step).text(tables[0])
        return [Text(step, f'{table} = {table}.drop(columns={self.column!r}, errors="ignore")')]

    def _drop_built(self, learner: Learner, step: Step, previous: ast.stmt | None, texts: list[Text]) -> None:
        """Take out the line that only built an estimator which the next one builds and fits."""
        if previous is None or not texts or not isinstance(previous, ast.Assign):
            return
        name = previous.targets[0]
        if isinstance(name, ast.Name) and learner.built == name.id and texts[-1].step.node is previous:
            texts.pop()

    def _adjacent(self, before: ast.stmt, step: Step) -> bool:
        return isinstance(before, ast.Assign) and isinstance(before.value, ast.Call)

    def _pairs(
        self,
        step: Step,
        learner: Learner,
        values: Sequence[tuple[str, ast.expr]],
        names: Mapping[str, str] | None = None,
    ) -> str:
        lines = []
        known = {**self.renames, **(names or {})}
        for name, value in values:
            learner.visit(value)
            text = learner.code.edited(span_of(value), [*learner.edits, *learner.base(value)])
            lines.append(f"{known.get(name, name)} = {text}")
        return finished(comments_above(step.statement.source) + "\n".join(lines))

    def _only_learns(self, step: Step) -> bool:
        """Say whether a block of code leaves nothing behind but what it learnt."""
        after = self.roles.after[step.id]
        kinds = {after[n].kind for n in step.defines if n in after}
        if not isinstance(step.node, ast.For | ast.While | ast.If | ast.Try | ast.With | ast.Expr):
            return False
        if isinstance(step.node, ast.Expr) and not self._calls_own(step):
            return False
        rows = {n for n in step.defines if n in after and after[n].kind == "rows" and n not in loop_names(step.node)}
        return "state" in kinds and not rows

    def _calls_own(self, step: Step) -> bool:
        call = step.node.value if isinstance(step.node, ast.Expr) else None
        return (
            isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in self.program.definitions
        )

    def _learning_block(self, step: Step) -> str:
        """Write code that only learns: run in training, its results kept."""
        learner = self._learner(step)
        learner.learning = True
        body = self._source(step, learner.code, [*learner.base(step.node), *self._noise(learner, step)])
        names = [
            n
            for n in sorted(step.defines)
            if self.roles.after[step.id][n].kind == "state"
            and n not in loop_names(step.node)
            and n not in self._global_state()
        ]
        self.shared.learns = True
        self.shared.needs_target |= learner.mentions_target(step.node)
        kept = [f"state.{n} = {self.renames.get(n, n)}" for n in names]
        inner = "\n".join([body, *kept]).replace("\n", "\n    ")
        return "\n".join(
            [f"if state.learning:\n    {inner}", *(f"{self.renames.get(n, n)} = state.{n}" for n in names)]
        )

    def _table_text(self, step: Step) -> str:
        """Write a statement that reads another table, from the file that is kept with the code."""
        found = lookup_of(self.program, step)
        learner = self._learner(step)
        edits = learner.base(step.node)
        for lookup in found:
            read = next(r for r in self.program.trace.reads if r.id == lookup.read)
            changed = any(step.writes & s.mutates for s in self.program.steps.values() if s.id > step.id)
            labels = self._labels_of_table(step)
            edits.append(Edit(read.span, f"{lookup.name}(){'.copy()' if changed or labels else ''}"))
            self.lookups += [lookup] if lookup not in self.lookups else []
        return self._source(step, learner.code, edits) + self._labels_of_table(step)

    def _labels_of_table(self, step: Step) -> str:
        """Write how the target's column of a test file comes to be what load makes of the main table's."""
        tables = [n for n in sorted(step.writes) if self.column in (step.did.values[n].columns or [])
                  ] if step.id in self.live.of_test_file else []  # fmt: skip
        if len(tables) != 1 or not self.labels.parts:
            return ""
        made = find_labels(self.program, self.live, self._new(tables[0]), self._naming())
        return "".join(f"\n{part.source}" for part in made.parts)

    def _plain(self, step: Step, names: dict[str, str] | None = None, *, serving: bool = False) -> str:
        """Write a statement as it is, but for names and the functions that take the state.

        With `names` it is of the test side, and reads what was learnt; in `serving` there is no target.
        """
        learner = self._learner(step, names, serving=serving)
        learner.learning = True
        edits = [*learner.base(step.node), *self._noise(learner, step)]
        if names is not None:
            edits += self._frozen_edits(step)
        if serving:
            edits += [*learner.without_target(step.node), *self._one_side(step), *learner.where_chosen(step.node)]
        return self._source(step, learner.code, edits)

    def _frozen_edits(self, step: Step) -> list[Edit]:
        return [Edit(f.span, f"state.{f.label}") for f in self.frozen if f.step == step.id]

    def _one_side(self, step: Step) -> list[Edit]:
        """Take the training rows out of a loop over both sides: `for d in [train, test]`."""
        node, before = step.node, self.roles.before[step.id]
        if not isinstance(node, ast.For) or not isinstance(node.iter, ast.List | ast.Tuple):
            return []
        kept = [
            e
            for e in node.iter.elts
            if not (isinstance(e, ast.Name) and e.id in before and before[e.id].side == "train")
        ]
        names = ", ".join(self._new(self.same.get(e.id, e.id)) for e in kept if isinstance(e, ast.Name))
        return [Edit(span_of(node.iter), f"[{names}]")] if len(kept) < len(node.iter.elts) else []

    def _noise(self, learner: Learner, step: Step) -> list[Edit]:
        """Take out what only prints or plots, inside of a block."""
        found = []
        for node in ast.walk(step.node):
            for body in (getattr(node, "body", None), getattr(node, "orelse", None)):
                if isinstance(body, list) and body and node is not None:
                    noisy = [n for n in body if isinstance(n, ast.stmt) and learner.is_noise(n)]
                    keep = len(noisy) == len(body)
                    found += [Edit(span_of(n), "pass" if keep and n is noisy[0] else "\0") for n in noisy]
        return found

    def _take_cleaning(self, texts: list[Text]) -> list[Text]:
        """Take rules that drop rows into a function of the fit, where they come first of all."""
        self.cleaning = []
        count = 0
        while count < len(texts) and texts[count].filters and self._is_rule(texts[count].step):
            count += 1
        if count == 0 or any(t.filters for t in texts[count:]):
            return texts
        self.cleaning = [self._part(t.step, self._plain(t.step)) for t in texts[:count]]
        self.shared.learns = any(t.learns for t in texts[count:]) or bool(self.shared.functions)
        return texts[count:]

    def _is_rule(self, step: Step) -> bool:
        names = step.defines
        return names == {self.live.frame} and step.reads & {self.live.frame} == {self.live.frame}
