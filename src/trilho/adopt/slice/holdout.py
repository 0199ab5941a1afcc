"""How train and test came apart, and the moving holdout that stands for it in production."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from trilho.adopt.plan import Split
from trilho.adopt.slice.history import History, Place, argument_of, called_name, calls_in, span_of
from trilho.adopt.slice.origin import Source, constant, definition, path, reach
from trilho.adopt.trace import Fit, Predict

Kind = Literal["random", "time", "rows", "none"]
DATE = re.compile(r"\d{4}-\d{1,2}|\d{1,2}/\d{1,2}/\d{2,4}|^(19|20)\d{6}$")
TIMELY = re.compile(
    r"(?i)(^|_|\b)(ano|year|yr|mes|month|safra|period\w*|date|data|dt|dia|day|semana|week|time|ts|timestamp)($|_|\b)"
)
FOLDS = {"KFold", "StratifiedKFold", "GroupKFold", "TimeSeriesSplit", "RepeatedKFold", "RepeatedStratifiedKFold"}
WATCHED = {"eval_set", "evals", "valid_sets", "X_val", "eval_X"}
DRAWS = {"rand", "random", "uniform", "random_sample", "binomial"}
TABLES = {"frame", "series", "array", "sparse", "dataset"}
SHUFFLES = {"ShuffleSplit", "GroupShuffleSplit", "StratifiedShuffleSplit"}


@dataclass(frozen=True)
class Cut:
    """A piece of code that takes some rows out of a table."""

    kind: Kind
    source: Source
    expression: str  # where the cut is, as written
    limit: ast.expr | None = None
    seed: str = ""
    place: Place | None = None  # where the limit stands
    share: float | None = None  # of test rows, where it is written


def find_split(history: History, fit: Fit | None, predict: Predict | None) -> tuple[Split, Cut | None]:
    """Find what put the rows that a model was measured on apart from those that it was fitted to."""
    if fit is None or predict is None:
        return Split("none"), None
    train, test = _sources(history, fit), _sources(history, predict)
    shared = {s.code for s in train} & {s.code for s in test}
    cuts = [c for s in test if (c := _split_call(history, s)) is not None]
    cuts = cuts or [c for s in test if s.code not in shared for c in _cuts(history, s)]
    mine = [c for s in train if s.code not in shared for c in _cuts(history, s)]
    mine.sort(key=lambda one: not cuts or one.expression != cuts[0].expression)
    cuts = cuts or mine
    if not cuts:
        return _of_another_table(history, fit, predict), None
    cut = cuts[0]
    called = any(called_name(c) == "train_test_split" for c in calls_in(cut.source.node))
    beside = [] if called else [c for c in mine[:1] if c.kind == cut.kind]
    statements = {cut.source.place.statement, *(c.source.place.statement for c in beside)}
    statements |= _limit_statements(history, cut)
    names = _names(history, cut, mine)
    split = Split(
        kind=cut.kind,
        statements=tuple(sorted(statements)),
        share=_share(fit, predict) if cut.share is None or _is_chained(test) else cut.share,
        seed=cut.seed or next((c.seed for c in mine if c.seed), ""),
        cut=cut.expression,
        train=tuple(dict.fromkeys([*names[0], *_argument_names(history, fit)])),
        test=tuple(dict.fromkeys([*names[1], *_argument_names(history, predict)])),
    )
    return split, cut


def _of_another_table(history: History, fit: Fit, predict: Predict) -> Split:
    """Recognise test rows that were read from a table of their own."""
    trained = fit.X.value.aligned if fit.X is not None else None
    asked = predict.X.value.aligned if predict.X is not None else None
    if trained is None or asked is None or trained.read == asked.read or "length" in (trained.how, asked.how):
        return Split("none")
    sides = (tuple(dict.fromkeys(_argument_names(history, event))) for event in (fit, predict))
    return Split("rows", (), _share(fit, predict), "", "", *sides)


def moving(split: Split, cut: Cut | None, times: list[datetime], history: History) -> str:
    """Give the holdout as trilho.toml has it: how long before the newest row it begins; "" where time says nothing.

    A share of the rows becomes the time in which the newest rows of that share lie.
    """
    if not times:
        return ""
    newest, held = max(times), None
    if cut is not None and cut.kind == "time" and cut.limit is not None:
        held = _moment(history, cut.limit, cut.place or cut.source.place)
    if held is None and split.share:
        held = sorted(times)[-max(1, round(len(times) * split.share))]
    return _span(newest - held) if held is not None and held < newest else ""


def _span(length: timedelta) -> str:
    """Say how long, in whole units, never less.

    >>> _span(timedelta(days=60, hours=23)), _span(timedelta(hours=5))
    ('last 61 days', 'last 5 hours')
    """
    if length >= timedelta(days=2):
        return f"last {math.ceil(length / timedelta(days=1))} days"
    hours = max(1, math.ceil(length / timedelta(hours=1)))
    return f"last {hours} hours"


def input_code(history: History, event: Fit | Predict) -> tuple[ast.expr, Place] | None:
    """Give the code of the rows that a model was given, and where it stands."""
    call, place = history.call_of(event), history.place_of(event)
    if call is None:
        return None
    at = 1 if isinstance(event, Fit) and event.how == "train" else 0
    given = argument_of(call, at, "X", "dtrain", "train_set", "data")
    if given is None and isinstance(call.func, ast.Attribute):
        given = call.func.value  # OLS(y, X).fit()
    return (given, place) if given is not None else None


def _sources(history: History, event: Fit | Predict) -> list[Source]:
    given = input_code(history, event)
    return list(reach(history, *given)) if given is not None else []


def _split_call(history: History, source: Source) -> Cut | None:
    """Recognise train_test_split, and a loop over folds."""
    for call in calls_in(source.node):
        name = called_name(call)
        if name == "train_test_split":
            seed, shuffle = argument_of(call, -1, "random_state"), argument_of(call, -1, "shuffle")
            kept = isinstance(shuffle, ast.Constant) and shuffle.value is False
            kind: Kind = "rows" if kept else "random"
            size = argument_of(call, -1, "test_size")
            told = constant(history, size, source.place) if size is not None else None
            return Cut(kind, source, ast.unparse(size) if size is not None and kept else "", None,
                       ast.unparse(seed) if seed is not None else "",
                       share=told if isinstance(told, float) and 0 < told < 1 else None)  # fmt: skip
        if name == "split" and isinstance(call.func, ast.Attribute):
            made = _splitter(history, call.func.value, source.place)
            if made in FOLDS:
                return Cut("none", source, "")
            if made in SHUFFLES:
                return Cut("random", source, "")
    return None


def _splitter(history: History, node: ast.expr, place: Place) -> str:
    for source in path(history, node, place):
        if isinstance(source.node, ast.Call):
            return called_name(source.node)
    return ""


def _cuts(history: History, source: Source) -> Iterator[Cut]:
    """Recognise masks, slices, queries and samples."""
    for node in ast.walk(source.node):
        if isinstance(node, ast.Subscript):
            yield from _of_subscript(history, node, source)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield from _of_call(history, node, source)


def _of_call(history: History, call: ast.Call, source: Source) -> Iterator[Cut]:
    name = called_name(call)
    if name == "query" and call.args:
        text = constant(history, call.args[0], source.place)
        told = re.search(r"([A-Za-z_]\w*)\s*(?:[<>]=?|==)\s*(.+)", text) if isinstance(text, str) else None
        if told:
            limit = _parsed(told[2].lstrip("@"))
            timely = bool(TIMELY.search(told[1]) or DATE.search(told[2].strip("'\"")))
            yield Cut("time" if timely else "rows", source, told[2].strip("'\""), limit)
    elif name == "sample" or (name == "drop" and call.args and _is_index(call.args[0])):
        yield Cut("random", source, "", None, _seed_of(history, call, source.place))
    elif name in ("head", "tail") and call.args:
        yield Cut("rows", source, ast.unparse(call.args[0]), call.args[0])
    elif name in ("truncate", "between_time", "last", "first"):
        yield Cut("time", source, ast.unparse(call.args[0]) if call.args else "")


def _seed_of(history: History, call: ast.Call, place: Place) -> str:
    """Give the seed of a sample, also where the rest is what the sample left."""
    near = [call, *(c for a in call.args for s in reach(history, a, place) for c in calls_in(s.node))]
    seeds = [argument_of(one, -1, "random_state") for one in near if called_name(one) in ("sample", "drop")]
    return next((ast.unparse(seed) for seed in seeds if seed is not None), "")


def _of_subscript(history: History, node: ast.Subscript, source: Source) -> Iterator[Cut]:
    if _takes_columns(history, node, source.place):
        return
    rows = node.slice.elts[0] if isinstance(node.slice, ast.Tuple) and node.slice.elts else node.slice
    if isinstance(rows, ast.Slice):
        limit = rows.lower or rows.upper
        if limit is not None:
            told = constant(history, limit, source.place)
            timely = isinstance(told, str) or _is_time(history, limit, source.place)
            yield Cut("time" if timely else "rows", source, _written(history, limit, source.place), limit)
        return
    for inner in reach(history, rows, source.place):
        for compare in (n for n in ast.walk(inner.node) if isinstance(n, ast.Compare)):
            yield from _of_comparison(history, compare, source, inner.place)
            return
        if any(called_name(c) in ("isin", "sample", "choice", "permutation") for c in calls_in(inner.node)):
            yield Cut("random", source, "")
            return


def _takes_columns(history: History, node: ast.Subscript, place: Place) -> bool:
    """Say whether `df[names]` takes columns: all rows stay."""
    key = history.seen(node.slice, place)
    if key is None or key.value.kind != "sequence":
        return False
    whole, part = history.seen(node.value, place), history.seen(node, place)
    return whole is not None and part is not None and whole.value.rows == part.value.rows


def _of_comparison(history: History, compare: ast.Compare, source: Source, place: Place) -> Iterator[Cut]:
    left, limit = compare.left, compare.comparators[0]
    if isinstance(left, ast.Constant):
        left, limit = limit, left
    drawn = [c for s in path(history, left, place) for c in calls_in(s.node) if called_name(c) in DRAWS]
    if drawn:
        yield Cut("random", source, "", None, _seed_of_draw(history, drawn[0], place))
        return
    told = constant(history, limit, place)
    name = left.attr if isinstance(left, ast.Attribute) else ""
    key = constant(history, left.slice, place) if isinstance(left, ast.Subscript) else None
    name = key if isinstance(key, str) else name
    dated = (
        (isinstance(told, str) and DATE.search(told))
        or _is_time(history, limit, place)
        or _is_time(history, left, place)
    )
    timely = bool(dated or TIMELY.search(name) or TIMELY.search(ast.unparse(left)))
    yield Cut("time" if timely else "rows", source, _written(history, limit, place), limit, place=place)


def _seed_of_draw(history: History, call: ast.Call, place: Place) -> str:
    """Give the seed of the generator that numbers are drawn from: `rng = np.random.RandomState(7)`."""
    generator = call.func.value if isinstance(call.func, ast.Attribute) else None
    for source in path(history, generator, place) if generator is not None else ():
        if isinstance(source.node, ast.Call) and called_name(source.node) in ("RandomState", "default_rng"):
            seed = argument_of(source.node, 0, "seed")
            return ast.unparse(seed) if seed is not None else ""
    return ""


def _is_time(history: History, node: ast.expr, place: Place) -> bool:
    seen = history.seen(node, place)
    if seen is None:
        return any(called_name(c) in ("Timestamp", "to_datetime", "datetime") for c in calls_in(node))
    return seen.value.kind == "time" or any(d.startswith("datetime") for d in seen.value.dtypes or [])


def _is_index(node: ast.expr) -> bool:
    return any(isinstance(n, ast.Attribute) and n.attr == "index" for n in ast.walk(node))


def _written(history: History, limit: ast.expr, place: Place) -> str:
    """Give a limit as it is written: a name's literal or expression."""
    told = constant(history, limit, place)
    if isinstance(told, str | int) and not isinstance(told, bool):
        return str(told)
    shown = limit
    for source in path(history, limit, place):
        shown = source.node
        if not isinstance(source.node, ast.Name):
            break
    return ast.unparse(shown)


def _parsed(text: str) -> ast.expr | None:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError:
        return None


def _moment(history: History, limit: ast.expr, place: Place) -> datetime | None:
    """Give the time at which a cut is."""
    texts = [n.value for n in ast.walk(limit) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    seen = history.seen(limit, place)
    told = constant(history, limit, place)
    texts += [told] if isinstance(told, str) else []
    literal = seen.value.literal if seen is not None else None
    texts += re.findall(r"'([^']+)'", literal or "")
    for text in reversed(texts):
        for shape in ("", "%Y-%m", "%d/%m/%Y", "%Y"):
            try:
                found = datetime.strptime(text, shape) if shape else datetime.fromisoformat(text)
            except ValueError:
                continue
            return found.replace(tzinfo=None)
    numbers = re.match(r"datetime\.(?:datetime|date)\((\d+), (\d+), (\d+)", literal or "")
    return datetime(int(numbers[1]), int(numbers[2]), int(numbers[3])) if numbers else None


def _limit_statements(history: History, cut: Cut) -> set[int]:
    """Give the statements that say where the cut is: those that make single values, up to the tables."""
    found, waiting = set[int](), [(cut.limit, cut.place or cut.source.place)] if cut.limit is not None else []
    while waiting:
        node, place = waiting.pop()
        for name in (n for n in ast.walk(node) if isinstance(n, ast.Name)):
            source = definition(history, name, place)
            if source is None or source.place.statement in found or _makes_tables(history, source.place.statement):
                continue
            found.add(source.place.statement)
            waiting.append((source.node, source.place))
    return found


def _is_chained(test: list[Source]) -> bool:
    """Say whether test rows were split off what another split had left: its share is of that part alone."""
    calls = {(s.place.cell, span_of(c)) for s in test for c in calls_in(s.node) if called_name(c) == "train_test_split"}
    return len(calls) > 1


def _makes_tables(history: History, statement: int) -> bool:
    did = history.did.get(statement)
    kinds = [value.kind for value in did.values.values()] if did is not None else []
    return not kinds or any(kind not in ("scalar", "text", "time") for kind in kinds)


def _share(fit: Fit, predict: Predict) -> float | None:
    train = fit.X.value.rows if fit.X is not None else None
    test = predict.X.value.rows if predict.X is not None else None
    return round(test / (train + test), 4) if train and test else None


def _names(history: History, cut: Cut, mine: list[Cut]) -> tuple[list[str], list[str]]:
    """Give the names that the split bound, for train and for test."""
    statement = history.statements.get(cut.source.place.statement)
    target = statement.node.targets[0] if statement is not None and isinstance(statement.node, ast.Assign) else None
    if isinstance(target, ast.Tuple) and any(called_name(c) == "train_test_split" for c in calls_in(cut.source.node)):
        names = [e.id if isinstance(e, ast.Name) else "" for e in target.elts]
        return [n for n in names[::2] if n], [n for n in names[1::2] if n]
    return [n for n in (c.source.name for c in mine[:1]) if n], [cut.source.name] if cut.source.name else []


def _argument_names(history: History, event: Fit | Predict) -> list[str]:
    """Give the names that a fit or a prediction was given, and those that they were made of one by one."""
    call, place = history.call_of(event), history.place_of(event)
    names = [a.source for a in ([event.X, event.y] if isinstance(event, Fit) else [event.X]) if a is not None]
    for argument in call.args if call is not None else []:
        names += _names_back(history, argument, place)
    tables = {n for s in history.trace.statements for n, v in s.values.items() if v.kind in TABLES}
    return [name for name in names if name in tables]


def _names_back(history: History, node: ast.expr, place: Place) -> list[str]:
    """Give the names that a value went by, back to where it was cut out of a table."""
    names = []
    for source in path(history, node, place):
        if isinstance(source.node, ast.Name):
            names.append(source.node.id)
        elif not isinstance(source.node, ast.Call) or called_name(source.node) == "train_test_split":
            break
    return names


def stops_on(history: History, fit: Fit, names: set[str]) -> bool:
    """Say whether early stopping looked at some of these tables."""
    call, place = history.call_of(fit), history.place_of(fit)
    for keyword in call.keywords if call is not None else []:
        if keyword.arg in WATCHED:
            for name in (n for n in ast.walk(keyword.value) if isinstance(n, ast.Name)):
                if names & {name.id, *_names_back(history, name, place)}:
                    return True
    return False
