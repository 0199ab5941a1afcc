"""What is to be scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date as Date  # noqa: N812

from trilho.serve.batch.run import PART_ROWS


@dataclass(frozen=True, kw_only=True)
class Request:
    """What `trilho score` was asked."""

    source: str
    to: str
    dates: Sequence[Date]
    whole: bool = False  # all rows of the table, whatever their date
    version: int | None = None  # by default what serves
    again: bool = False
    warn: bool = False  # score in spite of a broken contract
    part_rows: int = PART_ROWS
    environment: str | None = None  # whose project and bucket tables of BigQuery are reached with
