"""Follows rows through what gives them new labels: merges, concatenations, sorting with `ignore_index`."""

from __future__ import annotations

import sys
from typing import Any, Callable

from .rows import RowBook, Rows

COUNTER = "_trilho_row_"
SORTS = ("sort_values", "drop_duplicates", "dropna", "sort_index")
Found = "list[tuple[Any, Rows]]"


def lineage(function: Any, args: Any, kwargs: Any, result: Any, rows_of: Callable[[Any], Rows | None],
            book: RowBook) -> list[tuple[Any, Rows]]:  # fmt: skip
    """Give the rows of a result, where labels don't tell them."""
    pd = sys.modules.get("pandas")
    name = getattr(function, "__name__", "")
    if pd is None or not isinstance(result, (pd.DataFrame, pd.Series)):
        return []
    if name == "merge":
        rows = _merged(function, args, kwargs, result, rows_of, book, pd)
    elif name == "concat":
        rows = _stacked(args, kwargs, result, rows_of, book)
    elif name in SORTS and kwargs.get("ignore_index") is True:
        rows = _sorted(function, args, kwargs, result, rows_of, book)
    else:
        rows = None
    return [] if rows is None else [(result, rows)]


def _merged(function: Any, args: Any, kwargs: Any, result: Any, rows_of: Any, book: RowBook, pd: Any) -> Rows | None:
    """Merge a row counter with the keys alone: it comes out in the order of the whole merge."""
    owner = getattr(function, "__self__", None)
    left, rest = (
        (owner, args) if isinstance(owner, pd.DataFrame) else (kwargs.get("left", args[0] if args else None), args[1:])
    )
    keywords = {key: value for key, value in kwargs.items() if key not in ("left", "suffixes", "validate", "indicator")}
    rows = rows_of(left)
    right = rest[0] if rest else keywords.get("right")
    if rows is None or not isinstance(left, pd.DataFrame) or not isinstance(right, pd.DataFrame):
        return None
    if len(rest) > 1 or keywords.get("left_index") or keywords.get("right_index"):
        return None
    keywords.pop("right", None)
    counted = left.copy(deep=False)
    counted[COUNTER] = range(len(left))
    keys = {key for name in ("on", "right_on") for key in _listed(keywords.get(name))}
    slim = right[[label for label in right.columns if label in keys]] if keys else right
    if keys:
        mine = {key for name in ("on", "left_on") for key in _listed(keywords.get(name))}
        counted = counted[[*(label for label in left.columns if label in mine), COUNTER]]
    places = counted.merge(slim, **keywords)[COUNTER]
    if len(places) != len(result) or places.isna().any():
        return None
    return book.take(rows, places.to_numpy().astype("int64"))


def _stacked(args: Any, kwargs: Any, result: Any, rows_of: Any, book: RowBook) -> Rows | None:
    parts = args[0] if args else kwargs.get("objs")
    if isinstance(parts, dict) or kwargs.get("axis", args[1] if len(args) > 1 else 0) not in (0, "index"):
        return None
    parts = list(parts) if isinstance(parts, (list, tuple)) else []
    known = [rows_of(part) for part in parts]
    if not parts or any(rows is None or rows.how == "length" for rows in known):
        return None
    read = known[0].read
    positions = [book.positions(rows, len(part)) for rows, part in zip(known, parts)]
    if any(each is None for each in positions) or sum(len(part) for part in parts) != len(result):
        return None
    positions = [each if rows.read == read else each * 0 - 1 for rows, each in zip(known, positions)]
    return book.take(Rows(read, "all", None), sys.modules["numpy"].concatenate(positions))


def _sorted(function: Any, args: Any, kwargs: Any, result: Any, rows_of: Any, book: RowBook) -> Rows | None:
    """Sort once more with the labels kept."""
    rows = rows_of(getattr(function, "__self__", None))
    if rows is None or kwargs.get("inplace"):
        return None
    labelled = function(*args, **{**kwargs, "ignore_index": False})
    found = book.of(labelled, [rows])
    return found if len(labelled) == len(result) else None


def _listed(keys: Any) -> list[Any]:
    return [] if keys is None else list(keys) if isinstance(keys, (list, tuple)) else [keys]
