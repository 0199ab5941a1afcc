"""The values that are predicted: which statements only make them, and how they read once they are given."""

from __future__ import annotations

import ast

from trilho.adopt.slice.program import Program
from trilho.adopt.slice.roles import Roles
from trilho.adopt.slice.text import Edit, span_of


class Truth:
    """Tells the target's values apart from the features."""

    def __init__(self, program: Program, roles: Roles) -> None:
        self.program, self.roles, self.column = program, roles, program.choice.target.column
        self.names: dict[str, set[int]] = {}  # name -> the steps after which it holds nothing but the target
        now: set[str] = set()
        for id_, step in sorted(program.steps.items()):
            for name, value in assigned(step.node):
                rows = roles.after[id_].get(name)
                if (
                    rows is not None
                    and rows.kind == "rows"
                    and self._rows_in(id_, value)
                    and self.is_truth(id_, value, now)
                ):
                    now.add(name)
                    self.names.setdefault(name, set()).add(id_)
                else:
                    now.discard(name)

    def only(self, step: int) -> bool:
        """Say whether a step makes nothing but the target's values."""
        made = assigned(self.program.steps[step].node)
        return bool(made) and all(step in self.names.get(name, set()) for name, _ in made)

    def takes_only(self, step: int, node: ast.expr) -> bool:
        """Say whether an expression is made of the target's values, and of no other rows."""
        return bool(self.columns_in(step, node)) and self.is_truth(step, node, set(self.names))

    def is_truth(self, step: int, node: ast.AST, names: set[str]) -> bool:
        """Say whether an expression is made of the target's values alone."""
        if isinstance(node, ast.expr) and self.is_column(step, node):
            return True
        if isinstance(node, ast.Name):
            return not self._is_rows(step, node.id) or node.id in names
        return all(self.is_truth(step, child, names) for child in ast.iter_child_nodes(node))

    def is_column(self, step: int, node: ast.expr) -> bool:
        """Say whether an expression is the target's column of a table."""
        base = _table_of(node)
        if base is None or not self._is_rows(step, base):
            return False
        if isinstance(node, ast.Call):
            return bool(node.args) and self._names_column(step, node.args[0])
        if isinstance(node, ast.Attribute):
            return node.attr == self.column
        assert isinstance(node, ast.Subscript)
        last = node.slice.elts[-1] if isinstance(node.slice, ast.Tuple) and node.slice.elts else node.slice
        if isinstance(last, ast.List) and len(last.elts) == 1:
            last = last.elts[0]
        if self._names_column(step, last):
            return True
        value = self.program.value(step, self.program.steps[step].cell, node)
        positional = isinstance(last, ast.UnaryOp | ast.Constant) and isinstance(node.slice, ast.Tuple)
        return positional and value is not None and (value.columns == [self.column] or self._last_of_array(step, node))

    def columns_in(self, step: int, node: ast.AST) -> list[ast.expr]:
        """Give the outermost expressions that are the target's column."""
        if isinstance(node, ast.expr) and self.is_column(step, node):
            return [node]
        return [found for child in ast.iter_child_nodes(node) for found in self.columns_in(step, child)]

    def given(self, step: int, value: ast.expr, target: str) -> str | None:
        """Write an expression with `target` in place of the table's column; None where it takes more than that."""
        columns = self.columns_in(step, value)
        code = self.program.code[self.program.steps[step].cell]
        text = code.edited(span_of(value), [Edit(span_of(c), self._like(step, c, target)) for c in columns])
        left = {n.id for n in ast.walk(ast.parse(text.strip(), mode="eval")) if isinstance(n, ast.Name)}
        if not columns or any(self._is_rows(step, name) and name not in self.names for name in left - {"target"}):
            return None
        return text

    def _like(self, step: int, node: ast.expr, target: str) -> str:
        """Write the given target as the kind of thing that the notebook had."""
        value = self.program.value(step, self.program.steps[step].cell, node)
        kind = value.kind if value is not None else ""
        return f"{target}.to_numpy()" if kind == "array" else f"{target}.to_frame()" if kind == "frame" else target

    def _names_column(self, step: int, node: ast.expr) -> bool:
        value = self.program.value(step, self.program.steps[step].cell, node)
        return value is not None and value.literal in (repr(self.column), repr([self.column]))

    def _last_of_array(self, step: int, node: ast.Subscript) -> bool:
        read = self.program.read
        columns = read.value.columns or []
        last = node.slice.elts[-1] if isinstance(node.slice, ast.Tuple) else node.slice
        try:
            place = ast.literal_eval(last)
        except ValueError:
            return False
        return isinstance(place, int) and -len(columns) <= place < len(columns) and columns[place] == self.column

    def _is_rows(self, step: int, name: str) -> bool:
        bound = self.roles.before[step].get(name)
        return bound is not None and bound.kind == "rows"

    def _rows_in(self, step: int, node: ast.AST) -> bool:
        return any(isinstance(n, ast.Name) and self._is_rows(step, n.id) for n in ast.walk(node))


def assigned(node: ast.stmt) -> list[tuple[str, ast.expr]]:
    """Give the names that a statement binds, each with its own value where that can be told."""
    if not isinstance(node, ast.Assign):
        return []
    found = []
    for target in node.targets:
        if isinstance(target, ast.Name):
            found.append((target.id, node.value))
        elif isinstance(target, ast.Tuple | ast.List):
            pairs = isinstance(node.value, ast.Tuple) and len(node.value.elts) == len(target.elts)
            values = node.value.elts if pairs and isinstance(node.value, ast.Tuple) else [node.value] * len(target.elts)
            found += [(t.id, v) for t, v in zip(target.elts, values, strict=True) if isinstance(t, ast.Name)]
    return found


def _table_of(node: ast.expr) -> str | None:
    """Give the name of the table of `df["y"]`, `df.y`, `df.loc[:, "y"]`, `df.pop("y")`."""
    if isinstance(node, ast.Call):
        inner = node.func
        popped = isinstance(inner, ast.Attribute) and inner.attr in ("pop", "get")
        return (
            inner.value.id
            if popped and isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name)
            else None
        )
    if isinstance(node, ast.Subscript):
        value = node.value
        if isinstance(value, ast.Attribute) and value.attr in ("loc", "iloc", "values"):
            value = value.value
        return value.id if isinstance(value, ast.Name) else None
    if isinstance(node, ast.Attribute):
        return node.value.id if isinstance(node.value, ast.Name) else None
    return None
