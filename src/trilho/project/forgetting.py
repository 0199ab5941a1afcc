"""One person's rows forgotten: in the log of what was served, in its labels, and in the past that servers look up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trilho.core import records as r
from trilho.errors import UsageError

if TYPE_CHECKING:
    from trilho.project.workspace import Workspace


@dataclass(frozen=True)
class Forgotten:
    """How many rows went from where."""

    rows: int
    past: int
    loaded: int
    """Keys of labels that were loaded from a table."""


def typed(value: str) -> str | int | float:
    """Give a value as it may be a number's: the log finds it then however it is written.

    >>> typed("7"), typed("1.5"), typed("007"), typed("ana"), typed("nan")
    (7, 1.5, '007', 'ana', 'nan')
    """
    for kind in (int, float):
        try:
            number = kind(value)
        except ValueError:
            continue
        if str(number) == value and number - number == 0:
            return number
    return value


def _float(value: str | int | float) -> str | float:
    return value if isinstance(value, str) else float(value)


def forget(work: Workspace, field: str, value: str, why: str = "") -> Forgotten:
    """Delete the rows whose field has a value, for good, and note in the journal that it was done, not for whom.

    Safe to repeat: a second time finds what came since. Raises UsageError for a field that the log never holds.
    """
    from trilho.data.labels import forget_loaded, join_columns
    from trilho.serve.flags import mask_of

    mask = mask_of(work.settings.serve, work.home)
    if mask.rules.get(field) == "drop":
        raise UsageError(f"serve.mask drops {field}: the log holds it of nobody", hint="name another field")
    hidden = mask.hash(value) if mask.rules.get(field) == "hash" else None
    sought = typed(value) if hidden is None else hidden
    rows = work.log.forget(field, sought)
    loaded = forget_loaded(work.home / "log" / work.name, join_columns(work.settings), field, sought)
    past = 0
    if work.past_file.exists():
        found = {repr(one): one for one in (value, typed(value), _float(typed(value)))}  # each is another JSON value
        past = sum(work.past.forget(field, one) for one in found.values())
    work.record(r.RowsForgotten(model=work.name, field=field, rows=rows, past=past, why=why))
    return Forgotten(rows, past, loaded)
