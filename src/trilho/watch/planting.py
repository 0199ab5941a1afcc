"""Changes planted into history, so that a watcher can be asked what it would have missed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trilho.errors import UsageError
from trilho_runtime.bins import as_numbers, kind_of

Kind = Literal["sd", "null", "unseen", "value"]
GRAMMAR = re.compile(
    r"(?P<column>.+?):(?P<size>[+-]?\d+(?:\.\d+)?)(?P<kind>sd|%null|%unseen|%=(?P<value>[^@]+))(?:@(?P<at>.+))?"
)
FAR, NEW = 1000.0, "planted: never seen"


@dataclass(frozen=True)
class Plant:
    """A change of one column: its mean moved by so many standard deviations, or a share of rows made null, never seen
    before or a given value; from a moment on, or (None) from several in turn."""

    column: str
    size: float
    kind: Kind
    value: str = ""
    at: float | None = None

    @classmethod
    def parse(cls, text: str) -> Plant:
        """Read a plant as a person writes it.

        >>> Plant.parse("price:0.2sd@2024-05-01").at
        1714521600.0
        >>> Plant.parse("city:5%=Recife").value, Plant.parse("price:10%null").size
        ('Recife', 0.1)
        """
        found = GRAMMAR.fullmatch(text.strip())
        if found is None:
            raise UsageError(
                f"a change {text!r}; allowed: COLUMN:SIZE or COLUMN:SIZE@DATE, "
                "a size as 0.2sd, 5%null, 5%unseen or 5%=VALUE",
                hint="trilho watch backtest TABLE --plant price:0.2sd@2024-05-01",
            )
        kind: Kind = "sd" if found["kind"] == "sd" else "value" if found["value"] else found["kind"][1:]  # type: ignore[assignment]
        size = float(found["size"]) / (1 if kind == "sd" else 100)
        if kind != "sd" and not 0 < size <= 1:
            raise UsageError(
                f"a change of {found['size']}%; allowed: above 0, up to 100", hint=f"{found['column']}:5%null"
            )
        return cls(found["column"], size, kind, found["value"] or "", moment_of(found["at"]) if found["at"] else None)

    def __str__(self) -> str:
        """Say it as it is written.

        >>> str(Plant.parse("price:0.2sd@2024-05-01")), str(Plant("city", 0.05, "value", "Recife"))
        ('price:0.2sd@2024-05-01', 'city:5%=Recife')
        """
        size = f"{self.size:g}sd" if self.kind == "sd" else f"{100 * self.size:g}%"
        end = {"sd": "", "null": "null", "unseen": "unseen", "value": f"={self.value}"}[self.kind]
        at = "" if self.at is None else f"@{datetime.fromtimestamp(self.at, UTC).isoformat().removesuffix('+00:00')}"
        return f"{self.column}:{size}{end}{at.removesuffix('T00:00:00')}"

    def into(self, column: NDArray[Any], seconds: NDArray[np.float64], spread: float) -> NDArray[Any]:
        """Give the column as it would have been; `spread` is its standard deviation in the reference."""
        later = np.ones(len(column), bool) if self.at is None else seconds >= self.at
        number = kind_of(column) == "number"
        if self.kind == "sd":
            if not number:
                raise UsageError(f"{self.column} is no number", hint=f"--plant {self.column}:5%null or 5%unseen")
            values, nulls = as_numbers(column)
            return np.ma.array(np.where(later, values + self.size * spread, values), mask=nulls)
        chosen = later & (np.random.default_rng(len(column)).random(len(column)) < self.size)
        if number:
            values, nulls = as_numbers(column)
            put = {"null": 0.0, "unseen": FAR * spread + np.abs(values[np.isfinite(values)]).max(initial=1.0)}
            new = put[self.kind] if self.kind in put else float(self.value)
            return np.ma.array(np.where(chosen, new, values), mask=(nulls & ~chosen) | (chosen & (self.kind == "null")))
        out = np.array(column.tolist(), object)
        out[chosen] = {"null": None, "unseen": NEW, "value": self.value}[self.kind]
        return out


def moment_of(text: str) -> float:
    """Read a date or time, in UTC where it says nothing else, as seconds since 1970. Raises UsageError."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(f"a moment {text!r}; allowed: as 2024-05-01 or 2024-05-01T14:00", hint="write it so") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
