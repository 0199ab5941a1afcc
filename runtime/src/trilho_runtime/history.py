"""The past of each entity: the raw rows that a model whose features look back is given before the row it is asked.

A model of lags or rolling sums describes a row by the rows before it. In training those stand in the table; a served
row comes alone. A package therefore carries the newest rows of each entity with their targets, and a served row is
answered as the last row of a small table: its past, then itself, its target unknown. The project's own function
computes the features of both, so that the two cannot differ.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import orjson
from numpy.typing import NDArray

State = Literal["fresh", "stale", "late", "none"]
STATES: tuple[State, ...] = get_args(State)
USUAL = 0.9  # a step between two past rows is usual when so many of an entity's are no longer
JSON = ".json"  # how the name of an array ends that holds texts or nulls

Columns = Mapping[str, NDArray[Any]]
Key = tuple[Hashable, ...]


class Past(NamedTuple):
    """Where the past of one row lies in the history, and how it stands to the row.

    "fresh": it ends where the row's entity was to be expected next; "stale": it ends earlier, so that rows are missing;
    "late": the row is no later than the newest row kept, so that its past may be cut short; "none": there is no past.
    """

    start: int
    stop: int
    state: State


class History:
    """The newest raw rows of each entity, in order of time, with their targets."""

    def __init__(
        self,
        columns: Columns,
        values: NDArray[np.float64],
        starts: NDArray[np.int64],
        *,
        target: str,
        time: str,
        entity: Sequence[str],
        rows: int,
    ) -> None:
        self.columns = columns
        self.values = values
        self.target, self.time, self.entity, self.rows = target, time, tuple(entity), rows
        self._starts = starts
        first = keys_of({name: columns[name][starts] for name in entity}, entity, len(starts))
        stops = [*starts.tolist(), len(values)][1:]
        self._places = dict(zip(first, zip(starts.tolist(), stops, strict=True), strict=True))

    @classmethod
    def fit(
        cls,
        columns: Columns,
        values: NDArray[np.float64],
        *,
        target: str,
        time: str,
        entity: Sequence[str],
        rows: int,
        asked: Columns | None = None,
    ) -> History:
        """Keep the newest `rows` rows of each entity, and of `asked` rows whatever their past needs besides.

        >>> days = np.array(["2024-01-01", "2024-01-02", "2024-01-03"], "datetime64[us]")
        >>> kept = History.fit({"day": days}, np.arange(3.0), target="y", time="day", entity=[], rows=2)
        >>> kept.values, kept.find({"day": days[2:]})
        (array([1., 2.]), [Past(start=0, stop=1, state='late')])
        """
        moments = columns[time]
        keys = keys_of(columns, entity, len(moments))
        oldest = _oldest(keys_of(asked, entity, len(asked[time])), asked[time]) if asked is not None else {}
        names: dict[Key, int] = {}
        codes = np.array([names.setdefault(key, len(names)) for key in keys], np.int64)
        order = np.lexsort((moments, codes))  # rows of one time stay in the table's order
        order = order[~np.isnat(moments[order])]
        ends = np.searchsorted(codes[order], np.arange(len(names)), side="right").tolist()
        parts, starts, begin, count = [], [], 0, 0
        for key, end in zip(names, ends, strict=True):
            part = order[begin:end]
            part = part[_first_kept(moments[part], rows, oldest.get(key)) :]
            begin = end
            if len(part):
                parts.append(part)
                starts.append(count)
                count += len(part)
        kept = np.concatenate(parts) if parts else order
        told = {"target": target, "time": time, "entity": entity, "rows": rows}
        return cls(
            {name: column[kept] for name, column in columns.items()},
            values[kept],
            np.array(starts, np.int64),
            **told,  # type: ignore[arg-type]
        )

    @classmethod
    def load(cls, file: Path, names: Iterable[str], told: Mapping[str, Any]) -> History:
        """Read what `to_arrays` gave, from an .npz file; `names` are its columns, `told` is what `to_json` gave."""
        with np.load(file, allow_pickle=False) as archive:
            columns = {name: _decoded(archive, str(place)) for place, name in enumerate(names)}
            values, starts = archive["values"], archive["starts"]
        given = {key: told[key] for key in ("target", "time", "entity", "rows")}
        return cls(columns, values, starts, **given)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Give it as arrays that need no pickle: each column under its place, texts as JSON."""
        found = dict(_encoded(str(place), column) for place, column in enumerate(self.columns.values()))
        return {**found, "values": self.values, "starts": self._starts}

    def to_json(self) -> dict[str, Any]:
        """Say what it is of, as a manifest does."""
        told = {"target": self.target, "time": self.time, "entity": list(self.entity), "rows": self.rows}
        return {**told, "entities": len(self._starts), "until": self.until}

    @property
    def until(self) -> str | None:
        """Give the time of the newest row kept, ISO 8601."""
        return self.columns[self.time].max().item().isoformat() if len(self.values) else None

    def newest(self, key: Key) -> Any:
        """Give the time of an entity's newest row kept; None for an entity that is not known."""
        start, stop = self._places.get(key, (0, 0))
        return self.columns[self.time][stop - 1] if stop > start else None

    def find(self, columns: Columns) -> list[Past]:
        """Find the past of each row: its entity's newest `rows` rows that are strictly earlier than it."""
        moments = columns[self.time]
        keys = keys_of(columns, self.entity, len(moments))
        return [self._find(key, moment) for key, moment in zip(keys, moments, strict=True)]

    def _find(self, key: Key, moment: Any) -> Past:
        start, stop = self._places.get(key, (0, 0))
        if start == stop or np.isnat(moment):
            return Past(0, 0, "none")
        moments = self.columns[self.time][start:stop]
        earlier = int(np.searchsorted(moments, moment, side="left"))
        state: State = "fresh"
        if earlier < len(moments):
            state = "late"
        elif (usual := usual_step(moments)) is not None and moment - moments[-1] > usual:
            state = "stale"
        return Past(start + max(0, earlier - self.rows), start + earlier, state)

    def renewed(self, columns: Columns, values: NDArray[np.float64], asked: Columns) -> History:
        """Give the history of the asked rows' entities with newer rows put in.

        From the oldest row on that is given of an entity, what is given stands in the place of what was kept.

        >>> days = np.array(["2024-01-01", "2024-01-02", "2024-01-03"], "datetime64[us]")
        >>> told = {"target": "y", "time": "day", "entity": [], "rows": 2}
        >>> kept = History.fit({"day": days[:2]}, np.array([1.0, 2.0]), **told)
        >>> kept.renewed({"day": days[1:]}, np.array([7.0, 3.0]), {"day": days[2:]}).values
        array([1., 7., 3.])
        """
        oldest = _oldest(keys_of(columns, self.entity, len(values)), columns[self.time])
        keep: list[int] = []
        for key in dict.fromkeys(keys_of(asked, self.entity, len(asked[self.time]))):
            start, stop = self._places.get(key, (0, 0))
            moments = self.columns[self.time][start:stop]
            own = len(moments) if key not in oldest else int(np.searchsorted(moments, oldest[key], side="left"))
            keep += range(start, start + own)
        place = np.array(keep, np.int64)
        return History.fit(
            {name: np.concatenate([own[place], columns[name]]) for name, own in self.columns.items()},
            np.concatenate([self.values[place], values]),
            target=self.target,
            time=self.time,
            entity=self.entity,
            rows=self.rows,
            asked=asked,
        )

    def table(self, columns: Columns, row: int, past: Past) -> dict[str, NDArray[Any]]:
        """Give one row after its past, by column; the target is the last one, and unknown for the row itself."""
        place = slice(past.start, past.stop)
        found = {n: np.concatenate([own[place], columns[n][row : row + 1]]) for n, own in self.columns.items()}
        return {**found, self.target: np.append(self.values[place], np.nan)}


def keys_of(columns: Columns, entity: Sequence[str], count: int) -> list[Key]:
    """Name the entity of each of so many rows; without an entity all rows are of one.

    >>> keys_of({"shop": np.array([1.0, np.nan])}, ["shop"], 2), keys_of({}, [], 1)
    ([(1.0,), (None,)], [()])
    """
    if not entity:
        return [()] * count
    parts = [[None if value != value else value for value in columns[name].tolist()] for name in entity]
    return list(zip(*parts, strict=True))


def usual_step(moments: NDArray[Any]) -> Any:
    """Give the step between two times that nine in ten steps of a series do not exceed; None for fewer than two times.

    >>> usual_step(np.array(["2024-01-05", "2024-01-08", "2024-01-09"], "datetime64[D]"))
    np.timedelta64(3,'D')
    """
    steps = np.sort(np.diff(moments))
    steps = steps[steps > np.timedelta64(0)]
    return steps[int(np.ceil(USUAL * len(steps))) - 1] if len(steps) else None


def _oldest(keys: Sequence[Key], moments: NDArray[Any]) -> dict[Key, Any]:
    found: dict[Key, Any] = {}
    for key, moment in zip(keys, moments, strict=True):
        if not np.isnat(moment):
            found[key] = min(moment, found.get(key, moment))
    return found


def _first_kept(moments: NDArray[Any], rows: int, oldest: Any) -> int:
    """Give the place from which an entity's rows are kept: `rows` before the oldest asked, or before what comes."""
    asked = len(moments) if oldest is None else int(np.searchsorted(moments, oldest, side="left"))
    return max(0, asked - rows)


def _encoded(name: str, column: NDArray[Any]) -> tuple[str, NDArray[Any]]:
    if column.dtype != object:
        return name, column
    return name + JSON, np.frombuffer(orjson.dumps(column.tolist()), np.uint8)


def _decoded(archive: Any, name: str) -> NDArray[Any]:
    if name in archive.files:
        return np.asarray(archive[name])
    return np.array(orjson.loads(archive[name + JSON].tobytes()), object)
