"""What the two helpers in the rewritten code do: see values, and watch calls."""

from __future__ import annotations

import collections
import functools
import operator
import os
import sys
from typing import Any, Callable

from .classify import classify
from .rewrite import Site
from .rows import RowBook, Rows, count_rows, layout, places
from .values import describe

ALL_UP_TO = 64  # evaluations of a site in one statement that are all looked at; later ones ever more rarely
OPERATORS = ("binop", "unaryop", "compare", "boolop")
HAVE_ROWS = ("frame", "series", "array", "sparse")


class Hook:
    """A helper of the rewritten code; in another process it only gives the second half of its pair."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.counts = recorder.counts

    def __reduce__(self) -> Any:
        return operator.itemgetter, (1,)


class See(Hook):
    """Notes what an expression is worth: at first always, in a loop ever more rarely."""

    def __call__(self, pair: Any) -> Any:
        """Give the value of a pair of site and value."""
        count = self.counts[pair[0]] = self.counts[pair[0]] + 1
        if count <= ALL_UP_TO or not count & (count - 1):
            self.recorder.see(pair[0], pair[1], count)
        return pair[1]


class Call(Hook):
    """Watches a call, where it is one that matters."""

    def __call__(self, pair: Any) -> Any:
        """Give what is called, or a stand-in for it, of a pair of site and function."""
        if self.counts[pair[0]] > ALL_UP_TO and pair[0] in self.recorder.dull:
            return pair[1]
        return self.recorder.call(pair[0], pair[1])


def in_frame(function: Any, frame: Any) -> Any:
    """Let a function that looks at its caller's variables, as queries and formulas do, find them."""
    names = {**frame.f_globals, **frame.f_locals}

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        names.update(_trilho_function_=function, _trilho_args_=args, _trilho_kwargs_=kwargs)
        return eval("_trilho_function_(*_trilho_args_, **_trilho_kwargs_)", names)  # noqa: S307  our own text

    for name in ("__self__", "__module__", "__qualname__", "__name__"):
        if hasattr(function, name):
            setattr(call, name, getattr(function, name))
    return call


class Recorder:
    """Sees the values of one statement after another."""

    def __init__(self, sites: list[Site], book: RowBook, handle: Callable[..., Any]) -> None:
        self.sites = sites
        self.book = book
        self.handle = handle
        self.counts: dict[int, int] = collections.defaultdict(int)
        self.dull: set[int] = set()  # sites of calls that are not worth watching for ever
        self.seen: dict[int, dict[str, Any]] = {}
        self.rows: dict[int, Rows | None] = {}
        self.arrays: dict[int, Any] = {}
        self.touched: dict[str, None] = {}
        self.functions: dict[str, dict[str, None]] = {}
        self.pid = os.getpid()
        self.active = True
        os.register_at_fork(after_in_child=self._stop)

    def _stop(self) -> None:
        self.active = False

    def start(self) -> None:
        """Forget the last statement."""
        self.counts.clear()
        self.dull.clear()
        self.seen, self.rows, self.touched, self.arrays = {}, {}, {}, {}

    def see(self, number: int, value: Any, count: int) -> None:
        """Note what an expression is worth."""
        if self.active:
            self._note(self.sites[number], value, count)

    def call(self, number: int, function: Any) -> Any:
        """Give what is to be called: the function itself, or one that watches the call."""
        if not self.active:
            return function
        site = self.sites[number]
        if site.name and site.name not in self.touched:
            self._touch(site)
        try:
            kind = classify(function)
        except Exception:  # noqa: BLE001  an odd callable is called as it is
            return function
        if kind in ("", "compute"):
            self.dull.add(number)
        if not kind:
            return function
        if kind in ("local", "formula"):
            function = in_frame(function, sys._getframe(2))
            kind = "compute" if kind == "local" else "dataset"

        def watched(*args: Any, **kwargs: Any) -> Any:
            return self.handle(kind, site, function, args, kwargs)

        return watched

    def _touch(self, site: Site) -> None:
        self.touched[site.name] = None
        if site.function:
            self.functions.setdefault(site.function, {})[site.name] = None

    def _note(self, site: Site, value: Any, count: int) -> None:
        if count == 1 and site.name:
            self._touch(site)
        try:
            told = describe(value)
            rows, carried = None, None
            if told["kind"] in HAVE_ROWS or (told["kind"] == "sequence" and told.get("rows", 0) > 1):
                rows = self.book.of(value, self._parents(site, value))
                if rows is None or rows.how == "length":
                    rows = self._by_kind(site, value) or rows
                if told["kind"] == "array":
                    self.arrays[site.id] = (layout(value), value if site.is_key else None)
                told["aligned"] = rows and rows.as_json()
            elif told["kind"] == "other":
                carried = self._rows_of_parent(site)
            self.rows[site.id] = rows or carried
            self.seen[site.id] = told
        except Exception as error:  # noqa: BLE001  a value that can't be looked at is still a value
            self.seen[site.id] = {"kind": "other", "type": type(value).__name__, "error": repr(error)[:200]}

    def _by_kind(self, site: Site, value: Any) -> Rows | None:
        """Give the rows of an operator's, an attribute's or a subscript's array."""
        if site.kind == "subscript" and site.parents:
            rows = self._subscripted(site, value)
            if rows is not None:
                self.book.replace(value, rows)
            return rows
        same = site.kind in OPERATORS or (site.kind == "attribute" and site.source.endswith((".values", ".array")))
        return self._elementwise(site, value) if same else None

    def _subscripted(self, site: Site, value: Any) -> Rows | None:
        """Give the rows of `X[:, 1]`, `X[:n]` or `X[mask]`."""
        rows, (whole, _) = self.rows.get(site.parents[0]), self.arrays.get(site.parents[0], (None, None))
        _, key = self.arrays.pop(site.parents[-1], (None, None)) if len(site.parents) == 2 else (None, None)
        if rows is None or rows.how == "length" or whole is None or not hasattr(value, "strides"):
            return None
        if "[:," in site.source.replace(" ", "") and len(value) == whole[2]:
            return rows
        order = places(value, whole, key)
        return None if order is None else self.book.take(rows, order)

    def _elementwise(self, site: Site, value: Any) -> Rows | None:
        """Let `p > 0.5` have the rows of `p`."""
        for parent in site.parents:
            rows = self.rows.get(parent)
            if rows is not None and rows.how != "length" and self.seen[parent].get("rows") == count_rows(value):
                self.book.replace(value, rows)
                return rows
        return None

    def _parents(self, site: Site, value: Any) -> list[Rows | None]:
        """Give the rows of what a value was made of; groups that were counted anew from 0 have none of them."""
        grouped = any("groupby" in str(self.seen.get(parent, {}).get("type")).lower() for parent in site.parents)
        known = [self.rows.get(parent) for parent in site.parents]
        if grouped and type(getattr(value, "index", None)).__name__ == "RangeIndex":
            return [
                rows for rows in known if rows is not None and rows.index is not None and len(rows.index) == len(value)
            ]
        return known

    def _rows_of_parent(self, site: Site) -> Rows | None:
        """Let `df.loc` and `df.groupby("x")` carry the rows of `df`."""
        return self.rows.get(site.parents[0]) if site.kind in ("attribute", "call") and site.parents else None

    def expressions(self) -> list[dict[str, Any]]:
        """Give what was seen in the statement, in the order of the source."""
        found = []
        for number in sorted(self.seen, key=lambda key: (self.sites[key].cell, self.sites[key].span)):
            site = self.sites[number]
            found.append({"span": site.span, "cell": site.cell, "value": self.seen[number],
                          "times": self.counts.get(number, 1)})  # fmt: skip
        return found
