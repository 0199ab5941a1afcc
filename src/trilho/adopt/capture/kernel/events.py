"""What happened in watched calls: fits, questions to models, metrics, splits, reads; and the objects they are about."""

from __future__ import annotations

import inspect
import sys
import types
from typing import Any, Callable

from .digests import Digester
from .lineage import lineage
from .objects import Made, Objects
from .rewrite import Site
from .rows import RowBook, Rows
from .store import Store, size_of
from .values import describe, full_name, is_estimator, kind_of

CALLS_PER_SITE = 64
HELD = 1 << 30  # bytes of what models were asked
PARTS = 50  # of a list, that are looked at for rows
ELEMENTWISE = ("transform", "predict", "predict_proba", "decision_function", "predict_log_proba", "inverse_transform",
               "score_samples", "fit_transform", "fit_predict", "inplace_predict")  # fmt: skip
SAME_ROWS = ("reset_index", "set_index", "to_numpy", "astype", "copy", "fillna", "map", "to_frame", "rename",
             "set_axis", "log1p", "log", "exp", "expm1", "sqrt", "asarray", "array", "clip", "where", "abs",
             "Series", "DataFrame", "csr_matrix", "hstack", "column_stack", "get_dummies", "assign", "ravel",
             "nan_to_num", "reshape", "concatenate", "power", "squeeze", "round", "replace", "select",
             "digitize", "searchsorted", "full_like", "ones_like")  # fmt: skip


class Events:
    """Handles watched calls, and keeps what they were."""

    def __init__(self, book: RowBook, store: Store, objects: Objects, where: Callable[[Any], tuple[int, Any]]) -> None:
        self.book, self.store, self.objects, self.where = book, store, objects, where
        self.calls: list[dict[str, Any]] = []
        self.metrics: list[dict[str, Any]] = []
        self.splits: list[dict[str, Any]] = []
        self.fits: list[dict[str, Any]] = []
        self.predicts: list[dict[str, Any]] = []
        self.made: dict[int, tuple[Any, Made]] = {}
        self.asked: dict[tuple[str, int], tuple[Any, dict[str, Any], Any]] = {}  # event -> X, keywords, rows
        self.statement = -1
        self.order = 0
        self.times: dict[int, int] = {}
        self.problems: list[str] = []
        self.handlers: dict[str, Callable[..., Any]] = {}

    def start(self, statement: int) -> None:
        """Go on to another statement."""
        self.statement = statement
        self.times = {}

    def handle(self, kind: str, site: Site, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Do a watched call, and note what it was."""
        handler = self.handlers.get(kind) or getattr(self, f"_{kind}")
        return handler(site, function, args, kwargs)

    def safely(self, note: Callable[..., Any], *given: Any) -> Any:
        """Note something; what can't be noted does not disturb the notebook."""
        try:
            return note(*given)
        except Exception as error:  # noqa: BLE001  values do anything when they are looked at
            self.problems.append(f"{note.__name__}: {error!r}")
            return None

    # handlers

    def _compute(self, site: Site, function: Any, args: Any, kwargs: Any) -> Any:
        owner = getattr(function, "__self__", None)
        before = self.rows(owner) if kwargs.get("inplace") is True else None
        result = function(*args, **kwargs)
        self.safely(self._computed, site, function, args, kwargs, result, before)
        return result

    def _computed(self, site: Site, function: Any, args: Any, kwargs: Any, result: Any, before: Rows | None) -> None:
        if before is not None:
            self._changed_in_place(function, before)
        else:
            self._inherit(function, args, result)
            for part, rows in lineage(function, args, kwargs, result, self.rows, self.book):
                self.book.replace(part, rows)
        count = self.times[site.id] = self.times.get(site.id, 0) + 1
        if count <= CALLS_PER_SITE:
            self.calls.append(self._call(site, function, args, kwargs, result))

    def _changed_in_place(self, function: Any, before: Rows) -> None:
        owner = function.__self__
        if function.__name__ in SAME_ROWS:
            self.book.replace(owner, before)
        else:
            self.book.of(owner, [before])

    def _metric(self, site: Site, function: Any, args: Any, kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        self.safely(self._called, site, function, args, kwargs, result, self.metrics)
        return result

    def _called(self, site: Site, function: Any, args: Any, kwargs: Any, result: Any, also: list[Any]) -> None:
        call = self._call(site, function, args, kwargs, result, keep=True)
        self.calls.append(call)
        also.append(call)

    def _split(self, site: Site, function: Any, args: Any, kwargs: Any) -> Any:
        known = [self.safely(self.rows, value) for value in args]
        if getattr(function, "__name__", "") == "train_test_split" and any(known) and "numpy" in sys.modules:
            result = self._split_rows(function, args, kwargs, known)
        else:
            result = function(*args, **kwargs)
            if isinstance(result, types.GeneratorType):
                result = list(result)
                self.safely(self._called, site, function, args, kwargs, result, self.splits)
                return iter(result)
        self.safely(self._called, site, function, args, kwargs, result, self.splits)
        return result

    def _split_rows(self, function: Any, args: Any, kwargs: Any, known: list[Rows | None]) -> Any:
        """Split a row counter along with the arrays, so that it is known which rows went where."""
        counter = sys.modules["numpy"].arange(_length(args[0]))
        *result, train, test = function(*args, counter, **kwargs)
        for i, rows in enumerate(known):
            if rows is not None and rows.how != "length":
                for part, order in ((result[2 * i], train), (result[2 * i + 1], test)):
                    self.book.inherit(part, self.book.take(rows, order))
        return result

    def _dataset(self, site: Site, function: Any, args: Any, kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        self.safely(self._datasets, site, function, args, kwargs, result)
        return result

    def _datasets(self, site: Site, function: Any, args: Any, kwargs: Any, result: Any) -> None:
        bound = bound_arguments(function, args, kwargs)
        sources = _sources(site, function, args, kwargs)
        X, y = ("data", "label") if "endog" not in bound else ("exog", "endog")
        told = {"data": sources.get(X, ""), "label": sources.get(y, "")}
        given = (bound.pop(X, None), bound.pop(y, None))
        if "formula" in bound:
            given, told["label"] = _of_formula(result, given[0], told["data"])
        made = Made(*given, bound, {**sources, **told}, function)
        self.made[id(result)] = (result, made)
        self.calls.append(self._call(site, function, args, kwargs, result))

    def _fit(self, site: Site, function: Any, args: Any, kwargs: Any) -> Any:
        owner = function.__self__
        order = self._next()
        result = function(*args, **kwargs)
        self.objects.change(owner)
        self.safely(self._fits, site, function, args, kwargs, result, order)
        return result

    def _fits(self, site: Site, function: Any, args: Any, kwargs: Any, result: Any, order: int) -> None:
        owner, how = function.__self__, function.__name__
        both = how in ("fit_transform", "fit_predict", "fit_resample")
        learned = result if not both and result is not owner and is_estimator(result) else owner
        sources = _sources(site, function, args, kwargs)
        bound = bound_arguments(function, args, kwargs)
        names = list(bound)
        X = _first(bound, names, ("X", "data", "X_train", "x", "dtrain"), 0)
        y = _first(bound, names, ("y", "Y", "label", "target", "y_train"), 1)
        made = self.made_of(bound.get(X)) or self.made_of(owner)
        if made is not None:
            bound.pop(X, None)
            told = {"X": made.sources.get("data", ""), "y": made.sources.get("label", "")}
            given = (made.X, made.y)
        else:
            told = {"X": sources.get(X, ""), "y": sources.get(y, "")}
            given = (bound.pop(X, None), bound.pop(y, None))
        fit = self._fitted(site, function, learned, *given, bound, {**sources, **told}, order)
        fit["how"] = "fit" if how in ("fit_regularized", "update", "boost") else how
        if both and how != "fit_resample":
            self._inherit(function, args, result)
            self._predicted(site, function, owner, args, kwargs, result, order)

    def _train(self, site: Site, function: Any, args: Any, kwargs: Any) -> Any:
        order = self._next()
        result = function(*args, **kwargs)
        self.safely(self._trains, site, function, args, kwargs, result, order)
        return result

    def _trains(self, site: Site, function: Any, args: Any, kwargs: Any, result: Any, order: int) -> None:
        bound = bound_arguments(function, args, kwargs)
        sources = _sources(site, function, args, kwargs)
        name = next((key for key in ("dtrain", "train_set", "pool") if key in bound), "")
        made = self.made_of(bound.pop(name, None))
        told = {"X": made.sources.get("data", ""), "y": made.sources.get("label", "")} if made else {}
        X, y = (made.X, made.y) if made else (None, None)
        self._fitted(site, function, result, X, y, bound, {**sources, **told}, order)["how"] = "train"

    def _predict(self, site: Site, function: Any, args: Any, kwargs: Any) -> Any:
        order = self._next()
        result = function(*args, **kwargs)
        self.safely(self._predicts, site, function, args, kwargs, result, order)
        return result

    def _predicts(self, site: Site, function: Any, args: Any, kwargs: Any, result: Any, order: int) -> None:
        self._inherit(function, args, result)
        self._predicted(site, function, function.__self__, args, kwargs, result, order)

    # records

    def _place(self, site: Site) -> dict[str, Any]:
        cell, span = self.where(site)
        return {"cell": cell, "span": span}

    def _call(
        self, site: Site, function: Any, args: Any, kwargs: Any, result: Any, keep: bool = False
    ) -> dict[str, Any]:
        sources = _argument_sources(site, len(args), list(kwargs))
        given = [("", value) for value in args] + list(kwargs.items())
        arguments = [
            {"source": source, "value": self.value(value, keep), "name": name}
            for source, (name, value) in zip(sources, given)
        ]
        return {"id": len(self.calls), "statement": self.statement, **self._place(site),
                "function": full_name(function), "arguments": arguments, "result": self.value(result, keep),
                "order": self._next()}  # fmt: skip

    def _fitted(self, site: Site, function: Any, learned: Any, X: Any, y: Any, others: dict[str, Any],
                sources: dict[str, str], order: int) -> dict[str, Any]:  # fmt: skip
        fit = {
            "id": len(self.fits), "statement": self.statement, **self._place(site),
            "object": self.objects.number(learned), "how": "fit", "function": full_name(function),
            "X": self._argument("X", X, sources), "y": self._argument("y", y, sources),
            "others": [self._argument(name, value, sources, name) for name, value in others.items()],
            "order": order,
        }  # fmt: skip
        self.fits.append(fit)
        for event in [key for key in self.asked if key[0] == "fit" and self.fits[key[1]]["object"] == fit["object"]]:
            del self.asked[event]
        self._hold("fit", len(self.fits) - 1, X, {}, self.rows(y) or self.rows(X))
        return fit

    def _predicted(
        self, site: Site, function: Any, owner: Any, args: Any, kwargs: Any, result: Any, order: int
    ) -> None:
        bound = bound_arguments(function, args, kwargs)
        sources = _sources(site, function, args, kwargs)
        name = next(iter(bound), "")
        X = bound.get(name)
        made = self.made_of(X)
        if made is not None:
            X, sources = made.X, {**sources, name: made.sources.get("data", "")}
        self.predicts.append({
            "id": len(self.predicts), "statement": self.statement, **self._place(site),
            "object": self.objects.number(owner), "method": function.__name__,
            "X": self._argument(name, X, sources), "result": self.value(result, True), "order": order,
        })  # fmt: skip
        rest = {key: value for key, value in bound.items() if key != name}
        rows = self.rows(X) or self.rows(made.y if made else None)
        self._hold("predict", len(self.predicts) - 1, X, rest, rows)

    def _hold(self, event: str, number: int, X: Any, keywords: dict[str, Any], rows: Rows | None) -> None:
        """Keep what a model was asked, to ask it again at the end; of much only the latest."""
        self.asked[event, number] = (X, keywords, rows)
        held = sum(size_of(held[0]) for held in self.asked.values())
        for key in [key for key in self.asked if key[0] == "predict" and key != (event, number)]:
            if held <= HELD:
                return
            held -= size_of(self.asked.pop(key)[0])

    def _argument(self, name: str, value: Any, sources: dict[str, str], keyword: str = "") -> dict[str, Any] | None:
        if value is None and not keyword:
            return None
        return {"source": sources.get(name, ""), "value": self.value(value, keep=True), "name": keyword}

    def value(self, value: Any, keep: bool = False) -> dict[str, Any]:
        """Describe a value, and with `keep` keep its content."""
        told = describe(value)
        rows = self.rows(value)
        if rows is not None:
            told["aligned"] = rows.as_json()
        if told["kind"] in ("estimator", "booster"):
            told["object"] = self.objects.number(value)
        elif keep and told["kind"] in ("frame", "series", "array", "sparse", "sequence", "mapping"):
            told["digest"] = Digester(self.objects.version).of(value)[0]
            told["file"] = self.store.keep(value, told["digest"])
        return told

    def rows(self, value: Any) -> Rows | None:
        """Give the rows of a table, array or list."""
        if kind_of(value) in ("frame", "series", "array", "sparse", "sequence"):
            return self.book.of(value)
        return None

    def made_of(self, dataset: Any) -> Made | None:
        """Give what a dataset of xgboost, lightgbm or catboost was made of."""
        held = self.made.get(id(dataset))
        return held[1] if held is not None and held[0] is dataset else None

    def _inherit(self, function: Any, args: Any, result: Any) -> None:
        """Let a result have the rows of what it was computed from, one for one."""
        name = getattr(function, "__name__", "")
        if name not in ELEMENTWISE and name not in SAME_ROWS:
            return
        owner = getattr(function, "__self__", None)
        parts = [part for value in args if isinstance(value, (list, tuple)) and len(value) <= PARTS for part in value]
        for source in [*([] if name in ELEMENTWISE else [owner]), *args, *parts]:
            made = self.made_of(source)
            rows = self.rows(made.X) if made else self.rows(source)
            if rows is not None and rows.how != "length" and _length(made.X if made else source) == _length(result):
                self.book.inherit(result, rows)
                return

    def _next(self) -> int:
        self.order += 1
        return self.order


def _of_formula(model: Any, data: Any, source: str) -> tuple[tuple[Any, Any], str]:
    """Give what a model with a formula is fitted to, the table and the formula's left side, and the latter's source."""
    name = getattr(model, "endog_names", None)
    if isinstance(name, str) and kind_of(data) == "frame" and name in data:
        return (data, data[name]), f"{source}[{name!r}]"
    return (data, getattr(model, "endog", None)), ""


def _length(value: Any) -> int:
    shape = getattr(value, "shape", None)
    if shape:
        return int(shape[0])
    return len(value) if isinstance(value, (list, tuple)) else -1


def bound_arguments(function: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """Give arguments by the names of the parameters."""
    try:
        signature = inspect.signature(function)
        bound = signature.bind(*args, **kwargs).arguments
    except (TypeError, ValueError):
        return {**{f"arg{i}": value for i, value in enumerate(args)}, **kwargs}
    named = dict(bound)
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            named.update(named.pop(name, {}))
        elif parameter.kind is parameter.VAR_POSITIONAL:
            named.update({f"{name}{i}": value for i, value in enumerate(named.pop(name, ()))})
    return named


def _argument_sources(site: Site, positional: int, keywords: list[str]) -> list[str]:
    plain = [source for name, source in site.arguments if not name]
    starred = [source for name, source in site.arguments if name == "*"]
    by_name = dict(site.arguments)
    filler = f"*{starred[0]}" if starred else ""
    spread = f"**{by_name['**']}" if "**" in by_name else ""
    sources = [(plain[i] if i < len(plain) and not starred else filler or "") for i in range(positional)]
    return sources + [by_name.get(name, spread) for name in keywords]


def _sources(site: Site, function: Any, args: Any, kwargs: Any) -> dict[str, str]:
    """Give the source text of each parameter that was given."""
    given = _argument_sources(site, len(args), list(kwargs))
    marked = [_Mark(source) for source in given]
    bound = bound_arguments(function, tuple(marked[: len(args)]), dict(zip(kwargs, marked[len(args) :])))
    return {name: value.source for name, value in bound.items() if isinstance(value, _Mark)}


class _Mark:
    """Stands for an argument while its parameter is found."""

    def __init__(self, source: str) -> None:
        self.source = source


def _first(bound: dict[str, Any], names: list[str], usual: tuple[str, ...], position: int) -> str:
    for name in usual:
        if name in bound:
            return name
    name = names[position] if position < len(names) else ""
    return name if kind_of(bound.get(name)) in ("frame", "series", "array", "sparse", "sequence", "dataset") else ""
