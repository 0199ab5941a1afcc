"""Rewrites expressions that are worth rows: what in them is learnt of many rows is put into the state."""

from __future__ import annotations

import ast

from trilho.adopt.scopes import parameters, root
from trilho.adopt.slice import calls
from trilho.adopt.slice.facts import Facts
from trilho.adopt.slice.shared import Unsliceable
from trilho.adopt.slice.text import Edit, end_of, span_of
from trilho.adopt.trace import Value


class Expressions(Facts):
    """Rewrites expressions that are worth rows."""

    def visit(self, value_of: ast.expr, **place: ast.stmt | None) -> None:
        """Rewrite an expression that is worth rows; what in it is learnt of them is put into the state."""
        node = value_of
        if self.learning or not self.depends(node) or isinstance(node, ast.Name | ast.Constant):
            return
        if isinstance(node, ast.Lambda):
            self.inner_lambda(node)
            return
        if self.is_schema(node) or calls.is_count(node):
            return
        if isinstance(node, ast.Call) and self.special(node, **place):
            return
        if isinstance(node, ast.Subscript) and self.picks_target(node):
            self.edits.append(self.pick_known(node))
            self.visit(node.value)
            return
        value = self.value(node)
        if self.must_hoist(node, value):
            self.hoist(node)
            return
        self.children(node, **place)

    def must_hoist(self, node: ast.expr, value: Value | None) -> bool:
        """Say whether an expression is one value for many rows."""
        if value is None or self.roles.is_rows(value, self.sizes) or self.is_handle(node) or self.holds_rows(node):
            return False
        if isinstance(node, ast.Attribute) and node.attr in ("index", "shape", "size", "values", "T"):
            return False
        if self.labels_rows(node, value):
            return False
        return value.kind not in ("function", "module", "class", "none")

    def children(self, parent: ast.AST, **place: ast.stmt | None) -> None:
        """Rewrite the parts of an expression."""
        node = parent
        if isinstance(node, ast.BinOp | ast.Compare):
            self.operands(node)
            return
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.visit(child, **place)
            elif isinstance(child, ast.keyword):
                self.visit(child.value)
            elif isinstance(child, ast.comprehension):
                self.visit(child.iter)
                for test in child.ifs:
                    self.visit(test)

    def operands(self, node: ast.BinOp | ast.Compare) -> None:
        """Rewrite both sides; a count of rows that is computed with is learnt too."""
        parts = [node.left, node.right] if isinstance(node, ast.BinOp) else [node.left, *node.comparators]
        for part in parts:
            if calls.is_count(part) and self.depends(part) and not self.learning:
                self.hoist(part)
            else:
                self.visit(part)

    def inner_lambda(self, node: ast.Lambda) -> None:
        """Rewrite a lambda's body; its parameters may be columns."""
        own = list(parameters(node))
        outer = {name: self.kinds.get(name) for name in own}
        for name in own:
            self.kinds[name] = "constant"
            for part in ast.walk(node.body):
                if isinstance(part, ast.Name) and part.id == name and self.roles.is_rows(self.value(part), self.sizes):
                    self.kinds[name] = "rows"
                    self.shared.names.series.add(name)
        self.visit(node.body)
        for name, kind in outer.items():
            self.kinds.pop(name, None)
            if kind is not None:
                self.kinds[name] = kind

    def special(self, call: ast.Call, **place: ast.stmt | None) -> bool:
        """Rewrite a call that both learns and transforms; say whether it was one."""
        if self.learning:
            return False
        node, function = call, call.func
        word = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if not self.depends(node):
            return False
        if word == "fit_transform" and isinstance(function, ast.Attribute):
            self.fit_transform(node, function, **place)
        elif word == "get_dummies" and node.args:
            self.dummies(node)
        elif word == "astype" and isinstance(function, ast.Attribute) and self.to_category(node):
            self.categories(node, function)
        elif word in ("qcut", "cut") and calls.learns_bins(
            node, self.value(node.args[1]) if len(node.args) > 1 else None
        ):
            self.bins(node, word)
        elif word == "transform" and calls.grouped(node) is not None:
            self.grouped(node)
        elif word in ("apply", "transform") and node.args and calls.is_bound_fit_transform(node.args[0]):
            self.fitted_columns(node.args[0])
        elif word == "concat" and self.stacked(node):
            pass
        elif word == "merge" and isinstance(function, ast.Attribute):
            self.merge(node)
        elif word in ("drop", "reindex") and self.drops_target(node):
            self.edits.append(Edit(end_of(node), self.more(node, 'errors="ignore"')))
            self.children(node)
        elif word in calls.WHOLE_COLUMN:
            raise Unsliceable(
                self.code.at(span_of(node)),
                self.cell,
                node.lineno,
                f"{word} computes each row from all the rows, and keeps nothing to serve with",
            )
        elif isinstance(function, ast.Name) and function.id in self.shared.program.definitions:
            self.call_function(node, function.id)
            self.children(node)
        else:
            return False
        return True

    def fit_transform(self, call: ast.Call, function: ast.Attribute, **place: ast.stmt | None) -> None:
        """`e.fit_transform(X)` becomes a fit in training only, and a transform."""
        node = call
        first = [*node.args, *(k.value for k in node.keywords)][:1]
        shown = self.text(first[0]) if first else ""
        statement = place.get("node")
        if isinstance(function.value, ast.Name) and statement is not None and not self.unequal(function.value):
            name = function.value.id
            self.learn_estimator(name, node, node, statement, place.get("before"))
            self.edits.append(Edit(span_of(node), f"{self.names.get(name, name)}.transform({shown})"))
            return
        given = ", ".join(
            self.text(a) if not isinstance(a, ast.keyword) else f"{a.arg}={self.text(a.value)}"
            for a in [*node.args, *node.keywords]
        )
        name = function.value.id if isinstance(function.value, ast.Name) else ""
        learnt = self.once(
            name or self.estimator_name(node), f"{self.text(function.value)}.fit({given})", node, own=name
        )
        if self.unequal(function.value):
            whole = self.text(node)
            self.edits.append(Edit(span_of(node), f"({whole} if state.learning else {learnt}.transform({shown}))"))
            raise Unsliceable(
                name or "it",
                self.cell,
                node.lineno,
                "its fit_transform gives the training rows other values than transform",
            )
        self.edits.append(Edit(span_of(node), f"{learnt}.transform({shown})"))

    def unequal(self, receiver: ast.expr) -> bool:
        """Say whether an estimator gives the rows that it was fitted to other values than transform would."""
        value = self.value(receiver)
        return value is not None and value.type.rpartition(".")[2] in calls.UNEQUAL

    def estimator_name(self, node: ast.Call) -> str:
        """Name an encoder that the notebook did not."""
        columns = self.shared.names.columns_of(node.args[0]) if node.args else ""
        return f"{columns}_encoder" if columns else "encoder"

    def dummies(self, node: ast.Call) -> None:
        """`pd.get_dummies` of columns whose categories are those of training, so that one row has all of them."""
        table = node.args[0]
        self.visit(table)
        value, shown = self.value(table), self.text_with_edits(table)
        chosen = calls.keyword(node, "columns")
        if value is not None and value.kind == "series":
            learnt = self.once(self.shared.names.of(table, "categories"), f'{shown}.astype("category").dtype', table)
        elif chosen is not None:
            picked = f'{shown}[{self.text(chosen)}].astype("category").dtypes.to_dict()'
            learnt = self.once(self.shared.names.of(table, "categories"), picked, table)
        else:
            kinds = 'include=["object", "string", "category"]'
            picked = f'{shown}.select_dtypes({kinds}).astype("category").dtypes.to_dict()'
            learnt = self.once(self.shared.names.of(table, "categories"), picked, table)
        self.edits.append(Edit(span_of(table), f"{shown}.astype({learnt})"))

    def to_category(self, node: ast.Call) -> bool:
        """Say whether `astype` is to categories."""
        return bool(node.args or node.keywords) and any(
            isinstance(part, ast.Constant) and part.value == "category" for part in ast.walk(node)
        )

    def categories(self, node: ast.Call, function: ast.Attribute) -> None:
        """`astype("category")` with the categories of training."""
        self.visit(function.value)
        value, shown = self.value(node), self.text(node)
        types = "dtypes.to_dict()" if value is not None and value.kind == "frame" else "dtype"
        learnt = self.once(self.shared.names.of(function.value, "categories"), f"{shown}.{types}", node)
        given = [*node.args, *(k.value for k in node.keywords)][0]
        self.edits.append(Edit(span_of(given), learnt))

    def bins(self, node: ast.Call, word: str) -> None:
        """`pd.qcut` and `pd.cut` into a number of bins: the edges are learnt."""
        column = node.args[0]
        self.visit(column)
        whole = calls.with_keyword(self.text(node), "retbins=True")
        learnt = self.once(self.shared.names.of(column, "bins"), f"{whole}[1]", node)
        self.edits.append(Edit(span_of(node), self.cut_text(node, word, self.text_with_edits(column), learnt)))

    def cut_text(self, node: ast.Call, word: str, column: str, edges: str) -> str:
        """Write the cut of a column by edges that are known."""
        shown = self.text(node.func).rpartition(".")[0]
        kept = [f"{k.arg}={self.text(k.value)}" for k in node.keywords if k.arg in ("labels", "right", "precision")]
        kept += [f"labels={self.text(node.args[2])}"] if len(node.args) > 2 and word == "qcut" else []
        kept += ["include_lowest=True"] if word == "qcut" else []
        return f"{shown}.cut({', '.join([column, edges, *kept])})".replace("..", ".")

    def grouped(self, node: ast.Call) -> None:
        """`df.groupby(k)[c].transform("mean")` becomes a table of means that is learnt, and a look into it.

        A function of the group's values and its statistics is written out: `lambda x: x.fillna(x.median())` too.
        """
        found = calls.grouped(node)
        assert found is not None
        frame, key, column, how = found
        if isinstance(how, str):
            self.edits.append(Edit(span_of(node), self.statistic(node, frame, key, column, how)))
            return
        own = next(iter(parameters(how)))
        edits = []
        for part in ast.walk(how.body):
            inner = calls.statistic_of(part, own)
            if inner is not None:
                edits.append(Edit(span_of(part), self.statistic(node, frame, key, column, inner)))
            elif isinstance(part, ast.Name) and part.id == own:
                edits.append(Edit(span_of(part), f"{self.text(frame)}[{self.column_text(column)}]"))
        text = self.code.edited(span_of(how.body), edits)
        self.edits.append(Edit(span_of(node), text if isinstance(how.body, ast.Call | ast.Name) else f"({text})"))

    def statistic(self, node: ast.Call, frame: ast.expr, key: ast.expr, column: ast.expr | str, how: str) -> str:
        """Write the look into a table of groups' statistics."""
        if isinstance(key, ast.List) and len(key.elts) == 1:
            key = key.elts[0]
        value = self.value(key)
        single = isinstance(key, ast.Constant) or (value is not None and value.kind == "text")
        shown, by, label = self.text(frame), self.text(key), self.column_text(column)
        table = f"{shown}.groupby({by})[{label}].{how}()"
        learnt = self.once(self.shared.names.of(node.func, how.partition("(")[0]), table, node)
        if single:
            return f"{shown}[{by}].map({learnt})"
        return f'{shown}[{by}].join({learnt}.rename("learnt"), on={by})["learnt"].rename({label})'

    def column_text(self, column: ast.expr | str) -> str:
        """Write the name of a column as it stands in brackets."""
        return repr(column) if isinstance(column, str) else self.text(column)

    def fitted_columns(self, function: ast.expr) -> None:
        """`df[c].apply(LabelEncoder().fit_transform)`: one encoder a column, by the column's name."""
        assert isinstance(function, ast.Attribute)
        maker = self.text(function.value)
        if isinstance(function.value, ast.Name):
            maker = f"deepcopy({maker})"
            raise Unsliceable(function.value.id, self.cell, function.lineno, "one encoder is refitted for each column")
        self.uses_state = self.shared.learns = True
        text = f'lambda s: state.once(f"{{s.name}}_encoder", lambda: {maker}.fit(s)).transform(s)'
        self.edits.append(Edit(span_of(function), text))

    def stacked(self, node: ast.Call) -> bool:
        """`pd.concat([train, test])`: the other table's rows are there in training only, to learn statistics of."""
        parts = node.args[0].elts if node.args and isinstance(node.args[0], ast.List | ast.Tuple) else []
        own = [e for e in parts if self.depends(e)]
        along = calls.keyword(node, "axis")
        if len(own) != 1 or len(parts) < 2 or not (along is None or ast.unparse(along) in ("0", "'index'")):
            return False
        self.shared.seconds |= {name for e in parts if e not in own and (name := root(e)) is not None}
        self.edits.append(Edit(span_of(node), f"({self.text(node)} if state.learning else {self.text(own[0])})"))
        self.uses_state = self.shared.learns = True
        return True

    def merge(self, node: ast.Call) -> None:
        """A served row is never dropped by a merge: it keeps its place, with nulls."""
        assert isinstance(node.func, ast.Attribute)
        how = calls.keyword(node, "how")
        said = how.value if isinstance(how, ast.Constant) else None if how is not None else "inner"
        right = [*node.args, *(k.value for k in node.keywords if k.arg == "right")][:1]
        if said == "inner" and right and not self.follows_rows(right[0]) and self.depends(node.func.value):
            before, after = self.value(node.func.value), self.value(node)
            drops = before is None or after is None or before.rows != after.rows
            text = '("inner" if state.learning else "left")' if drops else '"left"'
            self.uses_state |= drops
            self.shared.learns |= drops
            if drops:
                self.note_rule(
                    ast.Expr(
                        node,
                        lineno=node.lineno,
                        col_offset=node.col_offset,
                        end_lineno=node.end_lineno,
                        end_col_offset=node.end_col_offset,
                    )
                )
            if how is not None:
                self.edits.append(Edit(span_of(how), text))
            else:
                self.edits.append(Edit(end_of(node), self.more(node, f"how={text}")))
        elif said in ("right", "outer", "cross"):
            raise Unsliceable(
                self.code.at(span_of(node)),
                self.cell,
                node.lineno,
                f"a {said} merge makes rows that nobody asked about",
            )
        self.children(node)

    def factorized(self, target: ast.expr, value: ast.expr, node: ast.stmt) -> bool:
        """`codes, values = pd.factorize(x)`, or `pd.factorize(x)[0]`: the values are learnt, in their order."""
        found = calls.factorized(value)
        if found is None or not self.depends(value):
            return False
        call, column = found
        shown = self.text(column)
        if isinstance(target, ast.Tuple) and value is call and len(target.elts) == 2:
            names = [self.text(e) for e in target.elts]
            learnt = self.once(names[1].strip("_") or "values", f"{self.text(call)}[1]", call)
            self.edits.append(
                Edit(
                    span_of(node),
                    f"{names[1]} = {learnt}\n{' ' * node.col_offset}{names[0]} = {names[1]}.get_indexer({shown})",
                )
            )
            self.bind(target.elts[0], "rows")
            self.bind(target.elts[1], "state")
            return True
        learnt = self.once(self.shared.names.of(column, "values"), f"{self.text(call)}[1]", call)
        self.edits.append(Edit(span_of(value), f"{learnt}.get_indexer({shown})"))
        self.bind(target, "rows")
        return True

    def binned(self, target: ast.expr, value: ast.expr, node: ast.stmt) -> bool:
        """`codes, edges = pd.qcut(x, 4, retbins=True)`: the edges are learnt, under their own name."""
        if not isinstance(target, ast.Tuple) or len(target.elts) != 2 or not isinstance(value, ast.Call):
            return False
        word = value.func.attr if isinstance(value.func, ast.Attribute) else getattr(value.func, "id", "")
        given = self.value(value.args[1]) if len(value.args) > 1 else None
        if word not in ("qcut", "cut") or calls.keyword(value, "retbins") is None or not self.depends(value):
            return False
        codes, edges = (self.text(e) for e in target.elts)
        if not calls.learns_bins(value, given):
            return False
        learnt = self.once(edges.strip("_") or "edges", f"{self.text(value)}[1]", value)
        text = self.cut_text(value, word, self.text(value.args[0]), edges)
        self.edits.append(Edit(span_of(node), f"{edges} = {learnt}\n{' ' * node.col_offset}{codes} = {text}"))
        self.bind(target.elts[0], "rows")
        self.bind(target.elts[1], "state")
        return True

    def binds_rows(self, target: ast.expr) -> bool:
        """Say whether a part of an assignment's target is rows, or a column of them."""
        if not isinstance(target, ast.Name):
            return True
        found = self.roles.after[self.step].get(target.id) if self.function is None else None
        return found is not None and found.kind == "rows"

    def hoist(self, node: ast.expr, name: str = "") -> None:
        """Put an expression into the state."""
        if self.learning:
            return
        text = self.once(name or self.shared.names.of(node), self.text(node), node, own=name)
        self.edits.append(Edit(span_of(node), text))

    def once(self, name: str, text: str, node: ast.AST, own: str = "") -> str:
        """Give the call that learns a value once, with what tells one loop's items from another in its name."""
        self.uses_state = self.shared.learns = True
        if self.function is not None:
            self.shared.hoisting.add(self.function.name)
        self.shared.needs_target |= self.mentions_target(node)
        used = [n.id for n in ast.walk(node) if isinstance(n, ast.Name)]
        varying = [n for n in dict.fromkeys([*self.loops, *self.keys]) if n in used]
        varying = varying or ([*self.loops] if self.loops and self.changing & set(used) else [])
        label = self.shared.names.label(name, varying, text, own=own, function=self.function is not None)
        held = [n for n in dict.fromkeys(used) if n in self.changing] + ([own] if own in self.changing else [])
        given = ", ".join(f"{n}={n}" for n in dict.fromkeys(held) if n in text)
        self.shared.names.learnt.append(label)
        return f"state.once({label}, lambda{' ' + given if given else ''}: {text})"

    def note_rule(self, node: ast.stmt) -> None:
        """Keep a rule that training alone follows."""
        self.shared.train_only.append(self.code.at(span_of(node)))

    def learn_estimator(
        self, name: str, call: ast.Call, whole: ast.expr, node: ast.stmt, before: ast.stmt | None
    ) -> None:
        """Write the line that fits an estimator once, by its own name."""
        made = before.value if isinstance(before, ast.Assign) and calls.assigns(before, name) else None
        built = made if isinstance(made, ast.Call) and not self.depends(made) else None
        maker = self.text(built) if built is not None else self.names.get(name, name)
        given = ", ".join(
            self.text(a) if not isinstance(a, ast.keyword) else f"{a.arg}={self.text(a.value)}"
            for a in [*call.args, *call.keywords]
        )
        learnt = self.once(name, f"{maker}.fit({given})", call, own=name)
        line = f"{self.names.get(name, name)} = {learnt}"
        if isinstance(node, ast.Expr):
            self.edits.append(Edit(span_of(node), line))
        else:
            start = (node.lineno, node.col_offset)
            self.edits.append(Edit((*start, *start), f"{line}\n{' ' * node.col_offset}"))
        if built is not None and before is not None:
            self.built = name
            if self.in_block(before):
                self.edits.append(Edit(span_of(before), "\0"))
        self.kinds[name] = "state"

    def in_block(self, node: ast.stmt) -> bool:
        """Say whether a statement is rewritten together with this one."""
        return self.function is not None or node.col_offset > 0
