"""`fit` and `predict` of a model whose rows are its own input: the notebook's statements that make and fit it.

What they read besides the input is followed back. What comes of nothing but the input and constants is computed in
`fit` as the notebook did; a number or list that a run computed of other rows is written as it was; rows that only stop
the fit early are the table's last ones.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from trilho.adopt.plan import Function, Part
from trilho.adopt.slice.live import Ask
from trilho.adopt.slice.program import SIMPLE, Program, Step
from trilho.adopt.slice.replay import Replay
from trilho.adopt.slice.text import Edit, span_of
from trilho.adopt.trace import Fit, Value
from trilho.errors import TrilhoError

FRAME, SERIES = "pd.DataFrame", "pd.Series"
ROWS = ("frame", "series", "array", "sparse")
INVERSES = {"log1p": "np.expm1({})", "log": "np.exp({})", "log10": "10.0 ** {}", "log2": "np.exp2({})",
            "sqrt": "np.square({})"}  # fmt: skip
PLAIN = ("sklearn", "xgboost", "lightgbm", "catboost", "imblearn")


@dataclass
class _Found:
    """The steps that `fit` is made of, the values that it takes over, and the rows that it needs besides."""

    ids: set[int] = field(default_factory=set)
    values: dict[str, str] = field(default_factory=dict)  # name -> its literal
    beside: dict[str, tuple[Step, ast.expr, Value]] = field(default_factory=dict)  # source -> where


class Fitting:
    """The functions that fit and ask the shipped model."""

    def __init__(self, replay: Replay, fit: Fit, X: Ask, y: Ask) -> None:
        self.replay, self.fit, self.X, self.y = replay, fit, X, y
        self.program: Program = replay.program
        self.choice = self.program.choice
        self.top = self.program.steps[fit.statement]
        self.found = _Found()
        self._lambdas: dict[str, Part] = {}
        self._own = [(ast.dump(_parsed(given.source)), name) for given, name in ((X, "X"), (y, "y")) if given.source]
        self._follow()
        self.sides = self._sides()

    @property
    def type(self) -> str:
        """Give the class of what is fitted, as its code names it."""
        seen = next((o.type for o in self.program.trace.objects if o.id == self.choice.shipped), "object")
        return self.replay.new(seen.removeprefix("__main__."))

    @property
    def lifted(self) -> list[Part]:
        """Give the functions that stand above fit: a model that holds a lambda cannot be kept as a pickle."""
        return list(self._lambdas.values())

    @property
    def beside(self) -> tuple[str, str] | None:
        """Give the input and the true values of the rows that only stop the fit, as load has them."""
        if self.sides is None:
            return None
        X, y = ((step, node) for step, node, _ in self.sides)
        return self.replay.expression(*X), self.replay.expression(*y)

    @property
    def beside_names(self) -> frozenset[str]:
        """Give the names that those are made of."""
        nodes = [node for _, node, _ in self.sides or ()]
        return frozenset(n.id for node in nodes for n in ast.walk(node) if isinstance(n, ast.Name)) & self.program.names

    def functions(self) -> tuple[tuple[Function, ...], Function | None]:
        """Write fit, and predict where more is asked than the model itself."""
        ids = sorted(self.found.ids)
        parts = [self._line(line) for line in self._given()]
        parts += [self._line(f"{self.replay.new(n)} = {text}  # as the notebook's run had it")
                  for n, text in sorted(self.found.values.items())]  # fmt: skip
        parts += [part for i in ids for part in [self._part(i)] if part.source.strip()]
        name = self.replay.new(self.choice.shipped_name)
        parts += [self.replay.part(i) for i in self._after(ids)]
        own = self._needs_model()
        learnt = ", categories" if self._categories() else ""
        returns = f"Model({name}{learnt})" if own else name
        fit = Function("fit", (("X", FRAME), ("y", SERIES)), returns, "Model" if own else "object", tuple(parts))
        return (fit,), self._predict() if own else None

    def _line(self, text: str) -> Part:
        return Part(text, self.top.cell, self.top.node.lineno, -1)

    def _part(self, id_: int) -> Part:
        step = self.program.steps[id_]
        edits = [*self._edits(step), *self._held(step)]
        return self.replay.part(id_, edits)

    def _edits(self, step: Step) -> Iterator[Edit]:
        """Put the function's parameters where a step has the model's input."""
        named = [*self._own]
        if getattr(self, "sides", None):
            named += [
                (ast.dump(node), name) for (_, node, _), name in zip(self.sides or (), ("X_val", "y_val"), strict=True)
            ]
        for node in ast.walk(step.node):
            if isinstance(node, ast.expr) and not isinstance(getattr(node, "ctx", None), ast.Store):
                found = next((name for dump, name in named if ast.dump(node) == dump), None)
                if found is not None:
                    yield Edit(span_of(node), found)

    def _held(self, step: Step) -> Iterator[Edit]:
        """Put named functions in place of the lambdas that an object of the model is made with."""
        for call in ast.walk(step.node):
            if not isinstance(call, ast.Call) or not _last(call.func)[:1].isupper():
                continue
            for node in [*call.args, *(k.value for k in call.keywords)]:
                if isinstance(node, ast.Lambda):
                    code = self.replay.expression(step, node.body)
                    given = ast.unparse(node.args)
                    name = self._name_of_lambda(f"{given}: {code}")
                    text = f"def {name}({given}):\n    return {code}"
                    self._lambdas[f"{given}: {code}"] = Part(text, step.cell, node.lineno, step.id)
                    yield Edit(span_of(node), name)

    def _name_of_lambda(self, key: str) -> str:
        if key in self._lambdas:
            return self._lambdas[key].source.removeprefix("def ").partition("(")[0]
        names = (f"transform{'' if number == 1 else number}" for number in range(1, 1000))
        taken = self.program.names | {self._name_of_lambda(known) for known in self._lambdas}
        return next(name for name in names if name not in taken)

    def _names_of(self, step: Step) -> set[str]:
        """Give the notebook's names that a step reads once the input is the function's own."""
        text = self.replay.text(step, list(self._edits(step)))
        read = {
            n.id
            for n in ast.walk(_parsed(text, "exec"))
            if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Store)
        }
        if not self.replay.is_work(step.id):
            return self.replay.needs(step.id)
        touched = {n for name in self.program.names if self.replay.new(name) in read for n in self._touched(name)}
        return {n for n in step.reads | step.mutates if self.replay.new(n) in read} | touched

    def _touched(self, name: str) -> set[str]:
        effects = self.program.effects.get(name)
        return set(effects.reads | effects.mutates) if effects is not None else set()

    def _follow(self) -> None:
        self.found.ids.add(self.top.id)
        for id_ in self._seeds():
            self.found.ids.add(id_)
        for name in sorted(self._names_of(self.top)):
            self._resolve(name, self.top.id, self.top)
        for fit in self.program.fits_before(self.top.id):
            self._include(self.program.steps[fit.statement])

    def _seeds(self) -> list[int]:
        return [i for i in self.program.steps if i < self.top.id and self.replay.is_seed(i)][-1:]

    def _include(self, step: Step) -> None:
        if step.id in self.found.ids:
            return
        self.found.ids.add(step.id)
        for name in sorted(self._names_of(step)):
            self._resolve(name, step.id, step)
        for fit in self.program.fits_before(step.id):
            self._include(self.program.steps[fit.statement])

    def _resolve(self, name: str, before: int, reader: Step) -> None:
        """Follow a name back: to code of the input alone, to a value, or to rows that stop the fit."""
        makers = self._makers(name, before)
        makers = [i for i in makers if i not in self.replay.lifted and not self._is_import(i)]
        if not makers:
            return
        value = self._value(name, before)
        if self._is_foreign(name, before, set()):
            literal = value.literal if value is not None else None
            if literal is not None and _is_code(literal):
                self.found.values[name] = literal
                return
            if value is not None and value.kind in ROWS:
                self._beside(name, reader)
                return
            if any(self.replay.reads_rows(i) for i in makers):
                raise self._refusal(name, self.program.steps[makers[0]])
        for id_ in makers:
            self._include(self.program.steps[id_])

    def _is_import(self, id_: int) -> bool:
        return isinstance(self.program.steps[id_].node, ast.Import | ast.ImportFrom)

    def _makers(self, name: str, before: int) -> list[int]:
        """Give the steps that make a name, back to the one that binds it anew."""
        found = []
        for id_ in sorted((i for i in self.program.steps if i < before), reverse=True):
            step = self.program.steps[id_]
            if name in step.defines:
                found.append(id_)
                if name in step.writes and isinstance(step.node, SIMPLE) and name not in self._names_of(step):
                    break
        return found[::-1]

    def _is_foreign(self, name: str, before: int, seen: set[tuple[str, int]]) -> bool:
        """Say whether a name is made of a table that was read, by another way than the model's input."""
        if (name, before) in seen:
            return False
        seen.add((name, before))
        for id_ in self._makers(name, before):
            step = self.program.steps[id_]
            if self.replay.reads_rows(id_):
                return True
            if not self.replay.is_work(id_):
                continue
            if any(self._is_foreign(n, id_, seen) for n in self._names_of(step)):
                return True
        return False

    def _value(self, name: str, before: int) -> Value | None:
        for id_ in sorted((i for i in self.program.steps if i < before), reverse=True):
            seen = self.program.steps[id_].did.values.get(name)
            if seen is not None:
                return seen
        return None

    def _beside(self, name: str, reader: Step) -> None:
        """Find the expressions that take rows by a name, as wide as they are rows."""
        parents = {id(child): parent for parent in ast.walk(reader.node) for child in ast.iter_child_nodes(parent)}
        covered = [span_of(n) for n in ast.walk(reader.node) for e in self._edits(reader) if span_of(n) == e.span]
        for node in ast.walk(reader.node):
            if not (isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)):
                continue
            if any(at[:2] <= span_of(node)[:2] and span_of(node)[2:] <= at[2:] for at in covered):
                continue
            best: ast.expr = node
            value = self._value(name, reader.id)
            part: ast.AST | None = parents.get(id(node))
            while isinstance(part, ast.Subscript | ast.Attribute | ast.Call):
                seen = self.program.value(reader.id, reader.cell, part)
                wrapped = isinstance(part, ast.Call) and not isinstance(part.func, ast.Attribute)
                if seen is not None and seen.kind in ROWS and not wrapped:
                    best, value = part, seen
                part = parents.get(id(part))
            if value is None or value.kind not in ROWS:
                raise self._refusal(name, reader)
            self.found.beside.setdefault(ast.dump(best), (reader, best, value))

    def _sides(self) -> tuple[tuple[Step, ast.expr, Value], tuple[Step, ast.expr, Value]] | None:
        """Give the input and the true values of the rows that stop the fit."""
        found = list(self.found.beside.values())
        if not found:
            return None
        wide = [one for one in found if one[2].kind in ("frame", "sparse")]
        thin = [one for one in found if one[2].kind == "series"]
        unsure = [one for one in found if one[2].kind == "array"]
        wide, unsure = (wide, unsure) if wide or not unsure else (unsure[:1], unsure[1:])
        thin += unsure
        if len(wide) != 1 or len(thin) != 1 or wide[0][2].rows != thin[0][2].rows:
            step, node, _ = found[0]
            raise self._refusal(ast.unparse(node), step)
        return wide[0], thin[0]

    def _given(self) -> list[str]:
        """Write how the input becomes what the notebook's was."""
        target, value = self.choice.target, self.fit.X.value if self.fit.X is not None else None
        lines = []
        if self._categories():
            lines += [f"categories = {{name: pd.CategoricalDtype(sorted(X[name].dropna().unique())) "
                      f"for name in {self._categories()!r}}}", "X = X.astype(categories)"]  # fmt: skip
        if target.positive in ("True", "False"):
            lines.append("y = y == 1" if target.positive == "True" else "y = y == 0")
        elif target.positive:
            lines.append(f"y = pd.Series(np.where(y == 1, {target.positive}, {target.negative}), index=y.index)")
        elif target.transform and self.fit.y is not None:
            lines.append(f"y = {target.transform}(y)")
        if self.sides is not None:
            stop, every = self.fit.X.value.rows if self.fit.X else 0, 0
            every = (stop or 0) + (self.sides[0][2].rows or 0)
            lines += [f"stop = len(X) * {stop} // {every}  # the last rows only say when to stop",
                      "X, X_val, y, y_val = X[:stop], X[stop:], y[:stop], y[stop:]"]  # fmt: skip
        if self.fit.y is None:
            lines.append(f"X = X.assign(**{{{target.column!r}: y}})")
        lines += [f"X = {self._shaped('X', value)}"] if self._shaped("X", value) != "X" else []
        if self.sides is not None and self._shaped("X_val", value) != "X_val":
            lines.append(f"X_val = {self._shaped('X_val', value)}")
        if self.fit.y is not None and self.fit.y.value.kind == "array":
            lines.append("y = y.to_numpy()")
            lines += ["y_val = y_val.to_numpy()"] if self.sides is not None else []
        return lines

    def _shaped(self, name: str, value: Value | None) -> str:
        if value is None:
            return name
        if value.kind == "array":
            return f"{name}.to_numpy()"
        if value.kind == "sparse":
            return f"csr_matrix({name}.to_numpy())"
        return f"{name}.iloc[:, 0]" if value.kind == "series" else name

    def _categories(self) -> list[str]:
        value = self.fit.X.value if self.fit.X is not None else None
        if value is None or value.kind != "frame":
            return []
        return [n for n, kind in zip(value.columns or [], value.dtypes or [], strict=False) if kind == "category"]

    def _after(self, ids: Sequence[int]) -> list[int]:
        name = self.choice.shipped_name
        if any(name in self.program.steps[i].defines for i in [*ids, self.top.id]):
            return []
        return [i for i, s in self.program.steps.items() if i > self.top.id and name in s.writes][:1]

    def _needs_model(self) -> bool:
        """Say whether rows must become something else before the model is asked, or its answer afterwards."""
        value = self.fit.X.value if self.fit.X is not None else None
        target = self.choice.target
        booster = self.type.endswith("Booster")
        plain = self.type.partition(".")[0] in PLAIN and not booster
        method = self._method()
        fits = method == ("predict_proba" if self.choice.task == "classification" else "predict")
        return bool(
            not plain or not fits or value is None or value.kind != "frame" or self._categories() or target.positive
            or target.transform
        )  # fmt: skip

    def _method(self) -> str:
        there = {g.method for g in self.program.trace.golden if g.object == self.choice.shipped}
        order = ("predict_proba", "predict") if self.choice.task == "classification" else ("predict",)
        return next((method for method in order if method in there), "predict")

    def _predict(self) -> Function:
        name, target = self.replay.new(self.choice.shipped_name), self.choice.target
        value = self.fit.X.value if self.fit.X is not None else None
        rows = "rows.astype(categories)" if self._categories() else self._shaped("rows", value)
        if "xgboost" in self.type and self.type.endswith("Booster"):
            rows = f"{self._module('xgboost')}.DMatrix({rows})"
        answer = f"{name}.{self._method()}({rows})"
        if self.choice.task == "classification":
            if self._method() == "predict_proba":
                answer += f"[:, {self._class()}]"
            elif target.positive:
                answer = f"({answer} == {target.positive}).astype(float)"
        else:
            inverse = INVERSES.get(target.transform.rpartition(".")[2]) if target.transform else None
            answer = inverse.format(answer) if inverse else answer
        kind = self.type if self.type.isidentifier() else "object"
        fields = [(name, kind), *([("categories", "dict[str, pd.CategoricalDtype]")] if self._categories() else [])]
        return Function("predict", (*fields, ("rows", FRAME)), f"np.asarray({answer})", "np.ndarray", ())

    def _class(self) -> int:
        seen = next((o for o in self.program.trace.objects if o.id == self.choice.shipped), None)
        classes = seen.classes if seen is not None and seen.classes else []
        return classes.index(self.choice.target.positive) if self.choice.target.positive in classes else 1

    def _module(self, name: str) -> str:
        for step in self.program.steps.values():
            if isinstance(step.node, ast.Import):
                for alias in step.node.names:
                    if alias.name == name:
                        return alias.asname or name
        return name

    def _refusal(self, name: str, step: Step) -> TrilhoError:
        return TrilhoError(
            f"{self.program.notebook.path.name}: cell {self.fit.cell} fits {self.choice.shipped_name}, "
            f"and {name} in cell {step.cell} gives it other rows than its input",
            hint="fit to one table of features and one column of true values: model.fit(X, y)",
        )


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _is_code(literal: str) -> bool:
    try:
        ast.parse(literal, mode="eval")
    except SyntaxError:
        return False
    return len(literal) < 2000 and "nan" not in literal and "<" not in literal


def _parsed(source: str, mode: str = "eval") -> ast.AST:
    try:
        found = ast.parse(source, mode=mode)
    except SyntaxError:
        return ast.Constant(None)
    return found.body if isinstance(found, ast.Expression) else found
