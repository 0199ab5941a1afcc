"""What expressions give: the pandas, NumPy and scikit-learn that a reader knows by heart, as far as rows go."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from trilho.adopt.doctor.flow import frames, models
from trilho.adopt.doctor.flow.names import full_name, last
from trilho.adopt.doctor.flow.values import NOTHING, Scope, Value, gather, join, onto

if TYPE_CHECKING:
    from trilho.adopt.doctor.flow.interpreter import Walker

INDEXERS = frozenset({"loc", "iloc", "at", "iat"})
NO_ROWS = frozenset({"shape", "size", "empty", "dtypes", "dtype", "ndim", "name", "axes"})
SAME = frozenset({"values", "T", "str", "dt", "cat", "array", "plot", "best_estimator_", "best_model_", "style", "A"})
BEST = frozenset({"argmax", "argmin", "nanargmax", "nanargmin", "idxmax", "idxmin", "sorted", "nlargest", "nsmallest",
                  "max", "min", "argsort", "nanmax", "nanmin", "sort_values"})  # fmt: skip
CONTAINED = frozenset({"list", "tuple", "set", "dict", "zip", "reversed", "iter", "array", "asarray", "Series"})
GROWING = frozenset({"append", "extend", "add", "insert", "setdefault", "update"})


@dataclass(frozen=True)
class Given:
    """A call's arguments, evaluated."""

    node: ast.Call
    name: str  # the full name of what is called; "" where it is no dotted name
    held: Value  # what a method is called on
    values: tuple[Value, ...]  # by position
    words: dict[str, Value]
    word_nodes: dict[str, ast.expr]

    def get(self, at: int, *names: str) -> Value | None:
        """Give an argument by position or by any of its names."""
        for name in names:
            if name in self.words:
                return self.words[name]
        return self.values[at] if 0 <= at < len(self.values) else None

    def find(self, at: int, *names: str) -> ast.expr | None:
        """Give an argument's node."""
        for name in names:
            if name in self.word_nodes:
                return self.word_nodes[name]
        return self.node.args[at] if 0 <= at < len(self.node.args) else None

    def constant(self, name: str) -> object:
        """Give a keyword's constant, None where there is none."""
        node = self.word_nodes.get(name)
        return node.value if isinstance(node, ast.Constant) else None

    @property
    def all(self) -> list[Value]:
        """Give every argument."""
        return [*self.values, *self.words.values()]


def value_of(walker: Walker, node: ast.expr) -> Value:
    """Give what is known of an expression's value."""
    match node:
        case ast.Constant(value=str(text)):
            return Value(texts=frozenset({text}))
        case ast.Name(id=name):
            return walker.scope.get(name)
        case ast.Attribute():
            return _attribute(walker, node)
        case ast.Subscript():
            return frames.subscript(walker, node)
        case ast.Call():
            return _call(walker, node)
        case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts):
            return gather([walker.value(part) for part in parts])
        case ast.Dict(values=values):
            return gather([walker.value(value) for value in values])
        case ast.BinOp(left=left, right=right):
            return _binary(walker.value(left), walker.value(right))
        case ast.BoolOp(values=values):
            return join(*(walker.value(value) for value in values))
        case ast.UnaryOp(operand=operand):
            return walker.value(operand)
        case ast.Compare(left=left, comparators=others):
            return _compared(walker.value(left), [walker.value(other) for other in others])
        case ast.IfExp(test=test, body=body, orelse=orelse):
            if (told := walker.value(test)).measured:
                walker.choose(test, told)
            return join(walker.value(body), walker.value(orelse))
        case ast.ListComp(elt=elt) | ast.GeneratorExp(elt=elt) | ast.SetComp(elt=elt):
            return _comprehension(walker, node, elt)
        case ast.DictComp(value=value):
            return _comprehension(walker, node, value)
        case ast.Starred(value=value):
            return walker.value(value)
        case ast.NamedExpr(target=target, value=value):
            made = walker.value(value)
            walker.bind(target, made, value)
            return made
        case _:
            return NOTHING


def _binary(left: Value, right: Value) -> Value:
    joined = join(left, right)
    if left.parts is not None and right.parts is not None:  # lists one after the other
        return replace(joined, parts=left.parts + right.parts, error=left.error or right.error)
    return joined


def _compared(left: Value, others: Sequence[Value]) -> Value:
    """Give a mask; a score held against a limit is a decision, and knows what the limit came from."""
    joined = join(left, *others)
    limited = left.predicted != any(other.predicted for other in others) and not joined.error
    return replace(joined, mask=True, threshold=joined.threshold or limited)


def _attribute(walker: Walker, node: ast.Attribute) -> Value:
    name = node.attr
    if isinstance(node.value, ast.Name) and node.value.id == "self":
        return walker.scope.get(f"self.{name}")
    if isinstance(node.value, ast.Name) and node.value.id in walker.known and node.value.id not in walker.scope.names:
        return NOTHING
    held = walker.value(node.value)
    if name in walker.state and not held.sides:
        return walker.state[name]
    if name == "columns":
        return Value(texts=held.known, but=frozenset() if held.known is None and held.sides else None,
                     statistics=held.statistics)  # fmt: skip
    if name == "index":
        return replace(
            held, added=frozenset(), known=None, uses=frozenset(), column="", opaque=True, learnt=frozenset()
        )
    if name == "dt":
        walker.events.times |= held.uses
    if name in NO_ROWS:
        return NOTHING
    if name == "values":
        return replace(held, array=True)
    if name in SAME or name in INDEXERS or name.endswith("_") or not held.sides:
        return held
    return frames.column(walker, held, frozenset({name}))


def _comprehension(walker: Walker, node: ast.expr, element: ast.expr) -> Value:
    generators = getattr(node, "generators", [])
    outer, walker.scope = walker.scope, Scope(outer=walker.scope, function=walker.scope.function)
    iterated: list[Value] = []
    for generator in generators:
        iterated.append(walker.value(generator.iter))
        walker.scope.rebound |= {n.id for n in ast.walk(generator.target) if isinstance(n, ast.Name)}
        walker.bind(generator.target, walker.item(iterated[-1], generator.target), generator.iter)
        for condition in generator.ifs:
            walker.value(condition)
    made = walker.value(element)
    walker.scope = outer
    listed = _columns_but(walker, generators, element, iterated)
    if listed is not None:
        return listed
    return replace(made, parts=None if made.texts is None else (made,), statistics=made.statistics)


def _columns_but(
    walker: Walker, generators: list[ast.comprehension], element: ast.expr, iterated: list[Value]
) -> Value | None:
    """Read `[c for c in df.columns if c != "y"]`."""
    if len(generators) != 1 or not isinstance(element, ast.Name) or not isinstance(generators[0].target, ast.Name):
        return None
    if element.id != generators[0].target.id or (iterated[0].but is None and iterated[0].texts is None):
        return None
    out: set[str] = set()
    for condition in generators[0].ifs:
        match condition:
            case ast.Compare(left=ast.Name(), ops=[ast.NotEq() | ast.NotIn()], comparators=[other]):
                texts = walker.value(other).texts
                if texts is None:
                    return Value()
                out |= texts
            case _:
                return Value()
    if iterated[0].texts is not None:
        return Value(texts=iterated[0].texts - out, parts=())
    return Value(but=(iterated[0].but or frozenset()) | out)


def _call(walker: Walker, node: ast.Call) -> Value:
    name = full_name(node.func, walker.known)
    values = tuple(walker.value(argument) for argument in node.args)
    words = {word.arg: walker.value(word.value) for word in node.keywords if word.arg}
    rest = [walker.value(word.value) for word in node.keywords if word.arg is None]
    if rest:
        words["**"] = join(*rest)
    held = walker.value(node.func.value) if isinstance(node.func, ast.Attribute) else NOTHING
    given = Given(node, name, held, values, words, {word.arg: word.value for word in node.keywords if word.arg})
    if isinstance(node.func, ast.Name):
        own = _own_function(walker, node.func.id, given)
        if own is not None:
            return own
    if last(name) in BEST and not (last(name) in ("max", "min") and len(values) > 1):
        measured = join(*values) if values else NOTHING
        if isinstance(node.func, ast.Attribute) and node.func.attr == last(name):
            measured = join(measured, held)
        if measured.measured and not measured.sides:
            walker.choose(node, measured)
            return replace(measured, parts=None)
    for handle in HANDLERS:
        found = handle(walker, given)
        if found is not None:
            return found
    return NOTHING


def _own_function(walker: Walker, name: str, given: Given) -> Value | None:
    """Handle calls of the notebook's own functions: they are walked with what they are given."""
    located = walker.functions.get(name)
    node = located.node if located is not None else walker.lambdas.get(name)
    if not isinstance(node, ast.FunctionDef | ast.Lambda):
        return None
    arguments = [arg.arg for arg in [*node.args.posonlyargs, *node.args.args]]
    bound = dict(zip(arguments, given.values, strict=False))
    bound |= {word: value for word, value in given.words.items() if word in arguments}
    defaults = node.args.defaults
    for argument, default in zip(arguments[len(arguments) - len(defaults) :], defaults, strict=True):
        if argument not in bound:
            bound[argument] = walker.value(default)
    cell, file = walker.cell, walker.file
    if located is not None:
        walker.cell, walker.file = located.cell, located.file
    made = walker.enter(node, bound, given.node.args)
    walker.cell, walker.file = cell, file
    return made


def _learnt(walker: Walker, given: Given) -> Value | None:
    """Handle `state.once(name, learn)` of a project: learnt once, read under that name."""
    function, learn = given.node.func, given.find(1, "learn")
    name = given.find(0, "name")
    if not (isinstance(function, ast.Attribute) and function.attr == "once" and isinstance(name, ast.Constant)):
        return None
    if not isinstance(learn, ast.Lambda):
        return NOTHING
    return walker.state.setdefault(str(name.value), walker.enter(learn, {}, []))


def _grown(walker: Walker, given: Given) -> Value | None:
    """Handle `results.append((t, f1))`: what is put in is in it."""
    function = given.node.func
    if not (isinstance(function, ast.Attribute) and function.attr in GROWING):
        return None
    held = given.held
    if isinstance(function.value, ast.Name) and not held.sides:
        walker.scope.change(function.value.id, replace(join(held, *given.all), parts=None, error=False))
    return held


def _contained(walker: Walker, given: Given) -> Value | None:
    if last(given.name) == "enumerate" and given.values:
        value = given.values[0]
        return Value(parts=(NOTHING, value), folds=True) if value.folds else replace(value, parts=None)
    if last(given.name) == "next" and given.values:
        return _one_split(given.values[0])
    if last(given.name) in CONTAINED and (given.values or given.words):
        return given.values[0] if len(given.values) == 1 else replace(gather(given.all), parts=None)
    return None


def _one_split(value: Value) -> Value:
    """Give the first turn of a splitter: what it holds out are test rows, not one fold of many."""
    return replace(value, folds=False, parts=tuple(_held_out(part) for part in value.parts or ()) or value.parts)


def _held_out(part: Value) -> Value:
    sides = (replace(side, role="test") if side.role == "fold" else side for side in part.sides)
    return replace(part, sides=frozenset(sides))


def _default(walker: Walker, given: Given) -> Value | None:
    """Handle what is not known by name: rows stay rows, and what comes in as arguments is in them."""
    function = given.node.func
    if isinstance(function, ast.Attribute) and not _of_module(walker, function):
        held = given.held
        return onto(held, *given.all) if held != NOTHING else (join(*given.all) if given.all else NOTHING)
    first = given.values[0] if given.values else None
    if first is not None and first.sides:
        return onto(first, *(value for value in given.all if value is not first))
    return replace(join(*given.all), parts=None) if given.all else NOTHING


def _of_module(walker: Walker, function: ast.Attribute) -> bool:
    node: ast.expr = function
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name) and node.id in walker.known and node.id not in walker.scope.names


HANDLERS: tuple[Callable[[Walker, Given], Value | None], ...] = (
    models.split, models.metric, models.native, models.resampled, models.searched, models.folded, models.constructed,
    models.method, models.kept, frames.silent, frames.read, frames.framed, frames.windowed, frames.aggregated,
    frames.columnar, _learnt, _grown, _contained, _default,
)  # fmt: skip
