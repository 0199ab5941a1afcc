"""Rewrites statements that learn from rows and transform them, so that training learns and serving only reads.

The text stays the notebook's, but for the expressions that are worth one value for many rows: `df["age"].median()`
becomes `state.once("age_median", lambda: df["age"].median())`. What such an expression is, the run has shown: it was
made of rows, and is not itself one item a row.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

from trilho.adopt.scopes import bound, root
from trilho.adopt.slice import calls
from trilho.adopt.slice.expressions import Expressions
from trilho.adopt.slice.shared import Unsliceable
from trilho.adopt.slice.text import Edit, span_of


class Learner(Expressions):
    """Rewrites statements that learn from rows and transform them, so that training learns and serving only reads."""

    guarded: str = ""  # the container that an `if x not in NAME` around asks

    def block(self, body: Sequence[ast.stmt]) -> None:
        """Rewrite statements one after another."""
        kept = 0
        for at, node in enumerate(body):
            if self.is_noise(node):
                self.edits.append(Edit(span_of(node), "pass" if kept == 0 and at == len(body) - 1 else "\0"))
                continue
            kept += 1
            self.statement(node, body[at - 1] if at else None)

    def statement(self, node: ast.stmt, before: ast.stmt | None = None) -> None:
        """Rewrite one statement."""
        if (self.cell, span_of(node)) in self.shared.left_out:
            self.edits.append(Edit(span_of(node), "\0"))
            return
        self.edits += self.base(node) if not isinstance(node, ast.For | ast.If | ast.With | ast.Try | ast.While) else []
        match node:
            case ast.Assign() | ast.AnnAssign() | ast.AugAssign():
                self.assign(node, before)
            case ast.Expr(value=value):
                self.expression_statement(node, value, before)
            case ast.For():
                self.loop(node)
            case ast.If(test=test, body=body, orelse=orelse):
                self.head(test)
                self.visit(test)
                known = calls.guard(test)
                self.guarded = known
                self.block(body)
                self.guarded = ""
                self.block(orelse)
            case ast.While(test=test, body=body):
                self.head(test)
                self.visit(test)
                self.block(body)
            case ast.With(items=items, body=body):
                for item in items:
                    self.head(item.context_expr)
                self.block(body)
            case ast.Try():
                for part in (node.body, *(h.body for h in node.handlers), node.orelse, node.finalbody):
                    self.block(part)
            case ast.Return(value=value) if value is not None:
                if self.is_filter(value) and not self.learning:
                    self.filter_returned(node, value)
                else:
                    self.visit(value)
            case ast.Delete(targets=targets) if self.only_target(targets):
                self.only_in_training(node)
            case ast.Global():
                self.drop_globals(node)
            case _:
                pass

    def head(self, node: ast.expr) -> None:
        """Give the head of a compound statement the edits that any code gets."""
        self.edits += self.base(node)

    def assign(self, node: ast.Assign | ast.AnnAssign | ast.AugAssign, before: ast.stmt | None) -> None:
        """Rewrite an assignment: what it learns, what it drops, what it makes of the rows."""
        value = node.value
        if value is None:
            return
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if self.is_filter(value) and len(targets) == 1 and isinstance(targets[0], ast.Name):
            self.filter(node, targets[0], value)
            return
        if self.only_target(targets) or self.from_target(targets, value):
            self.only_in_training(node)
            return
        self.edits += self.where_chosen(node) if not self.learning else []
        for target in targets:
            if not isinstance(target, ast.Name):
                self.children(target)
        if isinstance(value, ast.Tuple) and len(targets) == 1 and isinstance(targets[0], ast.Tuple):
            for one, part in zip(targets[0].elts, value.elts, strict=False):
                self.assign_value(one, part, node, before)
            return
        self.assign_value(targets[0], value, node, before)

    def assign_value(self, target: ast.expr, value: ast.expr, node: ast.stmt, before: ast.stmt | None) -> None:
        """Rewrite the value of one target."""
        if self.learning:
            self.bind(target, "rows" if self.depends(value) and not self.is_schema(value) else self.kind_of(value))
            return
        if self.factorized(target, value, node) or self.binned(target, value, node):
            return
        learns = self.depends(value) and not self.follows_rows(value) and not self.is_schema(value)
        named = isinstance(target, ast.Name) and not isinstance(node, ast.AugAssign)
        if learns and self.guarded and root(target) == self.guarded:
            return
        if learns and isinstance(target, ast.Tuple) and any(self.binds_rows(e) for e in target.elts):
            shown = self.code.at(span_of(target))
            raise Unsliceable(shown, self.cell, node.lineno, "rows and what is learnt of them are made together")
        if learns and not self.is_handle(value) and not self.holds_rows(value):
            name = target.id if isinstance(target, ast.Name) else ""
            if isinstance(target, ast.Tuple) and all(isinstance(e, ast.Name) for e in target.elts):
                name = "_".join(e.id for e in target.elts if isinstance(e, ast.Name))
            self.hoist(value, name)
            self.bind(target, "state")
            if named and isinstance(target, ast.Name) and self.is_global(target.id):
                self.shared.globals.add(target.id)
            return
        self.visit(value, node=node, before=before)
        self.bind(target, "rows" if self.depends(value) and not self.is_schema(value) else self.kind_of(value))

    def expression_statement(self, node: ast.Expr, value: ast.expr, before: ast.stmt | None) -> None:
        """Rewrite a statement that is one call: a fit, a filter in place, an append."""
        if self.learning:
            return
        if calls.is_method(value, "fit") and self.depends(value) and isinstance(value, ast.Call):
            self.fit(node, value, before)
            return
        if self.shared.lags and calls.only_sorts(value):
            return
        if self.is_filter(value) and calls.keyword(value, "inplace") is not None:
            self.only_in_training(node, rule=True)
            return
        if self.pops_target(value):
            self.only_in_training(node)
            return
        if isinstance(value, ast.Call):
            if self.special(value):
                return
            self.children(value)
        else:
            self.visit(value)

    def loop(self, node: ast.For) -> None:
        """Rewrite a loop; what is learnt in it is learnt once for each of its items."""
        self.head(node.iter)
        if self.depends(node.iter) and not self.is_schema(node.iter) and not self.holds_rows(node.iter):
            self.visit(node.iter)
        targets = [n.id for n in ast.walk(node.target) if isinstance(n, ast.Name)]
        frames = isinstance(node.iter, ast.List | ast.Tuple) and any(self.depends(e) for e in node.iter.elts)
        for name in targets:
            self.kinds[name] = "rows" if frames else "constant"
        outer, changed = list(self.loops), set(self.changing)
        self.loops += [] if frames else targets
        self.changing |= {*targets, *bound(node.body)}
        self.block(node.body)
        self.loops, self.changing = outer, changed
        self.block(node.orelse)

    def filter(self, node: ast.stmt, target: ast.Name, value: ast.expr) -> None:
        """Let rows be dropped or put in another order in training only."""
        if self.learning:
            return
        if self.shared.lags and calls.only_sorts(value):
            self.sort(value)
            return
        inner = calls.unfiltered(value, self.is_filter_op)
        base = self.text(inner)
        rest = calls.outermost_filter(value, self.is_filter_op)
        assert rest is not None
        name = self.names.get(target.id, target.id)
        self.note_rule(node)
        if rest is value and base == name:
            self.only_in_training(node)
        elif rest is value and not calls.has_own_work(inner):
            self.shared.needs_target |= self.mentions_target(value)
            self.indent_under_learning(node, f"{name} = {base}\n")
        elif rest is value and isinstance(node, ast.Assign):
            self.shared.needs_target |= self.mentions_target(rest)
            self.visit(inner)
            self.filter_after(node, name, value, inner)
        else:
            self.visit(inner)
            whole = self.text(rest)
            self.shared.needs_target |= self.mentions_target(rest)
            self.edits.append(Edit(span_of(rest), f"({whole} if state.learning else {base})"))
            self.uses_state = self.shared.learns = True
            self.edits += self.base(node)
        self.kinds[target.id] = "rows"

    def filter_after(self, node: ast.Assign, name: str, value: ast.expr, inner: ast.expr) -> None:
        """Write what a chain does to all rows, and after it what it does in training only."""
        pad, done = " " * node.col_offset, self.text_with_edits(inner)
        after = self.code.edited((*span_of(inner)[2:], *span_of(value)[2:]), self.base(value))
        first, second = (f"({text})" if "\n" in text else text for text in (done, f"{name}{after}"))
        self.edits.append(Edit(span_of(node), f"{name} = {first}\n{pad}if state.learning:\n{pad}    {name} = {second}"))
        self.uses_state = self.shared.learns = True

    def filter_returned(self, node: ast.Return, value: ast.expr) -> None:
        """Let a function give fewer rows, or others in front, in training only."""
        if self.shared.lags and calls.only_sorts(value):
            self.sort(value)
            return
        inner = calls.unfiltered(value, self.is_filter_op)
        rest = calls.outermost_filter(value, self.is_filter_op)
        assert rest is not None
        self.note_rule(node)
        self.shared.needs_target |= self.mentions_target(rest)
        self.visit(inner)
        text = f"{self.text(rest)} if state.learning else {self.text(inner)}"
        self.edits.append(Edit(span_of(rest), text if rest is value else f"({text})"))
        self.uses_state = self.shared.learns = True

    def sort(self, value: ast.expr) -> None:
        """Sort in serving too, where rows are looked at in order, and keep the labels that tell whose is whose."""
        for part in ast.walk(value):
            if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) and part.func.attr == "reset_index":
                self.edits.append(Edit((*span_of(part.func.value)[2:], *span_of(part)[2:]), ""))

    def only_in_training(self, node: ast.stmt, *, rule: bool = False) -> None:
        """Put a statement under `if state.learning`, or leave it out where training has no target in the table."""
        if self.learning:
            return
        if rule:
            self.note_rule(node)
        if not rule and not self.shared.joined and self.mentions_target(node):
            self.edits.append(Edit(span_of(node), "\0"))
            return
        self.shared.needs_target |= self.mentions_target(node)
        self.indent_under_learning(node)

    def indent_under_learning(self, node: ast.stmt, first: str = "") -> None:
        """Put a statement under `if state.learning`, after a line that always runs."""
        pad = " " * node.col_offset
        text = self.text(node).replace("\n", "\n    ")
        lead = first.replace("\n", "\n" + pad) if first else ""
        self.edits.append(Edit(span_of(node), f"{lead}if state.learning:\n{pad}    {text}"))
        self.uses_state = self.shared.learns = True

    def fit(self, node: ast.Expr, call: ast.Call, before: ast.stmt | None) -> None:
        """`scaler.fit(X)` becomes `scaler = state.once("scaler", lambda: scaler.fit(X))`."""
        assert isinstance(call.func, ast.Attribute)
        if not isinstance(call.func.value, ast.Name):
            self.children(call)
            return
        name = call.func.value.id
        self.learn_estimator(name, call, call, node, before)

    def drop_globals(self, node: ast.Global) -> None:
        """Take out of a `global` statement what is in the state."""
        kept = [name for name in node.names if name not in self.names]
        text = f"global {', '.join(kept)}" if kept else "\0"
        self.edits.append(Edit(span_of(node), text))
