"""Which rows a model answers: rows that it refuses are found, since array code must refuse them too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.compiled.original import scores_of
from trilho_runtime.schema.signature import Signature


@dataclass(frozen=True)
class Rows:
    """Rows by column, as the signature gives them."""

    signature: Signature
    columns: Mapping[str, NDArray[Any]]

    @property
    def count(self) -> int:
        """Give how many rows there are."""
        return len(next(iter(self.columns.values())))

    def table(self) -> Any:
        """Give the rows as the original model is given them."""
        return self.signature.frame(self.columns)

    def picked(self, places: Sequence[int]) -> Rows:
        """Give some of the rows."""
        at = np.asarray(places, np.intp)
        return Rows(self.signature, {name: column[at] for name, column in self.columns.items()})


def accepted(model: Any, rows: Rows) -> Rows:
    """Give the rows that a model answers."""
    return rows.picked(answered_places(model, rows))


def answered_places(model: Any, rows: Rows) -> list[int]:
    """Give the places of the rows that a model answers; halves are asked until it is known which rows it refuses."""
    found: list[int] = []
    open_ = [list(range(rows.count))]
    while open_:
        places = open_.pop()
        if not places:
            continue
        if _answers(model, rows.picked(places)):
            found += places
        elif len(places) > 1:
            half = len(places) // 2
            open_ += [places[half:], places[:half]]
    return sorted(found)


def _answers(model: Any, rows: Rows) -> bool:
    try:
        scores_of(model, rows.table())
    except Exception:  # noqa: BLE001  whatever it says, it refuses
        return False
    return True
