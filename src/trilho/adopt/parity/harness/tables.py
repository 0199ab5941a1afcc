"""When two tables are the same: columns and their order, types as Parquet keeps them, and every value."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from ..equality import Found, alike_numbers, count_told, first_difference

if TYPE_CHECKING:
    from numpy.typing import NDArray


def compare_tables(found: Any, expected: Any, positions: NDArray[np.int64], tolerance: float = 0.0) -> Found:
    """Compare two frames: columns and their order, types as Parquet keeps them, and every value.

    That is done exactly, unless a tolerance lets numbers differ, relative to their size.
    """
    ours, theirs = list(map(str, found.columns)), list(map(str, expected.columns))
    if len(found) != len(expected):
        return Found(0, abs(len(found) - len(expected)), None, None, f"{len(expected)} rows wanted, {len(found)} given")
    if ours != theirs:
        return Found(len(found), len(found), None, None, columns_differ(ours, theirs))
    found, expected = as_kept(found), as_kept(expected)
    wrong, largest, types = np.zeros(len(found), dtype=bool), 0.0, []
    first: dict[str, Any] | None = None
    for index, name in enumerate(ours):
        a, b = found.iloc[:, index], expected.iloc[:, index]
        if str(a.dtype) != str(b.dtype):
            types.append(f"{name} is {a.dtype}, {b.dtype} in the notebook")
        here = ~same_values(a, b)
        if tolerance and here.any() and a.dtype.kind == b.dtype.kind == "f":
            here &= ~alike_numbers(a.to_numpy(np.float64), b.to_numpy(np.float64), tolerance)[0]
        largest = max(largest, _largest(a, b))
        if here.any() and first is None:
            first = first_difference(np.flatnonzero(here), positions, name, b.to_numpy(), a.to_numpy())
        wrong |= here
    different = int(wrong.sum()) or (len(found) if types else 0)
    reason = "; ".join([*types[:3], *filter(None, [count_told(np.flatnonzero(wrong), len(found))])])
    return Found(len(found), different, largest, first, reason)


def uncategorised(frame: Any) -> Any:
    """Give a table with the values in place of the categories that they are."""
    kinds = {name: frame[name].cat.categories.dtype for name in frame.columns if str(frame[name].dtype) == "category"}
    return frame.astype(kinds)


def retyped(frame: Any, wanted: Any) -> Any:
    """Give columns of floats the whole numbers' type that they have in another table, where they hold nothing else."""
    kinds = {
        name: wanted[name].dtype
        for name in frame.columns
        if name in wanted.columns and (frame[name].dtype.kind, wanted[name].dtype.kind) in (("f", "i"), ("f", "u"))
        and bool((frame[name] == np.floor(frame[name])).all())
    }  # fmt: skip
    return frame.astype(kinds)


def same_values(a: Any, b: Any) -> NDArray[np.bool_]:
    """Say for each row of two columns whether the values are the same; missing values equal each other."""
    empty = a.isna().to_numpy() & b.isna().to_numpy()
    if str(a.dtype) == str(b.dtype) and str(a.dtype) != "category":
        with np.errstate(invalid="ignore"):
            same = (a.reset_index(drop=True) == b.reset_index(drop=True)).fillna(False)
        return np.asarray(np.asarray(same, dtype=bool) | empty, dtype=bool)
    pairs = zip(a.astype(object).to_numpy(), b.astype(object).to_numpy(), strict=True)
    same = np.fromiter((equal(x, y) for x, y in pairs), dtype=bool, count=len(a))
    return np.asarray(same | empty, dtype=bool)


def equal(a: Any, b: Any) -> bool:
    """Say whether two values are the same; a truth value and a number are not."""
    try:
        return bool(a == b) and isinstance(a, (bool, np.bool_)) == isinstance(b, (bool, np.bool_))
    except (TypeError, ValueError):
        return False


def as_kept(frame: Any) -> Any:
    """Give a frame as Parquet gives it back: what Parquet does not keep can't be compared."""
    import pandas as pd

    plain = frame.reset_index(drop=True)
    plain.columns = list(map(str, plain.columns))
    try:
        kept = io.BytesIO()
        plain.to_parquet(kept, index=False)
        return pd.read_parquet(kept)
    except Exception:  # noqa: BLE001  objects that Parquet has no type for: they are compared as they are
        return plain


def columns_differ(ours: list[str], theirs: list[str]) -> str:
    """Say in words how two lists of columns differ.

    >>> columns_differ(["a", "c"], ["a", "b"])
    'without b; with c besides'
    """
    missing, more = [c for c in theirs if c not in ours], [c for c in ours if c not in theirs]
    said = [f"without {', '.join(missing[:5])}"] if missing else []
    said += [f"with {', '.join(more[:5])} besides"] if more else []
    return "; ".join(said) or f"the columns are in another order: {', '.join(ours[:8])}"


def _largest(a: Any, b: Any) -> float:
    if a.dtype.kind not in "iuf" or b.dtype.kind not in "iuf":
        return 0.0
    apart = np.abs(a.to_numpy(np.float64, na_value=np.nan) - b.to_numpy(np.float64, na_value=np.nan))
    apart = apart[np.isfinite(apart)]
    return float(apart.max()) if len(apart) else 0.0
