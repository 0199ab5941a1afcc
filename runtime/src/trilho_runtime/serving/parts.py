"""Parts: the jobs of a turn, checked, and put together into tables that are predicted at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.package import Predictor
from trilho_runtime.prediction.job import Job, Outcome
from trilho_runtime.schema.reading import Reader
from trilho_runtime.schema.signature import RowError
from trilho_runtime.serving.loaded import Loaded
from trilho_runtime.web.http import HttpError
from trilho_runtime.web.measures import Tally

if TYPE_CHECKING:
    from trilho_runtime.serving.lookup import Lookup

AHEAD = timedelta(days=366)  # forecasts are of the future; a year on, the caller's clock is wrong

Columns = Mapping[str, NDArray[Any]]
Found = list["Outcome | Exception | None"]


@dataclass
class Part:
    """Jobs that are predicted as one table: their places in the turn, their rows, and who predicts them."""

    places: list[int]
    rows: list[Any]
    columns: Columns
    predictor: Predictor
    sizes: list[int]
    known: bool
    """Whether no row holds a field that the model does not know."""


class Checker:
    """Checks jobs against a model's signature; what is wrong with one is its own error and nobody else's."""

    def __init__(
        self,
        model: Loaded,
        tally: Tally,
        *,
        refuse_extra_fields: bool = False,
        lookup: Lookup | None = None,
        hidden: Collection[str] = (),
    ) -> None:
        self.reader = Reader(model.predictor.signature.without_ranges(hidden))  # what a refusal tells of them
        self._predictor = model.predictor
        self._names = model.names
        self._time: str | None = model.package.manifest.get("time") or None
        self._tally = tally
        self._refuse_extra = refuse_extra_fields
        self._lookup = lookup if model.predictor.history is not None else None

    def parts(self, jobs: Sequence[Job], found: Found) -> list[Part]:
        """Check the jobs' rows; those that tell a past of their own are predicted by themselves."""
        plain = [place for place, job in enumerate(jobs) if not job.past]
        told = [place for place, job in enumerate(jobs) if job.past]
        together = [self._completed(part) for part in self._together(plain, jobs, found) if part is not None]
        renewed = (self._renewed(place, jobs, found) for place in told)
        return [*together, *(part for part in renewed if part is not None)]

    def _together(self, places: list[int], jobs: Sequence[Job], found: Found) -> list[Part | None]:
        if len(places) < 2:
            return [self._alone(place, jobs, found) for place in places]
        rows = list(chain.from_iterable(jobs[place].rows for place in places))
        try:
            columns, known = self._check(rows)
        except RowError:  # whose it is, and what its row is called, shows by itself
            return [_joined([p for p in (self._alone(place, jobs, found) for place in places) if p is not None])]
        sizes = [jobs[place].size for place in places]
        return [Part(places, rows, columns, self._predictor, sizes, known)]

    def _alone(self, place: int, jobs: Sequence[Job], found: Found) -> Part | None:
        rows = list(jobs[place].rows)
        try:
            columns, known = self._check(rows)
            return Part([place], rows, columns, self._predictor, [len(rows)], known)
        except RowError as error:
            found[place] = _refused(error)
            return None

    def _renewed(self, place: int, jobs: Sequence[Job], found: Found) -> Part | None:
        part = self._alone(place, jobs, found)
        if part is not None:
            self._completed(part)  # what the request tells itself then takes the place of what the store has
            try:
                part.predictor = part.predictor.renewed(jobs[place].past, part.columns)
            except RowError as error:
                found[place] = _refused(error)
                return None
        return part

    def _completed(self, part: Part) -> Part:
        if self._lookup is not None:
            part.predictor = self._lookup.complete(part.predictor, part.columns)
        return part

    def _check(self, rows: list[Any]) -> tuple[Columns, bool]:
        columns = self.reader.columns(rows)
        if self._time is not None:
            check_clock(columns, self._time)
        names = self._names
        known = all(map(names.issuperset, rows))
        if not known:
            self._take_extras(rows, names)
        return columns, known

    def _take_extras(self, rows: list[Any], names: frozenset[str]) -> None:
        for row, instance in enumerate(rows):
            for name in instance:
                if name not in names:
                    if self._refuse_extra:
                        order = [field.name for field in self.reader.signature.fields]
                        known = ", ".join(order[:20]) + (", ..." if len(order) > 20 else "")
                        fact = f"row {row}: {name[:60]} is not a field of this model; its fields are {known}"
                        raise RowError(fact, name[:60], row)
                    self._tally.add_extra(name)


def check_clock(columns: Columns, time: str) -> None:
    """Raise RowError for a row more than a year ahead: that clock is wrong, and it would end every window watched."""
    times = columns.get(time)
    if times is None or times.dtype.kind != "M":
        return
    limit = datetime.now(timezone.utc).replace(tzinfo=None) + AHEAD  # noqa: UP017
    late = np.flatnonzero(times > np.datetime64(limit, "us"))
    if len(late):
        row = int(late[0])
        fact = f"row {row}: {time} is {times[row].item().isoformat()}, more than a year ahead of this server's clock"
        raise RowError(fact, time, row)


def _refused(error: RowError) -> HttpError:
    return HttpError(422, str(error), field=error.field, row=error.row)


def _joined(parts: Sequence[Part]) -> Part | None:
    if len(parts) < 2:
        return parts[0] if parts else None
    names = parts[0].columns
    return Part(
        [place for part in parts for place in part.places],
        [row for part in parts for row in part.rows],
        {name: np.concatenate([part.columns[name] for part in parts]) for name in names},
        parts[0].predictor,
        [size for part in parts for size in part.sizes],
        all(part.known for part in parts),
    )


def split(part: Part) -> list[Part]:
    """Give a part for each job."""
    ends = np.cumsum(part.sizes).tolist()
    slices = [slice(end - size, end) for end, size in zip(ends, part.sizes, strict=True)]
    return [
        Part([place], part.rows[own], _cut(part.columns, own), part.predictor, [size], part.known)
        for place, own, size in zip(part.places, slices, part.sizes, strict=True)
    ]


def _cut(columns: Columns, own: slice) -> Columns:
    return {name: column[own] for name, column in columns.items()}
