"""What is known of one project before its functions are written: live steps, the target, what serving reads."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from trilho.adopt.plan import Lookup, Part
from trilho.adopt.slice import calls
from trilho.adopt.slice.clear import clear_names, own_names
from trilho.adopt.slice.frozen import Frozen, freeze
from trilho.adopt.slice.functions import rewrite_function
from trilho.adopt.slice.halves import read_halves
from trilho.adopt.slice.labels import Labels, find_labels
from trilho.adopt.slice.learn import Learner
from trilho.adopt.slice.live import Live
from trilho.adopt.slice.naming import StateNames
from trilho.adopt.slice.program import Program, Step
from trilho.adopt.slice.reading import (
    after_read,
    does_more,
    place_of_read,
    rest_of_read,
)
from trilho.adopt.slice.roles import Roles
from trilho.adopt.slice.scoring import find_score
from trilho.adopt.slice.shared import Shared
from trilho.adopt.slice.text import Code, Edit, comments_above, end_comment, finished, span_of
from trilho.adopt.slice.truth import assigned

FRAME, SERIES = "pd.DataFrame", "pd.Series"


@dataclass(frozen=True)
class Text:
    """A step's rewritten source, and whether it depends on what was learnt."""

    step: Step
    source: str
    learns: bool = False
    filters: bool = False


class Ground:
    """What all of a project's functions are written from."""

    def __init__(self, program: Program, roles: Roles, live: Live, package: str) -> None:
        self.program, self.roles, self.live, self.package = program, roles, live, package
        self.choice = program.choice
        self.column = self.choice.target.column
        self.truth = live.truth
        self.renames = clear_names(program)
        self._texts: list[Text] = []
        self.renamed_by_rule = False
        self.labels = self._find_labels()
        self.shared = self._new_shared(joined=True)
        self.score = find_score(live)
        self.frozen_names = StateNames()
        self.frozen = self._freeze()
        models = {*self._estimators(), *self.aliases}
        self.learnt = [
            n
            for n in dict.fromkeys([*live.learnt, *self.score.learnt])
            if n not in models and not self._is_training_rows(n)
        ]
        self.own = own_names(program)
        self.lookups: list[Lookup] = []
        self.form = "model"
        self.state = False  # whether anything is learnt that serving reads
        self.learnt_in_build = False
        self.prepared = ""  # the table that the target and the features are both taken from
        self.prepare = self.build = "{}"  # how they are called with a table
        self.same: dict[str, str] = {}  # names of the test side, and what each is where nothing is split
        self.calls: dict[str, tuple[list[str], list[str], bool]] = {}  # functions: what they take, give, and the state
        self.cut = 0
        self.cleaning: list[Part] = []
        self.given = self._given_text()

    def _find_labels(self) -> Labels:
        """Find what load does for the target; columns that a rule renames keep their names in load then."""
        naming = self._naming()
        listed = [
            n
            for i in naming
            for n in ast.walk(self.program.steps[i].node)
            if (isinstance(n, ast.Assign) and isinstance(n.value, ast.List | ast.Tuple)) or (
                isinstance(n, ast.Call) and calls.is_method(n, "set_axis"))
        ]  # fmt: skip
        if naming and not listed:
            found = find_labels(self.program, self.live, self.frame, [])
            if found.left_out:
                self.renamed_by_rule = True
                return found
        return find_labels(self.program, self.live, self.frame, naming)

    def _freeze(self) -> list[Frozen]:
        """Find what serving reads of the training rows."""
        found: list[Frozen] = []
        ask = self.live.asked_input if self.live.served and self.live.asked_input is not None else None
        places: list[tuple[int, ast.AST]] = [
            (i, self.program.steps[i].node)
            for i in [*self.live.served, *self.score.steps]
            if i not in self.live.splits and not self.truth.only(i)
        ]
        if ask is not None and ask.node is not None and self.live.asked is not None:
            places.append((self.live.asked.statement, ask.node))
        for id_, node in places:
            step = self.program.steps[id_]
            loops = isinstance(node, ast.For) and isinstance(node.iter, ast.List | ast.Tuple)
            if not loops:
                made = assigned(step.node) if node is step.node else []
                own: list[ast.AST] = [v for n, v in made if not self._is_truth(step, n) and self._is_of_test(step, n)]
                for part in own if made else [node]:
                    found += freeze(self.roles, step, part, self.frozen_names)
        return found

    def _is_of_test(self, step: Step, name: str) -> bool:
        bound = self.roles.after[step.id].get(name)
        return bound is not None and bound.side == "test"

    def _is_training_rows(self, name: str) -> bool:
        last = max(self.program.steps)
        bound = next(
            (b for b in (self.roles.before[self._asked_at_most()].get(name), self.roles.after[last].get(name)) if b),
            None,
        )
        return bound is not None and bound.kind == "rows"

    def _asked_at_most(self) -> int:
        return self.live.asked.statement if self.live.asked is not None else self.live.fit.statement

    def _new_shared(self, *, joined: bool) -> Shared:
        def only_truth(step: int, node: ast.expr) -> bool:
            return self.truth.takes_only(step, node)

        return Shared(
            self.roles,
            self.column,
            joined=joined,
            renames=self.renames,
            rewrite=rewrite_function,
            transforming=self._transforming(),
            truth=only_truth,
            targets={self.labels.gone} - {""},
            left_out=self.labels.left_out,
            lags=bool(self.choice.lags),
            lambdas={},
        )

    def _transforming(self) -> set[str]:
        """Give the notebook functions on the way from raw rows to the model's input, and those that they call."""
        steps = [i for i in [*self.live.shared, *self.live.served] if i not in self.live.splits]
        names = {n for i in steps for n in self.program.steps[i].reads} & set(self.program.definitions)
        while True:
            more = {
                n for name in names for n in self.program.effects[name].reads if n in self.program.definitions
            } - names
            if not more:
                return names
            names |= more

    def _given_text(self) -> str:
        """Write the target's values as the notebook had them: 0 and 1 are words again where they were."""
        target = self.choice.target
        if target.positive and target.positive not in ("1", "True", "1.0"):
            return f"target.map({{1: {target.positive}, 0: {target.negative}}})"
        return "target"

    @property
    def derives(self) -> bool:
        """Whether load derives the target."""
        return not self.choice.target.raw and not self.choice.target.transform

    @property
    def frame(self) -> str:
        """The name of the raw table."""
        return self.renames.get(self.live.frame, self.live.frame)

    @property
    def filters(self) -> bool:
        """Whether training drops rows, or sorts them."""
        return bool(self.cleaning) or any(t.filters for t in self._texts)

    def _work(self) -> list[int]:
        """Give the shared steps that do something to the rows, or that those read."""
        inits = self._inits()
        skip = set(self.choice.target.statements) if self.derives else set()
        work = [
            i
            for i in self.live.shared
            if self.live.kind(i) in ("rows", "table", "read")
            and i not in skip
            and i not in self._complete_cases()
            and i not in self._naming()
        ]
        doing = [i for i in work if i != self.live.read or rest_of_read(self.program, self.live.frame)]
        needed, kept = {n for i in doing for n in self.program.steps[i].reads}, set[int]()
        for id_ in reversed(self.live.shared):
            step = self.program.steps[id_]
            replaced = id_ < self.live.read and step.defines <= self.program.steps[self.live.read].writes
            if self.live.kind(id_) == "constant" and id_ not in inits and step.defines & needed and not replaced:
                kept.add(id_)
                needed |= step.reads
        return sorted({*work, *kept})

    def _naming(self) -> list[int]:
        """Give the steps at the beginning that rename columns, where the target is not yet one of those."""
        columns = self.program.read.value.columns
        if not self.choice.target.raw or columns is None or self.column in columns or self.renamed_by_rule:
            return []
        found = []
        for id_ in self.live.shared:
            if self.live.kind(id_) != "rows":
                continue
            found.append(id_)
            value = self.program.steps[id_].did.values.get(self.live.frame)
            same = value is not None and value.rows == self.program.read.value.rows
            if not same or value is None or len(value.columns or []) != len(columns):
                return []
            if self.column in (value.columns or []):
                return found
        return []

    def _complete_cases(self) -> list[int]:
        """Give the steps at the beginning that only drop rows without the target: load does that."""
        found = []
        naming = self._naming()
        for id_ in self.live.shared:
            if self.live.kind(id_) in ("rows",) and id_ not in naming:
                if (
                    self.choice.target.raw
                    and not self.choice.target.positive
                    and self._drops_unknown(self.program.steps[id_].node)
                ):
                    found.append(id_)
                else:
                    break
        return found

    def _drops_unknown(self, node: ast.stmt) -> bool:
        """Say whether a statement is `df = df[df.y.notna()]` or `df = df.dropna(subset=["y"])`."""
        if (
            not (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name))
            or node.targets[0].id != self.live.frame
        ):
            return False
        value, frame = node.value, self.live.frame
        while calls.is_neutral(value) and isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
            if value.func.attr != "copy":
                return False
            value = value.func.value
        if calls.is_method(value, "dropna") and isinstance(value, ast.Call):
            subset = calls.keyword(value, "subset")
            named = [n.value for n in ast.walk(subset) if isinstance(n, ast.Constant)] if subset is not None else []
            return named == [self.column] and ast.unparse(value.func) == f"{frame}.dropna"
        text = ast.unparse(value)
        names = (f"{frame}.{self.column}", f"{frame}[{self.column!r}]")
        return text in {f"{frame}[{name}.{word}()]" for name in names for word in ("notna", "notnull")}

    def _inits(self) -> set[int]:
        """Give the steps that begin a global in which functions keep what they learn."""
        found = set()
        for id_ in {*self.live.training, *self.live.shared}:
            step = self.program.steps[id_]
            if (
                self.live.kind(id_) == "constant"
                and isinstance(step.node, ast.Assign)
                and any(name in self._global_state() for name in step.writes)
            ):
                found.add(id_)
        return found

    def _global_state(self) -> set[str]:
        """Give the names of globals that notebook functions change while they see rows."""
        found: set[str] = set()
        for id_ in self.live.training:
            step = self.program.steps[id_]
            called = {n.id for n in ast.walk(step.node) if isinstance(n, ast.Name)} & set(self.program.effects)
            for name in called:
                effects = self.program.effects[name]
                found |= {
                    n
                    for n in {*effects.mutates, *effects.writes}
                    if self.roles.after[id_].get(n) is not None and self.roles.after[id_][n].kind == "state"
                }
        return found

    def _learner(self, step: Step, names: dict[str, str] | None = None, *, serving: bool = False) -> Learner:
        kinds: dict[str, str] = {n: b.kind for n, b in self.roles.before[step.id].items()}
        kinds |= dict.fromkeys(self._global_state(), "state")
        kinds = {n: "constant" if k == "table" else k for n, k in kinds.items()}
        learner = Learner(self.shared, step.id, step.cell, kinds, aliases=names)
        if not serving and self.roles.side_of(step.id) == "test":
            learner.fresh = self._batchwise()
        if step.id in self.live.of_test_file:
            learner.fresh = self.shared.hoisting & set(self.shared.functions)
        read = self.program.read
        place = place_of_read(self.program)
        if read.statement == step.id and place is not None:
            learner.origin = (place, self._after_read())
        return learner

    def _after_read(self) -> str:
        """Write what stands for the read: the raw table, through what the function that read it did to it then."""
        read = self.program.read
        found = after_read(self.program)
        if found is None or self.program.is_own(read.statement, read.cell, read.span):
            return self.frame
        name, node, local, rest = found
        if not does_more(local, rest):
            return self.frame
        learner = Learner(self.shared, read.statement, read.cell, {local: "rows"}, function=node)
        learner.block(rest)
        first = rest[0]
        state = ", state" if learner.uses_state else ""
        body = learner.code.edited((first.lineno, first.col_offset, *span_of(rest[-1])[2:]), learner.edits)
        text = finished(f"def {self._new(name)}({local}{state}):\n{' ' * first.col_offset}{body}")
        (self.shared.functions if state else self.shared.plain_texts)[name] = text
        return f"{self._new(name)}({self.frame}{state})"

    def _source(self, step: Step, code: Code, edits: Iterable[Edit]) -> str:
        text = code.edited(span_of(step.node), edits)
        text = finished(text)
        if not text.strip():
            return ""
        return comments_above(step.statement.source) + text + end_comment(step.statement.source, step.node)

    def _is_truth(self, step: Step, name: str) -> bool:
        return step.id in self.truth.names.get(name, set())

    def _makes_only_truth(self, step: Step) -> bool:
        made = assigned(step.node)
        return bool(made) and all(self._is_truth(step, name) for name, _ in made) and isinstance(step.node, ast.Assign)

    def _rest_needs_target(self) -> bool:
        """Say whether a live step after the shared ones takes the target from the table."""
        ids = {*self.live.training, *self.live.experiment} - set(self.live.shared)
        if any(read_halves(self.program, self.program.steps[i]) for i in self.live.splits):
            return True
        return any(
            self.truth.columns_in(i, self.program.steps[i].node)
            and not (self.roles.side_of(i) == "all" and self._given_truth(self.program.steps[i]))
            for i in ids
            if self.live.kind(i) == "rows"
        )

    def _truth_steps(self) -> list[int]:
        ids = [
            i
            for i in {*self.live.training, *self.live.experiment}
            if self.live.kind(i) == "rows"
            and i not in self.live.splits
            and self.roles.side_of(i) == "all"
            and any(self._is_truth(self.program.steps[i], n) for n, _ in assigned(self.program.steps[i].node))
        ]
        return sorted(ids)

    def _given_truth(self, step: Step) -> bool:
        """Say whether a statement reads nothing of the table once the target is given."""
        if self.filters:
            return False
        made = assigned(step.node)
        return bool(made) and all(
            self._is_truth(step, n) and (self.truth.given(step.id, v, self.given) is not None or self._derived(step, n))
            for n, v in made
        )

    def _derived(self, step: Step, name: str) -> bool:
        return self.derives and step.id in self.choice.target.statements and self._is_truth(step, name)

    def _place(self) -> int | None:
        """Give the target's place among the columns, where the notebook takes columns by their place."""
        read = self.program.read
        columns = read.value.columns or []
        nodes = [
            n for i in self.live.shared for n in ast.walk(self.program.steps[i].node) if isinstance(n, ast.Subscript)
        ]
        if self.column in columns and any(_by_place(n) for n in nodes):
            return columns.index(self.column)
        return None

    def _estimator_type(self) -> str:
        seen = next((o.type for o in self.program.trace.objects if o.id == self.choice.shipped), "object")
        return self._new(seen.removeprefix("__main__.")) if seen.startswith("__main__.") else seen

    def _new(self, name: str) -> str:
        return self.renames.get(name, name)

    def _part(self, step: Step, text: str) -> Part:
        return Part(text, step.cell, step.node.lineno, step.id)

    def _batchwise(self) -> set[str]:
        """Give the functions that compute statistics of their rows, and were called with train and test apart."""
        found = set()
        for name in self.shared.hoisting & set(self.shared.functions):
            sides = {self.roles.side_of(i) for i in self.shared.per_call.get(name, ())}
            if {"train", "test"} <= sides:
                found.add(name)
        return found

    @property
    def has_probabilities(self) -> bool:
        """Whether the shipped model answers predict_proba; one that was never asked for anything is taken to."""
        methods = self.program.methods(self.choice.shipped)
        return self.choice.task == "classification" and ("predict_proba" in methods or not methods)

    @cached_property
    def aliases(self) -> set[str]:
        """The names of the shipped and the evaluated model."""
        ids, choice = {self.choice.shipped, self.choice.evaluated}, self.choice
        named = {n for o in self.program.trace.objects if o.id in ids for n in o.names}
        return named | {choice.shipped_name, choice.evaluated_name}

    def _is_predictor(self, name: str) -> bool:
        """Say whether a name is one of the models that the score asks, and not what transforms for them."""
        objects = {o.id for o in self.program.trace.objects if name in o.names}
        asked = {p.object for p in self.program.trace.predicts if "transform" not in p.method}
        return name in self.aliases or bool(objects & asked)

    def _draws(self, id_: int) -> bool:
        """Say whether a step makes a generator of random numbers: each call of a function begins with a new one."""
        values = self.program.steps[id_].did.values.values()
        return any(v.type.startswith(("numpy.random.", "random.Random")) for v in values)

    def _estimators(self) -> list[str]:
        """Give the names of the models that the score asks; the shipped one by its own name."""
        choice, found = self.choice, list[str]()
        for name in self.score.learnt:
            bound_ = self.roles.before[self.score.step].get(name)
            value = self.program.steps[bound_.step].did.values.get(name) if bound_ is not None else None
            if value is not None and value.kind in ("estimator", "booster") and self._is_predictor(name):
                found.append(choice.shipped_name if name in self.aliases else name)
        return list(dict.fromkeys(found)) or [choice.shipped_name]


def loop_names(node: ast.stmt) -> set[str]:
    """Give the names that loops bind to their items."""
    found: set[str] = set()
    for part in ast.walk(node):
        if isinstance(part, ast.For):
            found |= {n.id for n in ast.walk(part.target) if isinstance(n, ast.Name)}
    return found


def _by_place(node: ast.Subscript) -> bool:
    """Say whether columns are taken by number: `X[:, :-1]`, `df.iloc[:, 3]`."""
    if not isinstance(node.slice, ast.Tuple) or len(node.slice.elts) != 2:
        return False
    last = node.slice.elts[1]
    parts = [last.lower, last.upper] if isinstance(last, ast.Slice) else [last]
    return any(
        isinstance(p, ast.UnaryOp) or (isinstance(p, ast.Constant) and isinstance(p.value, int)) for p in parts if p
    )
