"""What came true, as the log holds it: a number as it is, a text or a boolean as its JSON in a blob.

SQLite makes a number of a text that looks like one where a column is of numbers; a blob it leaves as it is. So "7",
7 and true stay what they are from the line to the index, the Parquet files and whoever reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from trilho.serve.index import number_of
from trilho_runtime.prediction.log import LONGEST_LABEL

Truth = float | str | bool
Stored = float | bytes


def truth_of(value: object) -> Truth | None:
    """Read what a line says came true; None for what can be no label of any model.

    >>> [truth_of(x) for x in (7, "7", True, float("nan"), [7])]
    [7.0, '7', True, None, None]
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value if 0 < len(value) <= LONGEST_LABEL else None
    return number_of(value)


def stored(truth: Truth) -> Stored:
    """Give a label as the index holds it."""
    return orjson.dumps(truth) if isinstance(truth, str | bool) else float(truth)


def restored(value: Stored) -> Truth:
    """Give a label of the index as it came.

    >>> [restored(stored(x)) for x in (7.0, "7", True)]
    [7.0, '7', True]
    """
    return orjson.loads(value) if isinstance(value, bytes) else float(value)


def column(values: Sequence[Stored | None]) -> NDArray[Any]:
    """Give labels of the index as a column: of numbers with NaN for none, else of objects with None for none.

    >>> column([1.0, None]).tolist(), column([b'"a"', None, b"true"]).tolist()
    ([1.0, nan], ['a', None, True])
    """
    if not any(isinstance(value, bytes) for value in values):
        return np.array([np.nan if value is None else value for value in values], np.float64)
    found = np.empty(len(values), object)
    found[:] = [None if value is None else restored(value) for value in values]
    return found


def joined(rows: NDArray[Any], labels: Sequence[tuple[int, Stored]]) -> NDArray[Any]:
    """Give the label of each row, of those (row, label) that the index gave, in any order."""
    if any(isinstance(value, bytes) for _, value in labels):
        known = dict(labels)
        return column([known.get(row) for row in rows.tolist()])
    value = np.full(len(rows), np.nan)
    if labels:
        table = np.array(sorted(labels), dtype=np.float64)
        at = np.minimum(np.searchsorted(table[:, 0], rows), len(table) - 1)
        hit = table[at, 0] == rows
        value[hit] = table[at[hit], 1]
    return value


def label_columns(given: Sequence[tuple[int, Stored]]) -> dict[str, NDArray[Any]]:
    """Give labels (row, label) as the columns of a file."""
    from trilho.serve.columns import to_column

    labels = to_column([restored(value) for _, value in given])
    return {
        "_row": np.array([row for row, _ in given], np.int64),
        "_label": np.array([], np.float64) if labels is None else labels,
    }
