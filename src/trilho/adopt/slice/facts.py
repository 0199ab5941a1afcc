"""What the parts of a step's code are: rows, one value for many of them, or neither; the run has shown it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence

from trilho.adopt.scopes import bound, declared, parameters, root
from trilho.adopt.slice import calls
from trilho.adopt.slice.lambdas import as_function, held_lambdas, plain_name
from trilho.adopt.slice.leaving import left_out
from trilho.adopt.slice.roles import Roles
from trilho.adopt.slice.shared import Shared
from trilho.adopt.slice.text import Code, Edit, end_of, renamed, span_of
from trilho.adopt.trace import Span, Value

NOISE_CALLS = frozenset({"print", "display", "pprint"})
NOISE_ROOTS = frozenset({"plt", "sns", "px", "ax", "fig", "axes", "warnings"})
NOISE_METHODS = frozenset({"head", "tail", "info", "describe", "plot", "hist", "show", "boxplot", "value_counts"})
HANDLES = (
    "groupby",
    "rolling",
    "accessor",
    "properties",
    "stringmethods",
    "indexer",
    "expanding",
    "exponential",
    "resampler",
)
SCHEMA = frozenset({"columns", "dtypes", "dtype", "name", "ndim"})


class Facts:
    """What the parts of a step's code are."""

    def __init__(
        self, shared: Shared, step: int, cell: int, kinds: dict[str, str], *, function: ast.FunctionDef | None = None,
        aliases: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.shared, self.step, self.cell, self.kinds, self.function = shared, step, cell, dict(kinds), function
        self.code: Code = shared.program.code[cell]
        self.sizes = shared.roles.sizes(step)
        self.names = {**shared.renames, **(aliases or {})}
        self.loops: list[str] = []  # targets of the loops around
        self.changing: set[str] = set()  # names that those loops bind
        self.keys: list[str] = []  # a function's parameters that tell its calls apart
        self.learning = False  # inside code that is for training only
        self.edits: list[Edit] = []
        self.uses_state = False
        self.built = ""  # the estimator that was built in the line before, and is now built where it is fitted
        self.fresh: set[str] = set()  # functions that are given a state of their own here
        self.origin: tuple[Span, str] | None = None  # where the main table is read, and what stands for it

    @property
    def own(self) -> set[str]:
        """The names that are the function's own, whatever they mean outside."""
        if self.function is None:
            return set()
        return (set(parameters(self.function)) | set(bound(self.function.body))) - declared(self.function.body)

    def more(self, call: ast.Call, argument: str) -> str:
        """Give the text that adds an argument at the end of a call."""
        inner = self.code.at((*span_of(call.func)[2:], *span_of(call)[2:]))[:-1].rstrip()
        lead = "" if inner.endswith("(") else " " if inner.endswith(",") else ", "
        return f"{lead}{argument})"

    def text(self, node: ast.AST) -> str:
        """Give an expression's text with the edits that any code gets."""
        return self.code.edited(span_of(node), self.base(node))

    def text_with_edits(self, node: ast.AST) -> str:
        """Give an expression's text with all the edits that were made in it."""
        return self.code.edited(span_of(node), [*self.edits, *self.base(node)])

    def base(self, node: ast.AST) -> list[Edit]:
        """Give the edits that any code gets: names that were renamed, functions that take the state."""
        edits = renamed(node, {n: t for n, t in self.names.items() if n not in self.own})
        for part in ast.walk(node):
            if isinstance(part, ast.Call) and isinstance(part.func, ast.Name):
                if part.func.id in self.shared.program.definitions:
                    self.call_function(part, part.func.id)
                if part.func.id in self.shared.functions:
                    argument = calls.state_argument(self.shared.program, part)
                    if part.func.id in self.fresh:
                        argument = argument.replace("=state", "=State()") if "=" in argument else "State()"
                    edits.append(Edit(end_of(part), self.more(part, argument)))
                    self.uses_state = True
        edits += self._passed_functions(node)
        edits += left_out(node, self.cell, self.shared.left_out, self.code) if self.shared.left_out else []
        edits += self._named_lambdas(node)
        taken_out = self.shared.program.taken_out
        edits += [taken_out[self.cell, span_of(p)] for p in ast.walk(node) if (self.cell, span_of(p)) in taken_out]
        if self.origin is not None:
            edits.append(Edit(*self.origin))
        return edits

    def _named_lambdas(self, node: ast.AST) -> Iterator[Edit]:
        """A lambda that a fitted model holds becomes a function of its module: the model is pickled."""
        found = self.shared.lambdas
        if found is None:
            return
        for part, words in held_lambdas(node, self._ever, {*self.own, *self.names}):
            key = (self.cell, span_of(part))
            if key not in found:
                name = plain_name(words, {*self.shared.program.names, *(n for n, _ in found.values())})
                found[key] = name, as_function(name, part, self.code, self.text(part.body))
            yield Edit(span_of(part), found[key][0])

    def _ever(self, node: ast.expr) -> Value | None:
        """Give what an expression was worth in this step, or in the last one that evaluated it."""
        return self.value(node) or self.shared.program.last_value(self.cell, node)

    def _passed_functions(self, node: ast.AST) -> Iterator[Edit] | list[Edit]:
        """A function that takes the state and is handed on, as to `apply`, is wrapped."""
        called = {id(p.func) for p in ast.walk(node) if isinstance(p, ast.Call)}
        inner = [p for p in ast.walk(node) if isinstance(p, ast.Call) and p.args and calls.is_method(p, "pipe")]
        piped = {id(p.args[0]): p for p in inner}
        found = []
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and id(part) not in called and isinstance(part.ctx, ast.Load):
                if part.id in self.shared.program.definitions and part.id not in self.own:
                    self.shared.rewrite(self.shared, part.id, self.step, self.kinds)
                if part.id in self.shared.functions:
                    self.uses_state = True
                    name = self.shared.renames.get(part.id, part.id)
                    if id(part) in piped:
                        found.append(Edit(end_of(piped[id(part)]), self.more(piped[id(part)], "state=state")))
                        continue
                    found.append(Edit(span_of(part), f"lambda *args: {name}(*args, state=state)"))
        return found

    def call_function(self, node: ast.Call, name: str) -> None:
        """Rewrite the notebook's own function as it was called here, and hand it the state where it wants it."""
        self.shared.rewrite(self.shared, name, self.step, self.kinds)
        if name in self.shared.functions:
            self.shared.per_call.setdefault(name, set()).add(self.step)

    @property
    def roles(self) -> Roles:
        """The run's names and rows."""
        return self.shared.roles

    def value(self, node: ast.expr) -> Value | None:
        """Give what an expression was worth in this step."""
        return self.shared.program.value(self.step, self.cell, node)

    def depends(self, node: ast.AST) -> bool:
        """Say whether an expression is made of rows."""
        hidden = {
            n.id for part in ast.walk(node) if isinstance(part, ast.comprehension)
            for n in ast.walk(part.target) if isinstance(n, ast.Name)
        }  # fmt: skip
        for part in ast.walk(node):
            if self.origin is not None and span_of(part) == self.origin[0]:
                return True
            name = part.id if isinstance(part, ast.Name) else ""
            series = self.shared.names.series & set(self.kinds)
            if name and name not in hidden and (self.kinds.get(name) == "rows" or name in series):
                return True
        return False

    def follows_rows(self, node: ast.expr) -> bool:
        """Say whether an expression was worth one item for each row."""
        value = self.value(node)
        if value is not None and self.labels_rows(node, value):
            return True
        return self.roles.is_rows(value, self.sizes) and not calls.summarises(node, value)

    def labels_rows(self, node: ast.expr, value: Value) -> bool:
        """Say whether an expression is made of a table's row labels, one by one: `df.index.hour`."""
        part: ast.expr = node
        while isinstance(part, ast.Call | ast.Attribute | ast.BinOp):
            if isinstance(part, ast.Attribute) and part.attr == "index":
                table = self.value(part.value)
                named = isinstance(part.value, ast.Name) and self.kinds.get(part.value.id) == "rows"
                return named and table is not None and table.rows == value.rows
            part = part.func if isinstance(part, ast.Call) else part.left if isinstance(part, ast.BinOp) else part.value
        return False

    def holds_rows(self, node: ast.expr) -> bool:
        """Say whether an expression is a container of what has one item for each row."""
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            return any(self.depends(e) for e in node.elts)
        if isinstance(node, ast.ListComp | ast.GeneratorExp | ast.DictComp):
            inner = node.value if isinstance(node, ast.DictComp) else node.elt
            return self.roles.is_rows(self.value(inner), self.sizes)
        if isinstance(node, ast.Dict):
            return any(self.roles.is_rows(self.value(v), self.sizes) for v in node.values)
        return isinstance(node, ast.Starred | ast.Slice)

    def is_handle(self, node: ast.expr) -> bool:
        """Say whether an expression gives access to rows, and is nothing by itself: `df.str`, `df.groupby(k)`."""
        value = self.value(node)
        return value is not None and value.kind == "other" and any(word in value.type.lower() for word in HANDLES)

    def is_schema(self, node: ast.AST) -> bool:
        """Say whether an expression looks only at columns and their types, which are the same in serving."""
        if isinstance(node, ast.Attribute) and node.attr in SCHEMA:
            return True
        if isinstance(node, ast.Name):
            return self.kinds.get(node.id) != "rows"
        return all(self.is_schema(child) for child in ast.iter_child_nodes(node))

    def is_filter_op(self, node: ast.expr) -> bool:
        """Say whether one operation drops rows or changes their order."""
        if not self.depends(node):
            return False
        if isinstance(node, ast.Call):
            return calls.is_filter_call(node, self.value)
        if isinstance(node, ast.Subscript):
            inner = calls.row_selector(node)
            if inner is None:
                return False
            if isinstance(inner, ast.Slice):
                return self._shrinks(node)
            value = self.value(inner)
            return value is not None and (
                ((bool(value.dtypes) and value.dtypes == ["bool"]) or value.dtypes == ["boolean"])
                or self._shrinks(node)
            )
        return False

    def _shrinks(self, node: ast.Subscript) -> bool:
        base = (
            node.value.value
            if isinstance(node.value, ast.Attribute) and node.value.attr in ("loc", "iloc")
            else node.value
        )
        before, after = self.value(base), self.value(node)
        return (
            before is not None and after is not None and before.kind == after.kind == "frame"
            and (after.rows or 0) < (before.rows or 0)
        )  # fmt: skip

    def is_filter(self, node: ast.expr) -> bool:
        """Say whether an expression is rows with some dropped, or in another order."""
        value = self.value(node)
        if value is None or value.kind not in ("frame", "series", "none"):
            return False
        if value.kind != "none" and not self.roles.is_rows(value, self.sizes | {value.rows or 0}):
            return False
        if calls.summarises(node, value):
            return False
        inner_value = self.value(calls.unfiltered(node, self.is_filter_op))
        if inner_value is not None and inner_value.kind == "series" and not self.roles.is_rows(inner_value, self.sizes):
            return False
        return calls.outermost_filter(node, self.is_filter_op) is not None

    def is_noise(self, node: ast.stmt) -> bool:
        """Say whether a statement only shows something."""
        if not isinstance(node, ast.Expr):
            return False
        call = node.value
        if isinstance(call, ast.Name | ast.Attribute | ast.Subscript):
            return True
        if isinstance(call, ast.Constant):
            return not (self.function is not None and self.function.body and self.function.body[0] is node)
        if not isinstance(call, ast.Call):
            return isinstance(call, ast.Tuple)
        if isinstance(call.func, ast.Name):
            return call.func.id in NOISE_CALLS
        name = root(call.func)
        return name in NOISE_ROOTS or (isinstance(call.func, ast.Attribute) and call.func.attr in NOISE_METHODS)

    def is_global(self, name: str) -> bool:
        """Say whether a function declares a name global."""
        return self.function is not None and name in declared(self.function.body)

    def only_target(self, targets: Iterable[ast.expr]) -> bool:
        """Say whether an assignment is to the target's column alone."""
        return all(calls.column_of(target) in {self.shared.target, *self.shared.targets} - {""} for target in targets)

    def from_target(self, targets: Sequence[ast.expr], value: ast.expr) -> bool:
        """Say whether a column is made of the target's values alone; then it is no more there than the target is."""
        names = [calls.column_of(target) for target in targets if isinstance(target, ast.Subscript)]
        if not all(names) or not names or len(names) < len(targets) or not self.shared.truth(self.step, value):
            return False
        self.shared.targets |= {name for name in names if name}
        return True

    def pops_target(self, node: ast.expr) -> bool:
        """Say whether an expression takes the target out of its table."""
        return calls.is_method(node, "pop") and self.mentions_target(node)

    def drops_target(self, node: ast.Call) -> bool:
        """Say whether a call drops the target's column, and would fail without it."""
        if calls.keyword(node, "errors") is not None:
            return False
        for argument in [*node.args, *(k.value for k in node.keywords)]:
            value = self.value(argument)
            wanted = {self.shared.target, *self.shared.targets}
            if self.mentions_target(argument) or (
                value is not None and any(repr(t) in (value.literal or "") for t in wanted)
            ):
                return True
        return False

    def without_target(self, node: ast.AST) -> list[Edit]:
        """Let `drop` and a choice of columns pass over the target's column, which is not there in serving."""
        drops = [n for n in ast.walk(node) if isinstance(n, ast.Call) and calls.is_method(n, "drop")]
        picks = [n for n in ast.walk(node) if isinstance(n, ast.Subscript) and self.picks_target(n)]
        edits = [Edit(end_of(n), self.more(n, 'errors="ignore"')) for n in drops if self.drops_target(n)]
        return [*edits, *map(self.pick_known, picks)]

    def picks_target(self, node: ast.Subscript) -> bool:
        """Say whether columns are chosen by a list that has the target's among others: `df[["age", "churn"]]`."""
        before, after, chosen = self.value(node.value), self.value(node), self.value(node.slice)
        if not isinstance(node.ctx, ast.Load) or after is None or after.kind != "frame" or len(after.columns or []) < 2:
            return False
        listed = isinstance(node.slice, ast.List) or (chosen is not None and chosen.kind == "sequence")
        same = before is None or before.rows == after.rows
        return listed and same and self.shared.target in (after.columns or [])

    def pick_known(self, node: ast.Subscript) -> Edit:
        """Write the choice of those columns that are there."""
        return Edit((*span_of(node.value)[2:], *span_of(node)[2:]), f".filter(items={self.text(node.slice)})")

    def where_chosen(self, node: ast.AST) -> list[Edit]:
        """Pass over `df.loc[mask, c] = df.loc[mask, d].map(m)` where no row is chosen: what is mapped has no type."""
        found = []
        for part in ast.walk(node):
            mask = calls.mask_assigned(part)
            value = self.value(mask) if mask is not None else None
            if mask is not None and value is not None and value.dtypes == ["bool"]:
                at, text = span_of(part)[:2], self.text(mask)
                text = text if isinstance(mask, ast.Name | ast.Call | ast.Subscript) else f"({text})"
                found.append(Edit((*at, *at), f"if {text}.any():\n{' ' * (at[1] + 4)}"))
        return found

    def mentions_target(self, node: ast.AST) -> bool:
        """Say whether code names the target's column, or one that is made of it."""
        wanted = {self.shared.target, *self.shared.targets}
        for part in ast.walk(node):
            if isinstance(part, ast.Constant) and part.value in wanted:
                return True
            if isinstance(part, ast.Attribute) and part.attr in wanted:
                return True
            if isinstance(part, ast.Call) and any(name in calls.words_asked(part) for name in wanted):
                return True
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load) and part.id not in self.loops:
                value = self.value(part)
                if value is not None and value.kind == "text" and value.literal == repr(self.shared.target):
                    return True
        return False

    def kind_of(self, node: ast.expr) -> str:
        """Say what an expression stands for by the names in it."""
        used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        return "state" if any(self.kinds.get(name) == "state" for name in used) else "constant"

    def bind(self, target: ast.expr, kind: str) -> None:
        """Note what the names of a target stand for from now on."""
        if isinstance(target, ast.Name):
            self.kinds[target.id] = kind
        elif isinstance(target, ast.Tuple | ast.List):
            for part in target.elts:
                self.bind(part, kind)
