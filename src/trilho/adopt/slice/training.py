"""The functions of fit.py: what the notebook did between the features and the fitted model."""

from __future__ import annotations

import ast
import keyword
from functools import cached_property

from trilho.adopt.plan import Function, Part
from trilho.adopt.slice.frozen import Frozen
from trilho.adopt.slice.ground import FRAME, SERIES
from trilho.adopt.slice.program import Step
from trilho.adopt.slice.serving import Serving
from trilho.adopt.slice.text import Edit, comments_above, span_of
from trilho.adopt.slice.truth import assigned


class Training(Serving):
    """The functions of fit.py."""

    def _train_steps(self, fit_id: int, end: int) -> list[int]:
        """Give the steps that fit a model, from what the split gives to its last change."""
        live, program = self.live, self.program
        fit = next(f for f in program.trace.fits if f.id == fit_id)
        ids = [
            *program.backward(
                program.steps[fit.statement].reads | program.steps[fit.statement].mutates,
                fit.statement,
                program.given_to_fit(fit),
            ),
            fit.statement,
        ]
        for name in [*self._estimators(), self.choice.evaluated_name]:
            if not any(name in program.steps[i].defines for i in ids):
                made = [i for i in sorted(program.steps) if fit.statement < i < end and name in program.steps[i].writes]
                ids += made[:1]
                ids += [i for one in made[:1] for i in program.backward(program.steps[one].reads, one)]
        for name in [*self._estimators(), *self.learnt]:
            before = end if name not in self.learnt else min(end, self._asked_at())
            ids += [
                i
                for i in program.backward({name}, before)
                if live.kind(i) != "import" and name != self.choice.shipped_name
            ]
        seeds = [
            i
            for i in live.training
            if isinstance(program.steps[i].node, ast.Expr) and "seed(" in program.steps[i].statement.source
        ]
        ids = sorted({*ids, *seeds})
        return [
            i
            for i in ids
            if i not in live.shared
            and i not in live.splits
            and live.kind(i) in ("rows", "constant", "table")
            and not self._before_split(i)
        ]

    def _asked_at(self) -> int:
        return self.live.asked.statement if self.live.served and self.live.asked else self.live.fit.statement + 1

    def _before_split(self, id_: int) -> bool:
        """Say whether a step of rows is neither shared, nor of one side: the truth, or where to cut."""
        step = self.program.steps[id_]
        if self.live.kind(id_) != "rows" or self.roles.side_of(id_) != "all" or self.program.fits_of(id_):
            return False
        return self._makes_only_truth(step) or (bool(self.live.splits) and id_ < max(self.live.splits))

    @property
    def split_in_fit(self) -> bool:
        """Whether the model is fitted to one side of a split that the fit makes itself."""
        if self.form == "features" or not self._trains_on_side():
            return False
        learns = any(t.learns for t in self._texts) or self.filters
        return learns or self._fit_sees_test() or self._fit_takes_parts() or self._fit_changes_rows()

    def _fit_changes_rows(self) -> bool:
        """Say whether the model learns from other rows than the train side's: resampled, or parted once more."""
        given = self.live.fit.X.value.rows if self.live.fit.X is not None else None
        parts = {
            b.rows
            for i in self.live.splits
            for n, b in self.roles.after[i].items()
            if n in self.program.steps[i].defines and b.side == "train" and b.kind == "rows"
        }
        return self._trains_on_side() and bool(given and parts) and given not in parts

    def _fit_takes_parts(self) -> bool:
        """Say whether the fit is given several parts of the rows: one to learn from, one to stop by."""
        seen: dict[str, set[str]] = {}
        for name, source in self._train_same().items():
            bound_ = {n: b for i in self.live.splits for n, b in self.roles.after[i].items()}.get(name)
            used = any(
                name in self.program.steps[i].reads
                for i in self.live.training
                if i not in self.live.splits and i not in self.live.shared
            )
            if used and bound_ is not None and bound_.kind == "rows":
                seen.setdefault(source, set()).add(name)
        return any(len(names) > 1 for names in seen.values())

    def _trains_on_side(self) -> bool:
        return any(i in self.live.splits for i in self.live.training)

    def _fit_sees_test(self) -> bool:
        return any(self.roles.side_of(i) == "test" for i in self.live.training if i not in self.live.splits)

    def _fit_of_features(self) -> list[Function]:
        fit = self.live.fit
        steps = [
            i for i in self._train_steps(fit.id, self._end()) if self.live.kind(i) == "constant" or i >= fit.statement
        ]
        X, y = (
            self._new(a.source) if a.source.isidentifier() else b for a, b in ((self.live.X, "X"), (self.live.y, "y"))
        )
        top = self.program.steps[fit.statement]
        parts = []
        for id_ in steps:
            step = self.program.steps[id_]
            text = self._plain(step)
            if step is top:
                learner = self._learner(step)
                edits = [
                    Edit(span_of(a.node), n) for a, n in ((self.live.X, X), (self.live.y, y)) if a.node is not None
                ]
                text = self._source(step, learner.code, [*edits, *learner.base(step.node)])
            parts.append(self._part(step, text))
        return [Function("fit", ((X, FRAME), (y, SERIES)), self._new(self.choice.shipped_name), "object", tuple(parts))]

    def _fit_of_rows(self) -> list[Function]:
        end = self._end()
        train = self._extracted(self.own["train"], self._train_steps(self.live.fit.id, end), self._estimators())
        names = ", ".join(map(self._new, self._estimators()))
        parts, _ = self._preamble()
        functions = []
        if self.cleaning:
            functions.append(
                Function(
                    self.own["clean"],
                    ((self.frame, FRAME),),
                    self.frame,
                    FRAME,
                    tuple(self.cleaning),
                    "Drop the rows that the model is not to learn from.",
                )
            )
        if self.split_in_fit:
            split = self._split_function()
            functions.append(split)
            parts.append(self._call(split, {}))
            same: dict[str, str] = {}
        else:
            same = self._train_same()
        functions.append(train)
        parts.append(self._call(train, same))
        state = ", state.done()" if self.state else ""
        functions.append(
            Function("fit", (("rows", FRAME), ("target", SERIES)), f"Model({names}{state})", "Model", tuple(parts))
        )
        return functions

    def _train_same(self) -> dict[str, str]:
        """Give for each name of the train side what it is where nothing is split."""
        same: dict[str, str] = {}
        kept = dict(self.same)
        if not self._trains_on_side():
            return {}
        for id_ in self.live.splits:
            before = dict(self.same)
            self._identify(self.program.steps[id_])
            same |= self.same
            self.same = {**before, **self.same}
        self.same = kept
        return same

    def _preamble(self) -> tuple[list[Part], set[str]]:
        """Write how fit and evaluate begin: the state, the table, what is shared, the truth."""
        first = self.program.steps[self.live.read]
        parts: list[Part] = []

        def add(text: str, step: Step) -> None:
            parts.append(self._part(step, text))

        if self.state:
            add("state = State()", first)
        for id_ in sorted(self._inits()):
            step = self.program.steps[id_]
            for name, value in assigned(step.node):
                text = self.program.code[step.cell].at(span_of(value))
                add(f"{comments_above(step.statement.source)}state.{name} = {text}", step)
        joined, rows = self.shared.joined, "rows"
        if joined and self._place() is not None:
            rows = self.frame
            add(f"{rows} = rows.copy()\n{rows}.insert({self._place()}, {self.column!r}, {self.given})", first)
        elif joined:
            rows = self.frame
            add(f"{rows} = {self._joined()}", first)
        if self.cleaning:
            add(f"{rows} = {self.own['clean']}({rows})", first)
        name = self._new(self.prepared)
        if self.prepared and (self.prepare != "{}" or name != rows):
            call = self.prepare.format(rows) if self.prepare != "{}" else rows
            add(f"{name} = {call}", first)
        late = [(t.step.id, t.source) for t in self._texts[self.cut :]]
        truth = [(i, self._truth_text(self.program.steps[i])) for i in self._truth_steps()]
        most = self._before_truth(self._texts)
        early = max(0, most - self.cut) if most < len(self._texts) else len(late)
        if self._derives_apart(self._texts):
            late, early = [(self._texts[-1].step.id, self._derive_call(self._texts))], 0
        for id_, text in [*late[:early], *truth, *late[early:]]:
            if text:
                add(text, self.program.steps[id_])
        return parts, {name}

    def _joined(self) -> str:
        plain = self.column.isidentifier() and not keyword.iskeyword(self.column)
        word = f"{self.column}={self.given}" if plain else f"**{{{self.column!r}: {self.given}}}"
        return f"rows.assign({word})"

    def _truth_text(self, step: Step) -> str:
        lines = []
        filters = self.filters
        for name, value in assigned(step.node):
            if not self._is_truth(step, name):
                continue
            given = None if filters else self.truth.given(step.id, value, self.given)
            if self._derived(step, name):
                given = self.given if not filters else f"{self._new(self.live.frame)}[{self.column!r}]"
            if given is None:
                given = self.program.code[step.cell].at(span_of(value))
            lines.append(f"{self._new(name)} = {given}")
        return comments_above(step.statement.source) + "\n".join(lines) if lines else ""

    def _split_function(self) -> Function:
        ids = [
            i
            for i in {*self.live.training, *self.live.experiment}
            if i in self.live.splits
            or (
                self.live.kind(i) == "rows"
                and self._before_split(i)
                and i not in self.live.shared
                and i not in self._truth_steps()
            )
        ]
        needed = {
            n
            for i in {*self.live.training, *self.live.experiment, *(m.statement for m in self.choice.metrics)}
            if i not in ids and i > min(ids)
            for n in self.program.steps[i].reads
        }
        made = [n for i in sorted(ids) for n in self._bound_in_order(self.program.steps[i])]
        outs = [n for n in dict.fromkeys(made) if n in needed]
        return self._extracted("split", sorted(ids), outs)

    def _bound_in_order(self, step: Step) -> list[str]:
        ordered = [n for n, _ in assigned(step.node)]
        return [*ordered, *sorted(step.writes - set(ordered))]

    def _extracted(self, name: str, ids: list[int], outs: list[str]) -> Function:
        """Write a function of some steps: what it takes is what they read and do not make."""
        rows = [i for i in ids if self.live.kind(i) in ("rows", "table")]
        constants = [i for i in self._constants_of(ids) if i not in self._inits()]
        parts, made, given = list[Part](), set[str](), list[str]()
        last = self._last_makers(rows)
        training = name == self.own["train"]
        late, early = self._frozen_makers(rows) if training else ({}, [])
        first = min(rows, default=-1)
        wanted = {n for i in rows for n in self.program.steps[i].reads}
        constants = [i for i in constants if not self._draws(i) or self.program.steps[i].writes & wanted]
        ids = [i for i in ids if i in constants or not self._draws(i) or self.live.kind(i) != "constant"]
        for id_ in sorted({*rows, *constants, *(i for i in ids if i not in self._inits())}):
            step = self.program.steps[id_]
            before = self.roles.before[id_]
            for read in sorted(step.reads | step.mutates):
                elsewhere = {*made, *given, *self.shared.globals, *self._global_state()}
                if read not in elsewhere and read in before and before[read].kind in ("rows", "state"):
                    given.append(read)
            text = self._table_text(step) if self.live.kind(id_) == "table" else self._plain(step)
            if name == self.own["train"] and self.inputs and id_ == self.live.fit.statement:
                learner = self._learner(step)
                learner.learning = True
                edits = [Edit(span_of(node), new) for new, node in self.inputs.items()]
                text = self._source(step, learner.code, [*edits, *learner.base(step.node)])
                given = [
                    n
                    for n in given
                    if n in {m.id for m in ast.walk(ast.parse(text)) if isinstance(m, ast.Name)}
                    or any(n in self.program.steps[i].reads for i in rows if i != id_)
                ]
                given += [n for n in self.inputs if n not in given]
            parts += [self._part(step, f"state.{f.label} = {f.source}") for f in early if id_ == first]
            parts.append(self._part(step, text))
            made |= step.defines
            parts += [self._part(step, f"state.{f.label} = {f.source}") for f in late.get(id_, [])]
            parts += [self._part(step, f"state.{n} = {self._new(n)}") for n in last.get(id_, [])]
        if any(_reads_state(p.source) for p in parts):
            state: tuple[tuple[str, str], ...] = (("state", "State"),)
        else:
            state = ()
        parameters = tuple((self._new(n), self._hint(n, ids)) for n in self._in_order(given))
        shown = ", ".join(self._new(n) for n in outs)
        kinds = [self._hint(n, ids, after=True) for n in outs]
        returns = kinds[0] if len(kinds) == 1 else f"tuple[{', '.join(kinds)}]"
        if name == self.own["train"] and len(outs) == 1:
            returns = "object"
        self.calls[name] = (given, outs, bool(state))
        return Function(name, (*parameters, *state), shown, returns, tuple(parts))

    @cached_property
    def inputs(self) -> dict[str, ast.expr]:
        """What the fit is given, by the names that it has as parameters, where it is given expressions of the table."""
        asks = (self.live.X, self.live.y)
        nodes = [a.node for a in asks if a.node is not None]
        whole = all(self.roles.side_of(self.live.fit.statement) == "all" for _ in nodes)
        if len(nodes) < 2 or not whole or all(isinstance(n, ast.Name) for n in nodes):
            return {}
        return {
            a.source if isinstance(a.node, ast.Name) else n: a.node
            for a, n in zip(asks, ("X", "y"), strict=True)
            if a.node is not None
        }

    def _in_order(self, names: list[str]) -> list[str]:
        """Sort parameters as the notebook names them: features before truth, train before test."""
        order = [n for s in self.program.steps.values() for n in self._bound_in_order(s)]
        place = {n: order.index(n) for n in names if n in order}
        return sorted(names, key=lambda n: (n in self.truth.names, place.get(n, 0)))

    def _last_makers(self, ids: list[int]) -> dict[int, list[str]]:
        """Give the steps after which a learnt value is what serving needs."""
        found: dict[int, list[str]] = {}
        for name in self.learnt:
            if name in self._global_state() or name in self._estimators():
                continue
            makers = [i for i in ids if name in self.program.steps[i].defines or self._fits(i, name)]
            if makers:
                found.setdefault(max(makers), []).append(name)
        return found

    def _frozen_makers(self, ids: list[int]) -> tuple[dict[int, list[Frozen]], list[Frozen]]:
        """Give the steps after which what serving reads of the training rows is there, and what is there at once."""
        late: dict[int, list[Frozen]] = {}
        early: list[Frozen] = []
        for one in {f.label: f for f in self.frozen}.values():
            makers = [i for i in ids if i < one.step and self.program.steps[i].defines & one.names]
            if makers:
                late.setdefault(max(makers), []).append(one)
            else:
                early.append(one)
        return late, early

    def _fits(self, id_: int, name: str) -> bool:
        objects = {o.id for o in self.program.trace.objects if name in o.names}
        return any(f.object in objects for f in self.program.fits_of(id_))

    def _constants_of(self, ids: list[int]) -> list[int]:
        """Give the constants that some steps read, and those that these read."""
        found: set[int] = set()
        for id_ in ids:
            step = self.program.steps[id_]
            for back in self.program.backward(step.reads | step.mutates, id_):
                if self.live.kind(back) == "constant":
                    found.add(back)
        return sorted(i for i in found if self._is_needed(i, ids))

    def _is_needed(self, constant: int, ids: list[int]) -> bool:
        """Say whether a constant is read by these steps, and not only by what was made before them."""
        names = set(self.program.steps[constant].defines)
        read = {n for i in ids for n in self.program.steps[i].reads | self.program.steps[i].mutates}
        if names & read:
            return True
        return any(
            names & self.program.steps[i].reads and self._is_needed(i, ids)
            for i in self.program.steps
            if i > constant and self.live.kind(i) == "constant" and i < max(ids)
        )

    def _call(self, function: Function, same: dict[str, str]) -> Part:
        given, outs, state = self.calls[function.name]
        if function.name == self.own["train"] and self.inputs:
            learner = self._learner(self.program.steps[self.live.fit.statement])
            given_now = {n: learner.code.edited(span_of(v), learner.base(v)) for n, v in self.inputs.items()}
            same = {**same, **given_now}
        arguments = [self._new(same.get(n, n)) for n in self._in_order(given)]
        given_text = ", ".join([*arguments, *(["state"] if state else [])])
        text = f"{', '.join(self._new(n) for n in outs)} = {function.name}({given_text})"
        last = function.parts[-1]
        return Part(text, last.cell, last.line, last.statement)

    def _hint(self, name: str, ids: list[int], *, after: bool = False) -> str:
        for id_ in sorted(ids, reverse=after):
            bound_ = (self.roles.after if after else self.roles.before)[id_].get(name)
            if bound_ is not None:
                value = self.program.steps[bound_.step].did.values.get(name)
                kind = value.kind if value is not None else "other"
                known = {
                    "frame": FRAME,
                    "series": SERIES,
                    "array": "np.ndarray",
                    "mapping": "dict",
                    "sequence": "list",
                    "text": "str",
                    "time": "pd.Timestamp",
                }
                if value is not None and kind == "scalar":
                    return value.type if value.type in ("int", "float", "bool") else "float"
                return known.get(kind, "Any")
        return "Any"

    def _end(self) -> int:
        return max(self.program.steps) + 1


def _reads_state(source: str) -> bool:
    return any(isinstance(n, ast.Name) and n.id == "state" for n in ast.walk(ast.parse(source)))
