"""What a table of scores asks of a warehouse: dates are replaced whole, what is served changes in one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date as Date  # noqa: N812
from datetime import datetime
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A date of a version: the places that are served from it, and what is known of it."""

    date: str
    version: int
    low: float
    high: float
    told: str | None = None
    """JSON; None leaves what is known as it is."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """Dates of a zone, and the moments between which they lie, in UTC and without saying so."""

    first: Date
    last: Date
    start: datetime
    end: datetime


class Warehouse(Protocol):
    """Where one table of scores lies. Every method may be called again after it was cut off."""

    @property
    def address(self) -> str:
        """The table's name."""

    def take(self, model: str, owner: str) -> None:
        """Make what is missing, and keep others from writing. Raises Unreachable while another one writes."""

    def standings(self) -> Sequence[Standing]:
        """Give all dates of all versions."""

    def load(self, version: int, date: str, file: Path) -> None:
        """Put a Parquet file's rows in the place of what a version said of a date, all of them at once."""

    def serve(self, standings: Sequence[Standing]) -> None:
        """Change what is served, in one step. Raises Unreachable where another one has begun to write."""

    def release(self) -> None:
        """Let others write."""
