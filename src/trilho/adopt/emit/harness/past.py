"""How many past rows a row's features really look at: found by leaving older ones away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PROBED = 30
MOST = 20_000  # past rows that are looked through for one row


def table_with_past(table: Any, target: str) -> Any:
    """Give the rows as a model of lags is given them: with the target, the last column and a float."""
    kept = table.drop(columns=target)
    return kept.assign(**{target: table[target].astype("float64")})


def past_facts(build: Callable[[Any], Any], rows: Any, told: dict[str, Any], target: str) -> dict[str, Any]:
    """Say how many past rows are enough for the features of each probed row, or why none are."""
    time, entity = told["time"], told["entity"]
    if rows[time].dtype.kind != "M":
        return {"rows": 0, "problem": f"{time} is no time as it is loaded: past rows are found by one"}
    made = build(rows)
    if len(made) != len(rows) or not made.index.is_unique or not made.index.isin(rows.index).all():
        return {"rows": 0, "problem": "its features do not keep the rows' labels"}
    made = made.loc[rows.index]
    enough = int(told["rows"])
    whose = f"its {' and '.join(entity)}" if entity else "the table"
    for place in _probed(made, rows[time]):
        past = _past(rows, place, time, entity)
        row, wanted = rows.iloc[[place]].assign(**{target: float("nan")}), made.iloc[place]

        def holds(count: int, past: Any = past, row: Any = row, wanted: Any = wanted) -> bool:
            return _same(_last(build, past, row, count), wanted)

        if holds(enough):
            continue
        if not holds(len(past)):
            told_why = f"the features of row {place} need more than the rows of {whose} before it"
            return {"rows": 0, "problem": told_why}
        enough = _fewest(holds, enough, len(past))
        if len(past) > 60 and enough > 0.8 * len(past):
            return {"rows": 0, "problem": f"the features look at all past rows of {whose}, not at a number of them"}
    return {"rows": max(enough, 1), "problem": ""}


def _probed(made: Any, moments: Any) -> list[int]:
    """Choose rows: the newest whose features are complete, and others spread over the time before."""
    import numpy as np

    known = np.flatnonzero(made.notna().all(axis=1).to_numpy() & moments.notna().to_numpy())
    known = known if len(known) else np.flatnonzero(moments.notna().to_numpy())
    order = known[np.argsort(moments.to_numpy()[known], kind="stable")]
    newest = order[-PROBED // 2 :]
    spread = order[np.linspace(0, len(order) - 1, min(len(order), PROBED)).astype(int)] if len(order) else order
    return [int(place) for place in dict.fromkeys([*newest.tolist(), *spread.tolist()])]


def _past(rows: Any, place: int, time: str, entity: list[str]) -> Any:
    row = rows.iloc[place]
    earlier = rows[time] < row[time]
    for name in entity:
        earlier &= rows[name].isna() if row[name] != row[name] else rows[name] == row[name]
    return rows[earlier].sort_values(time, kind="stable").tail(MOST)


def _last(build: Callable[[Any], Any], past: Any, row: Any, count: int) -> Any:
    import pandas as pd

    given = pd.concat([past.tail(count), row], ignore_index=True) if count else row.reset_index(drop=True)
    try:
        return build(given).loc[len(given) - 1]
    except Exception:  # noqa: BLE001  too few rows for the project's own code, which can raise anything
        return None


def _same(found: Any, wanted: Any) -> bool:
    if found is None or list(found.index) != list(wanted.index):
        return False
    pairs = zip(found.tolist(), wanted.tolist(), strict=True)
    return all(_equal(a, b) for a, b in pairs)


def _equal(a: Any, b: Any) -> bool:
    """Say whether two values are the same; a moving window's sum differs in its last digits by where it began."""
    import numpy as np

    numbers = all(isinstance(value, (int, float, np.number)) for value in (a, b))
    return bool(np.isclose(a, b, rtol=1e-9, atol=1e-9, equal_nan=True)) if numbers else a == b or (a != a and b != b)


def _fewest(holds: Callable[[int], bool], below: int, above: int) -> int:
    """Find the smallest count that is enough, where `below` is not and `above` is."""
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (below, middle) if holds(middle) else (middle, above)
    return above
