"""The functions of features.py: from raw rows to the model's input, for one row as for many."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from trilho.adopt.plan import Function, Part
from trilho.adopt.slice import calls
from trilho.adopt.slice.calls import with_keyword
from trilho.adopt.slice.ground import FRAME, SERIES, Text
from trilho.adopt.slice.halves import Halves, inlined, read_halves
from trilho.adopt.slice.learn import Learner
from trilho.adopt.slice.live import Ask
from trilho.adopt.slice.program import Step
from trilho.adopt.slice.shared import Unsliceable
from trilho.adopt.slice.steps import Steps
from trilho.adopt.slice.text import Code, Edit, span_of
from trilho.adopt.slice.truth import assigned


class Serving(Steps):
    """The functions of features.py."""

    def _choose_cut(self, texts: list[Text]) -> None:
        """Find after which step the one table goes on that both the target and the features are taken from."""
        self.cut = len(texts)
        last = max((at for at, t in enumerate(texts) if t.filters), default=-1)
        if not self._needs_frame_after(texts) and self._before_truth(texts) == len(texts):
            return
        most = self._before_truth(texts)  # what comes after it stands in its place beside the truth
        for at in range(most, last if most == len(texts) else 0, -1):
            if len(self._crossing(texts, at)) == 1 and not self._crossing(texts, at, kind="state"):
                self.cut = at
                return
        raise Unsliceable(
            ", ".join(sorted(self._crossing(texts, last + 1))),
            texts[last].step.cell,
            texts[last].step.node.lineno,
            "several tables lose rows together",
        )

    def _before_truth(self, texts: list[Text]) -> int:
        """Give the place before the table changes that the target's values are taken from."""
        for id_ in self._truth_steps():
            step = self.program.steps[id_]
            if self._given_truth(step):
                continue
            for at, text in enumerate(texts):
                if text.step.id > id_ and text.step.writes & step.reads:
                    return at
        return len(texts)

    def _derives_apart(self, texts: list[Text]) -> bool:
        """Whether a function of its own makes the features, after the target was taken from the prepared table."""
        return 0 < self.cut < len(texts) == self.cut + len(texts[self.cut :]) and (
            self._before_truth(texts) < len(texts) and len(texts) - self.cut > 3 and bool(self._derived_name(texts))
        )

    def _derived_name(self, texts: list[Text]) -> str:
        """Give the one name of what is made after the cut that what follows needs."""
        made = self._crossing(texts, len(texts)) & {n for t in texts[self.cut :] for n in t.step.defines}
        return self._new(made.pop()) if len(made) == 1 and not self._crossing(texts, len(texts), kind="state") else ""

    def _derive_call(self, texts: list[Text]) -> str:
        return f"{self._derived_name(texts)} = {self.own['derive']}({self._new(self.prepared)}, state)"

    def _needs_frame_after(self, texts: list[Text]) -> bool:
        crossing = self._crossing(texts, len(texts))
        return len(crossing) != 1 or bool(self._crossing(texts, len(texts), kind="state"))

    def _crossing(self, texts: list[Text], at: int, kind: str = "rows") -> set[str]:
        """Give the names of rows that are made before a place among the shared steps, and read after it."""
        made = {self.live.frame} if kind == "rows" else set()
        for text in texts[:at]:
            made |= {n for n in text.step.defines if self.roles.after[text.step.id][n].kind == kind}
        later = [t.step.id for t in texts[at:]] + self._rest()
        needed: set[str] = set()
        end = {*self.live.X.names} | (set(self.live.asked_input.names) if self.live.asked_input else set())
        for id_ in sorted(set(later), reverse=True):
            step = self.program.steps[id_]
            if isinstance(step.node, ast.Assign):
                needed -= step.writes
            reads = step.reads | step.mutates
            if self._given_truth(step):
                reads = frozenset()
            needed |= reads
        if not self._rest():
            needed |= end
        return (needed & made) - self.shared.globals

    def _rest(self) -> list[int]:
        """Give the live steps of training that are not shared: truth, split, train side, fit."""
        skip = {*self.live.shared}
        return [
            i
            for i in sorted({*self.live.training, *self.live.of_test_file})
            if i not in skip and self.live.kind(i) in ("rows", "constant", "table")
        ]

    def _features(self, texts: list[Text]) -> list[Function]:
        self._texts = texts
        functions = []
        served = self._served_parts()
        last = self._input_text()
        learns = any(t.learns for t in texts[: self.cut]) or self.shared.learns
        self.prepared = ""
        tail = texts[self.cut :]
        crossing = self._crossing(texts, self.cut)
        name = next(iter(crossing), self.live.frame)
        self.prepared = name
        parts = [Part(t.source, t.step.cell, t.step.node.lineno, t.step.id) for t in texts[: self.cut]]
        if self._place() is not None and parts:
            where = self.program.steps[self.live.read]
            parts.insert(
                0,
                self._part(
                    where,
                    f"if {self.column!r} not in {self.frame}:  # columns are taken by their place\n"
                    f"    {self.frame}.insert({self._place()}, {self.column!r}, 0.0)",
                ),
            )
        learns = learns or self._derives_apart(texts)
        state = (("state", "State"),) if learns else ()
        self.state = bool(learns) or bool(self.learnt) or bool(self.frozen)
        given: tuple[tuple[str, str], ...] = ((self.frame, FRAME), *state)
        both = bool(tail) or bool(served) or last != self._new(name)
        after = [*(Part(t.source, t.step.cell, t.step.node.lineno, t.step.id) for t in tail), *served]
        if self._derives_apart(texts):
            made = self._derived_name(texts)
            rest = after[: len(tail)]
            derive = Function(self.own["derive"], ((self._new(name), FRAME), *state), made, FRAME, tuple(rest),
                              "Give a prepared table its features.")  # fmt: skip
            after = [Part(self._derive_call(texts), rest[-1].cell, rest[-1].line, rest[-1].statement), *served]
        if both and parts:
            functions.append(
                Function(self.own["prepare"], given, self._new(name), FRAME, tuple(parts), "Prepare raw rows.")
            )
            call = Part(
                f"{self._new(name)} = {self.own['prepare']}({self.frame}{', state' if learns else ''})",
                parts[-1].cell,
                parts[-1].line,
                parts[-1].statement,
            )
            after.insert(0, call)
            self.prepare = f"{self.own['prepare']}({{}}{', state' if learns else ''})"
            functions += [derive] if self._derives_apart(texts) else []
        elif both:
            self.prepare = "{}"
        else:
            after = parts
            self.prepare = f"build({{}}{', state' if learns else ''})"
        if self.choice.lags and any(
            calls.only_sorts(n) for t in texts for n in ast.walk(t.step.node) if isinstance(n, ast.Call)
        ):
            last = f"{last} if state.learning else {last}.loc[{self.frame}_order]" if learns else f"{last}.loc[order]"
            raise Unsliceable(
                self.choice.lags[0].source,
                self.choice.lags[0].cell,
                self.choice.lags[0].line,
                "it looks at other rows in an order of their own",
            )
        own_state = (("state", "State"),) if self.state and (learns or self.learnt_in_build) else ()
        functions.append(
            Function(
                "build",
                ((self.frame, FRAME), *own_state),
                last,
                self._type_of_input(),
                tuple(after),
                "Give the model's input for raw rows.",
            )
        )
        self.build = f"build({{}}{', state' if own_state else ''})"
        return functions

    def _served_parts(self) -> list[Part]:
        """Write the test side's way from the shared table to the model's input."""
        parts: list[Part] = []
        self.same = {}
        for id_ in self.live.served:
            step = self.program.steps[id_]
            if id_ in self.live.splits:
                halves = read_halves(self.program, step)
                if halves is not None:
                    parts += self._of_halves(step, halves)
                    continue
                self._identify(step)
                text = self._unsplit(step)
                if text:
                    parts.append(Part(text, step.cell, step.node.lineno, step.id))
                continue
            if self._makes_only_truth(step):
                continue
            names = self._serving_names()
            self.learnt_in_build |= any(n in step.reads for n in self.learnt)
            values = [(n, v) for n, v in assigned(step.node) if not self._is_truth(step, n) and self._on_test(step, n)]
            if len(values) < len(assigned(step.node)):
                learner = self._learner(step, names, serving=True)
                learner.learning = True
                learner.edits += [*self._frozen_edits(step), *learner.without_target(step.node)]
                text = self._pairs(step, learner, values, {n: self._new(s) for n, s in self.same.items()})
            else:
                text = self._plain(step, names, serving=True)
            self.learnt_in_build |= "state" in text
            parts.append(Part(text, step.cell, step.node.lineno, step.id))
        return parts

    def _of_halves(self, step: Step, halves: Halves) -> list[Part]:
        """Write what a function that splits does to the rows before it does."""
        targets = [n for n, _ in assigned(step.node)]
        wanted: set[str] = set()
        for name, source in zip(targets, halves.sources, strict=False):
            if self._on_test(step, name) and not self._is_target(source):
                text = self.program.code[halves.cell].at(span_of(source))
                self.same[name] = halves.names.get(text, text)
                wanted |= {n.id for n in ast.walk(source) if isinstance(n, ast.Name)}
        read = self.program.steps[step.id].reads
        needed = {
            n for i in [*self.live.served, *self.score.steps] for n in self.program.steps[i].reads if i != step.id
        }
        needed |= self._input().names | read
        self.same = {n: s for n, s in self.same.items() if n in needed}
        wanted = {n for n in wanted if n in self.same.values()}
        where = self.program.steps[step.id]
        learner = Learner(self.shared, step.id, halves.cell, {})
        parts = []
        for node, text in inlined(self.program, halves, wanted, self._serving_names()):
            drops = {n: t for n, t in halves.names.items() if t == repr(self.column) or t.strip("\"'") == self.column}
            if isinstance(node.value, ast.Call) and (
                learner.drops_target(node.value) or _drops(node.value, set(drops))
            ):
                text = with_keyword(text, 'errors="ignore"')
            parts.append(self._part(where, text))
        return parts

    def _is_target(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and node.id in ("y", "target", "labels")

    def _serving_names(self) -> dict[str, str]:
        return {
            **{n: self._new(s) for n, s in self.same.items()},
            **{n: f"state.{n}" for n in self.learnt if n not in self._estimators()},
        }

    def _identify(self, step: Step) -> None:
        """Note for each name of the test side which name's rows it is a part of."""
        node = step.node
        if not isinstance(node, ast.Assign):
            raise Unsliceable(", ".join(sorted(step.writes)), step.cell, node.lineno, "its split is not an assignment")
        call = next((n for n in ast.walk(node.value) if isinstance(n, ast.Call) and _is_split(n)), None)
        if call is not None and isinstance(node.targets[0], ast.Tuple | ast.List):
            for place, target in enumerate(node.targets[0].elts):
                source = call.args[place // 2] if place // 2 < len(call.args) else None
                if isinstance(target, ast.Name) and source is not None:
                    if not isinstance(source, ast.Name):
                        self.same[target.id] = self.program.code[step.cell].at(span_of(source))
                    else:
                        self.same[target.id] = self.same.get(source.id, source.id)
            return
        for name, value in assigned(node):
            base = self._base(step, value)
            if base is not None:
                self.same[name] = self.same.get(base, base)

    def _base(self, step: Step, value: ast.expr) -> str | None:
        """Give the name that a part of the rows was taken of, where nothing else is done to it."""
        node = value
        while isinstance(node, ast.Call | ast.Subscript | ast.Attribute):
            if isinstance(node, ast.Call):
                if not (
                    isinstance(node.func, ast.Attribute)
                    and node.func.attr in ("copy", "query", "reset_index", "drop", "tail", "head", "sample")
                ):
                    return None
                node = node.func.value
            elif isinstance(node, ast.Subscript):
                if isinstance(node.slice, ast.Tuple) and not _all_columns(node.slice):
                    return None
                if isinstance(node.slice, ast.List | ast.Constant):
                    return None
                value_ = self.program.value(step.id, step.cell, node.slice)
                if (
                    value_ is not None
                    and value_.kind in ("sequence", "text")
                    and not self.roles.is_rows(value_, self.roles.sizes(step.id))
                ):
                    return None
                node = node.value
            else:
                if node.attr not in ("loc", "iloc"):
                    return None
                node = node.value
        return node.id if isinstance(node, ast.Name) else None

    def _unsplit(self, step: Step) -> str:
        """Write what a statement does beside taking a part of the rows."""
        lines = []
        for name, value in assigned(step.node):
            if name in self.same or not self._on_test(step, name) or self._is_truth(step, name):
                continue
            code = self.program.code[step.cell]
            edits = [*_whole_rows(code, value, self._selects(step))]
            learner = self._learner(step, self._serving_names())
            lines.append(f"{name} = {code.edited(span_of(value), [*edits, *learner.base(value)])}")
        return "\n".join(lines)

    def _selects(self, step: Step) -> Iterable[ast.Subscript]:
        for node in ast.walk(step.node):
            if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
                before = self.program.value(step.id, step.cell, _under(node))
                after = self.program.value(step.id, step.cell, node)
                if before is not None and after is not None and before.rows and after.rows and after.rows < before.rows:
                    yield node

    def _on_test(self, step: Step, name: str) -> bool:
        bound_ = self.roles.after[step.id].get(name)
        return bound_ is not None and bound_.side == "test"

    def _input_text(self) -> str:
        """Write the expression of the model's input, at the end of build."""
        ask = self._input()
        names = {**self._serving_names(), **self.renames}
        if ask.node is None:
            return names.get(ask.source, ask.source)
        event = self.live.fit if ask is self.live.X else self.live.asked
        assert event is not None
        step = self.program.steps[event.statement]
        learner = self._learner(step, names)
        text = learner.code.edited(
            span_of(ask.node), [*learner.base(ask.node), *learner.without_target(ask.node), *self._frozen_edits(step)]
        )
        self.learnt_in_build |= "state." in text
        return text

    def _input(self) -> Ask:
        return self.live.asked_input if self.live.served and self.live.asked_input is not None else self.live.X

    def _type_of_input(self) -> str:
        value = self.live.fit.X.value if self.live.fit.X else None
        return {"frame": FRAME, "array": "np.ndarray", "series": SERIES}.get(value.kind if value else "", "Any")


def _is_split(node: ast.Call) -> bool:
    word = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return word == "train_test_split"


def _all_columns(node: ast.Tuple) -> bool:
    last = node.elts[-1]
    return isinstance(last, ast.Slice) and last.lower is None and last.upper is None


def _under(node: ast.Subscript) -> ast.expr:
    return (
        node.value.value if isinstance(node.value, ast.Attribute) and node.value.attr in ("loc", "iloc") else node.value
    )


def _whole_rows(code: Code, value: ast.expr, selects: Iterable[ast.Subscript]) -> list[Edit]:
    """Give the edits that take all rows where a part of them was taken."""
    edits = []
    for node in selects:
        if isinstance(node.slice, ast.Tuple):
            edits.append(Edit(span_of(node.slice.elts[0]), ":"))
        else:
            edits.append(Edit(span_of(node), code.at(span_of(_under(node)))))
    return edits


def _drops(call: ast.Call, names: set[str]) -> bool:
    """Say whether a call drops what one of these names says."""
    word = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    return word == "drop" and any(isinstance(n, ast.Name) and n.id in names for n in ast.walk(call))
