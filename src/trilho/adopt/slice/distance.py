"""How a time is written as a distance from the newest one: as a time, a text of the same shape, or a year."""

from __future__ import annotations

from datetime import datetime, timedelta

from trilho.adopt.slice.cuts import shape_of
from trilho.adopt.trace import Value


class Unmovable(Exception):
    """A literal that has to stay, and why."""


def kind_of(value: Value | None) -> str | None:
    """Say whether a column holds times or texts; None for times of a zone, and all else."""
    dtype = (value.dtypes or [""])[0] if value is not None else ""
    if dtype.startswith("datetime64"):
        return "time" if "," not in dtype else None
    return "text" if dtype in ("object", "str", "string") else None


def _length(length: timedelta) -> str:
    """Say how long, as pandas reads it.

    >>> _length(timedelta(days=91)), _length(timedelta(days=1, hours=23))
    ('91 days', '1 days 23:00:00')
    """
    rest = length - timedelta(days=length.days)
    return f"{length.days} days" + (f" {str(rest).zfill(8)}" if rest else "")


def back_from(anchor: str, length: timedelta) -> str:
    """Write a time so long before the newest.

    >>> back_from("df.day", timedelta(days=91))
    'df.day.max() - pd.Timedelta("91 days")'
    """
    return f'{anchor}.max() - pd.Timedelta("{_length(length)}")' if length else f"{anchor}.max()"


def text_back_from(anchor: str, literal: str, newest: datetime, cut: datetime, *, parse: bool) -> str:
    """Write a time as a text of the same shape, counted back from the newest. Raises Unmovable."""
    shape = shape_of(literal)
    if shape is None:
        raise Unmovable("its text does not sort as times do")
    length = newest - cut if "%H" in shape else timedelta(days=(newest.date() - cut.date()).days)
    if (newest - length).strftime(shape) != literal:
        raise Unmovable("no distance from the newest row gives it")
    table = f"pd.to_datetime({anchor})" if parse else anchor
    return f'({back_from(table, length)}).strftime("{shape}")'


def year_back_from(anchor: str, literal: int, newest: int | None) -> str:
    """Write a year so many before the newest. Raises Unmovable."""
    if newest is None or newest < literal:
        raise Unmovable("how far it is from the newest of the rows that are split is not known")
    return f"{anchor}.max() - {newest - literal}" if newest > literal else f"{anchor}.max()"
