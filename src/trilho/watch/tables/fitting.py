"""Fixing the bins of a reference on a table of any size.

Up to SAMPLE rows the bins come from all rows, and quantiles are exact. Above that they come from a sample that a seed
chooses, and every row is then counted in them, in one scan. Where rare values or far ends are placed by what *other*
windows held, the sample says how much moves, and the counts follow in proportion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from trilho.watch.tables.table import Array, Counted, Table, Window, moments, window_numbers
from trilho_runtime.bins import Floats, Ints
from trilho_runtime.profile import Feature, Reference, kept_windows

SAMPLE = 50_000
R = TypeVar("R", bound=Reference)


def fit_table(made: type[R], table: Table, columns: Sequence[str], window: Window, key: str = "") -> R:
    """Fix the bins of some columns; without a name in `window.time` the reference has no windows."""
    timed = window if window.time else None
    apart = [name for name in (window.time, key) if name]
    sample = table.sample([*columns, *(name for name in apart if name not in columns)], SAMPLE)
    time = moments(np.ma.filled(sample[window.time], np.nan)) if timed is not None else None
    watched = {name: sample[name] for name in columns}
    fitted = Reference.fit(watched, time, window.seconds, calendar=True)
    size = table.size()
    if size > fitted.rows:
        fitted = _of_all_rows(fitted, table, sample, timed, size)
    cluster = float(table.largest(key, timed)) if key else 1.0
    fields = {name: getattr(fitted, name) for name in fitted.__dataclass_fields__}
    return made(**{**fields, "time": window.time, "key": key, "cluster": cluster})


def _of_all_rows(
    fitted: Reference, table: Table, sample: Mapping[str, Array], window: Window | None, size: int
) -> Reference:
    sizes = table.windows(window) if window is not None else {}
    numbers = np.array(list(sizes), np.int64)
    kept = numbers[kept_windows(np.array(list(sizes.values()), np.int64))].tolist() if sizes else []
    counted = table.count(fitted.features, window, kept)
    if not set(kept) <= set(counted.profiles):  # an engine that does not count windows apart: the sample's stay
        kept = list(fitted.block_windows)
    features = tuple(_recounted(f, fitted, counted, sample, window, kept) for f in fitted.features)
    return replace(fitted, features=features, rows=size, windows=len(sizes), block_windows=tuple(kept))


def _recounted(
    feature: Feature,
    fitted: Reference,
    counted: Counted,
    sample: Mapping[str, Array],
    window: Window | None,
    kept: Sequence[int],
) -> Feature:
    inside = counted.profiles[None][feature.name]
    moves = (feature.counts - feature.inside).astype(np.float64)
    counts = moved(inside, moves, counted.rows[None] / fitted.rows)
    blocks = feature.blocks
    if window is not None and all(number in counted.profiles for number in kept):
        by_window = _moves(feature, fitted, sample, window) if moves.any() else {}
        blocks = np.array([_block(feature, number, counted, by_window) for number in kept], np.int64)
    return replace(feature, inside=inside, counts=counts, blocks=blocks.reshape(-1, len(feature.labels)))


def _block(feature: Feature, number: int, counted: Counted, moves: Mapping[int, tuple[Floats, int]]) -> Ints:
    found = counted.profiles[number][feature.name]
    if number not in moves:
        return found
    move, rows = moves[number]
    return moved(found, move, counted.rows[number] / rows)


def _moves(
    feature: Feature, fitted: Reference, sample: Mapping[str, Array], window: Window
) -> dict[int, tuple[Floats, int]]:
    """Say for the sample's windows what moves between bins, and of how many rows."""
    numbers, size = window_numbers(sample[window.time], window.seconds), len(feature.labels)
    place = feature.place(sample[feature.column])
    found = {}
    for number, block in zip(fitted.block_windows, feature.blocks, strict=True):
        there = place[numbers == number]
        found[number] = (block - np.bincount(there, minlength=size).astype(np.float64), max(len(there), 1))
    return found


def moved(counts: Ints, moves: Floats, scale: float) -> Ints:
    """Move rows between bins in proportion, none below zero, their sum as it was.

    >>> moved(np.array([10, 0]), np.array([-1.0, 1.0]), 3.0).tolist()
    [7, 3]
    """
    if not moves.any():
        return counts
    wanted = np.maximum(counts + moves * scale, 0.0)
    ends = np.cumsum(wanted) * (counts.sum() / max(float(wanted.sum()), 1e-9))
    return np.asarray(np.diff(np.floor(ends + 0.5), prepend=0.0), np.int64)
