"""Which statements are live, and what each is for: the table, its features, the split, the fit, the experiment."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from trilho.adopt.scopes import parameters
from trilho.adopt.slice.program import Program, Step
from trilho.adopt.slice.reading import after_read, place_of_read
from trilho.adopt.slice.roles import Roles
from trilho.adopt.slice.shared import Unsliceable
from trilho.adopt.slice.text import inside, span_of
from trilho.adopt.slice.truth import Truth
from trilho.adopt.trace import Argument, Fit, Predict, Read

SEEDS = ("seed(", "set_seed(", "set_random_seed(")


@dataclass(frozen=True)
class Ask:
    """What an estimator is given: the expression, as the top of a statement has it."""

    source: str
    names: frozenset[str]
    node: ast.expr | None  # where it is an expression of the statement itself


@dataclass
class Live:
    """The live statements, by what they are for; ids in the order of execution."""

    program: Program
    roles: Roles
    fit: Fit
    X: Ask
    y: Ask
    read: int  # the step that reads the main table
    frame: str
    training: list[int] = field(default_factory=list)  # all that the shipped fit takes, itself at the end
    shared: list[int] = field(default_factory=list)  # rows before the split, on the way to the model's input
    served: list[int] = field(default_factory=list)  # rows of the test side, on the same way
    learnt: list[str] = field(default_factory=list)  # what those read that the train side made
    asked: Predict | None = None
    asked_input: Ask | None = None
    experiment: list[int] = field(default_factory=list)  # all that the metrics take

    @cached_property
    def truth(self) -> Truth:
        """The target's values."""
        return Truth(self.program, self.roles)

    def kind(self, id_: int) -> str:
        """Say what a step is: code, a constant, a table, or of the rows."""
        step = self.program.steps[id_]
        if isinstance(step.node, ast.Import | ast.ImportFrom):
            return "import"
        if isinstance(step.node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            return "definition"
        if isinstance(step.node, ast.Assign) and isinstance(step.node.value, ast.Lambda):
            return "definition"
        if id_ == self.read:
            return "read"
        if any(read.statement == id_ for read in self.program.trace.reads if read.id != self.program.main):
            return "table"
        return "rows" if self.roles.depends(id_) else "constant"

    @property
    def has_test_file(self) -> bool:
        """Whether the rows that judge were read from a file of their own."""
        return self.roles.has_test_file

    @cached_property
    def of_test_file(self) -> set[int]:
        """The steps that make the model's input of such a file."""
        if not self.has_test_file or self.asked is None or self.asked_input is None:
            return set()
        return set(self.program.backward(self.asked_input.names, self.asked.statement)) - {*self.shared, *self.training}

    @property
    def splits(self) -> list[int]:
        """Give the steps that take train and test apart, of those that are live."""
        live = {*self.training, *self.experiment}
        return sorted(live & self.roles.splits)


def find_live(program: Program, roles: Roles) -> Live:
    """Follow the shipped fit and the metrics back. Raises Unsliceable."""
    choice, trace = program.choice, program.trace
    fit = next(f for f in trace.fits if f.id == choice.shipped_fit)
    read = program.read
    frame = _frame(program, read)
    X = ask(program, fit, fit.X) if fit.X is not None else _only_rows(program, roles, fit)
    live = Live(program, roles, fit, X, ask(program, fit, fit.y), read.statement, frame)
    top = program.steps[fit.statement]
    given = program.given_to_fit(fit)
    live.training = [*program.backward(top.reads | top.mutates, fit.statement, given), fit.statement]
    seeds = [id_ for id_, s in program.steps.items() if isinstance(s.node, ast.Expr) and
             any(word in s.statement.source for word in SEEDS) and id_ < fit.statement]  # fmt: skip
    live.training = sorted({*live.training, *seeds})
    _find_served(live)
    _find_experiment(live, seeds)
    return live


def _only_rows(program: Program, roles: Roles, fit: Fit) -> Ask:
    """Give the one table that a fit's statement reads, as a formula's data."""
    before = roles.before[fit.statement]
    tables = [n for n in sorted(program.steps[fit.statement].reads) if n in before and before[n].kind == "rows"]
    if len(tables) != 1:
        return Ask("", frozenset(), None)
    return Ask(tables[0], frozenset(tables), _find(program.steps[fit.statement].node, tables[0], None))


def ask(program: Program, event: Fit | Predict, given: Argument | None) -> Ask:
    """Give what an event's argument is at the top of its statement, through the functions that it was passed by."""
    step = program.steps[event.statement]
    if given is None:
        return Ask("", frozenset(), None)
    if program.is_own(event.statement, event.cell, event.span):
        node = _find(step.node, given.source, event.span)
        return Ask(given.source, _names(given.source), node)
    source = _through_functions(program, step, event, given.source)
    return Ask(source, _names(source), _find(step.node, source, None))


def _through_functions(program: Program, step: Step, event: Fit | Predict, source: str) -> str:
    """Give the caller's expression for a parameter of the function or method that an event lies in."""
    inner = [f for f, cell in _functions(program) if cell == event.cell and inside(event.span, span_of(f))]
    rows = event.X.value.rows if event.X is not None else None
    found = _passed(program, step, inner[-1], source, rows, 3) if inner else None
    if found is None:
        raise Unsliceable(source, event.cell, event.span[0], "it is made inside a function that also fits the model")
    return ast.unparse(found)


def _functions(program: Program) -> list[tuple[ast.FunctionDef, int]]:
    """Give the notebook's functions and its classes' methods, each with its cell, an inner one after its outer one."""
    return [
        (part, program.cell_of_function[name])
        for name, node in program.definitions.items()
        for part in ast.walk(node)
        if isinstance(part, ast.FunctionDef)
    ]


def _passed(
    program: Program, step: Step, function: ast.FunctionDef, source: str, rows: int | None, depth: int
) -> ast.expr | None:
    """Give what a statement passed for a function's parameter, itself or through the functions that it calls."""
    found = [a for a in _arguments(step.node, function, source) if a is not None]
    same = [a for a in found if (value := program.value(step.id, step.cell, a)) is not None and value.rows == rows]
    if found or depth == 0:
        return next(iter([*same, *found]), None)
    for outer, _ in _functions(program):
        for given in _arguments(outer, function, source) if outer is not function else []:
            made = _passed(program, step, outer, ast.unparse(given), rows, depth - 1) if given is not None else None
            if made is not None:
                return made
    return None


def _arguments(node: ast.AST, function: ast.FunctionDef, name: str) -> Iterator[ast.expr | None]:
    """Give what the calls of a function in some code pass for one of its parameters."""
    order = list(parameters(function))
    if name not in order:
        return
    for part in ast.walk(node):
        if not isinstance(part, ast.Call):
            continue
        method = isinstance(part.func, ast.Attribute) and part.func.attr == function.name and order[0] == "self"
        if method or (isinstance(part.func, ast.Name) and part.func.id == function.name):
            place = order.index(name) - method
            given = {k.arg: k.value for k in part.keywords}
            yield given.get(name) or (part.args[place] if 0 <= place < len(part.args) else None)


def _find_served(live: Live) -> None:
    """Find the rows' way to the model: by the test side where there is one, else as training went."""
    program, choice = live.program, live.program.choice
    asked = next((p for p in program.trace.predicts if p.id == choice.evaluated_predict), None)
    X, before = live.X, live.fit.statement
    if asked is not None and asked.X is not None:
        try:
            live.asked, live.asked_input = asked, ask(program, asked, asked.X)
        except Unsliceable:
            live.asked = None
    if live.asked is not None and live.asked_input is not None and not choice.refitted:
        known = live.roles.before[live.asked.statement]
        if any(known[name].side == "test" for name in live.asked_input.names if name in known):
            X, before = live.asked_input, live.asked.statement
    ids, live.learnt = serving(live, X.names, before)
    for id_ in ids:
        side = live.roles.side_of(id_)
        if live.truth.only(id_) and id_ not in live.roles.splits:
            continue
        if id_ in live.roles.splits or side == "test":
            live.served.append(id_)
        else:
            live.shared.append(id_)


def serving(live: Live, names: Iterable[str], before: int) -> tuple[list[int], list[str]]:
    """Give the steps that make rows for these names, and the names that the train side learnt for them."""
    program, roles = live.program, live.roles
    needed, found, learnt = set(names), list[int](), list[str]()
    fits: set[int] = set()
    for id_ in sorted(program.steps, reverse=True):
        step = program.steps[id_]
        if id_ >= before or not (step.defines & needed or id_ in fits) or live.kind(id_) in ("import",):
            continue
        side = roles.side_of(id_)
        rows = {n for n in step.defines & needed if roles.after[id_][n].kind == "rows"}
        trained = id_ not in roles.splits and (side == "train" or (side == "test" and not rows))
        if trained:
            hit = (step.defines | (_fitted_names(program, roles, id_) if id_ in fits else set())) & needed
            learnt += [n for n in sorted(hit) if n not in learnt]
            needed -= hit
            continue
        found.append(id_)
        if isinstance(step.node, ast.Assign | ast.AnnAssign | ast.FunctionDef | ast.ClassDef):
            needed -= step.writes
        more = step.reads | step.mutates
        parted = {n for n in more if _is_parted(roles, id_, n)} | _chosen_by(live, step)
        needed |= more if id_ not in roles.splits else parted
        for fit in program.fits_before(id_):
            fits.add(fit.statement)
    return found[::-1], learnt


def _chosen_by(live: Live, step: Step) -> set[str]:
    """Give the names of the expressions whose rows a split takes apart: `train_test_split(df[features], ...)`."""
    found: set[str] = set()
    for part in ast.walk(step.node):
        word = part.func if isinstance(part, ast.Call) else None
        if isinstance(part, ast.Call) and "train_test_split" in (getattr(word, "id", ""), getattr(word, "attr", "")):
            for given in part.args:
                if not isinstance(given, ast.Name) and not live.truth.takes_only(step.id, given):
                    found |= {n.id for n in ast.walk(given) if isinstance(n, ast.Name)}
    return found & step.reads


def _fitted_names(program: Program, roles: Roles, id_: int) -> set[str]:
    """Give the names of the estimators that a step fits."""
    family = set[int]().union(*(program.family(fit.object) for fit in program.fits_of(id_)))
    names = {n for seen in program.trace.objects if seen.id in family for n in seen.names}
    for name in program.steps[id_].reads:
        bound = roles.before[id_].get(name)
        value = program.steps[bound.step].did.values.get(name) if bound is not None else None
        if value is not None and value.object in family:
            names.add(name)
    return names


def _is_parted(roles: Roles, id_: int, name: str) -> bool:
    """Say whether a split takes apart the rows of a name, and does not only choose by them: `df[u < 0.7]`."""
    bound = roles.before[id_].get(name)
    node = roles.program.steps[id_].node
    chosen = {id(n) for part in ast.walk(node) if isinstance(part, ast.Subscript) for n in ast.walk(part.slice)}
    used = [n for n in ast.walk(node) if isinstance(n, ast.Name) and n.id == name]
    return bound is not None and bound.kind == "rows" and any(id(n) not in chosen for n in used)


def _find_experiment(live: Live, seeds: list[int]) -> None:
    program = live.program
    found: set[int] = set(seeds) if live.program.choice.metrics else set()
    for metric in program.choice.metrics:
        step = program.steps.get(metric.statement)
        if step is None:
            continue
        found |= set(program.backward(step.reads | step.mutates, metric.statement))
        found |= {f.statement for f in program.fits_before(metric.statement)}
        for fit in program.fits_before(metric.statement):
            found |= set(program.backward(program.steps[fit.statement].reads, fit.statement))
        if step.writes:
            found.add(step.id)
    live.experiment = sorted(found)


def _frame(program: Program, read: Read) -> str:
    step = program.steps[read.statement]
    if place_of_read(program) is None or (
        not program.is_own(read.statement, read.cell, read.span) and after_read(program) is None
    ):
        raise Unsliceable(next(iter(sorted(step.writes)), read.source), step.cell, step.node.lineno,
                          "its table is read inside a function")  # fmt: skip
    names = [n for n in sorted(step.writes) if n in step.did.values and step.did.values[n].kind == "frame"]
    return names[0] if names else "df"


def _names(source: str) -> frozenset[str]:
    try:
        return frozenset(n.id for n in ast.walk(ast.parse(source, mode="eval")) if isinstance(n, ast.Name))
    except SyntaxError:
        return frozenset()


def _find(node: ast.stmt, source: str, span: tuple[int, int, int, int] | None) -> ast.expr | None:
    """Give the expression of a statement that reads like a source, within a span."""
    try:
        wanted = ast.dump(ast.parse(source, mode="eval").body)
    except SyntaxError:
        return None
    for part in ast.walk(node):
        if (
            isinstance(part, ast.expr)
            and not isinstance(getattr(part, "ctx", None), ast.Store)
            and ast.dump(part) == wanted
        ):
            at = (part.lineno, part.col_offset, part.end_lineno or 0, part.end_col_offset or 0)
            if span is None or (tuple(span[:2]) <= at[:2] and at[2:] <= tuple(span[2:])):
                return part
    return None
