"""How the rows were split, and whether the metric is of rows that the model has not seen."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from trilho.adopt.doctor.flow.events import FitSeen, Split
from trilho.adopt.doctor.flow.names import last
from trilho.adopt.doctor.flow.values import Place, Side
from trilho.adopt.doctor.subject import Subject, finding
from trilho.adopt.plan import Finding

OF_ENTITY = re.compile(
    r"(?i)nasc|birth|dob|aniver|sign_?up|cadastr|admiss|hire|contrata|joined|since|member|regist|"
    r"due|vencimento|founded|abertura"
)
"""Dates that are a property of a customer or a thing, not the time at which the row happened."""
SHUFFLED = re.compile(r"(Stratified)?ShuffleSplit|(Repeated|Stratified|RepeatedStratified)?KFold")


def random_split_of_time(subject: Subject) -> Iterator[Finding]:
    """Find rows that come in the order of time and are split at random."""
    times = times_of(subject)
    if not times:
        return
    column = sorted(times)[0]
    for split in subject.events.splits:
        how = _random(split)
        if how:
            yield _at_random(split.place, how, column)
    for fit in subject.events.fits:
        if fit.folds and not fit.search and _random_folds(fit):
            yield _at_random(fit.place, last(ast.unparse(fit.node.func)), column)


def _at_random(place: Place, how: str, column: str) -> Finding:
    return finding(
        "random-time-split",
        place,
        f"`{how}` splits at random what is ordered by `{column}`: the model learns from days after the ones it is "
        "judged on, which production never gives it",
        "warning",
        f"hold out the newest rows by `{column}` ([train] holdout does, and moves with the data), or TimeSeriesSplit",
    )


def times_of(subject: Subject) -> set[str]:
    """Give the columns that order the rows in time, as far as the code or the choice tells."""
    if subject.choice is not None and subject.choice.time:
        return {subject.choice.time}
    if subject.settings is not None and subject.settings.model.time:
        return {subject.settings.model.time}
    return {name for name in subject.events.times if not OF_ENTITY.search(name)}


def _random(split: Split) -> str:
    node = split.node
    if split.kind == "rows" or not isinstance(node, ast.Call):
        return ""
    words = {word.arg: word.value for word in node.keywords}
    name = last(split.function)
    if name == "train_test_split":
        shuffle = words.get("shuffle")
        return "" if isinstance(shuffle, ast.Constant) and shuffle.value is False else name
    return name if SHUFFLED.fullmatch(name) and "Shuffle" in name else ""


def _random_folds(fit: FitSeen) -> bool:
    return any(word.arg == "cv" and "ShuffleSplit" in ast.unparse(word.value) for word in fit.node.keywords) or any(
        isinstance(inner, ast.keyword)
        and inner.arg == "shuffle"
        and isinstance(inner.value, ast.Constant)
        and inner.value.value is True
        for inner in ast.walk(fit.node)
    )


def seen_rows(subject: Subject) -> Iterator[Finding]:
    """Find metrics of rows that the model was fitted to."""
    events = subject.events
    held_out = [one for one in events.measured if one.fitted and one.sides and not _known(one.sides, one.fitted)]
    folded = any(fit.folds for fit in events.fits)
    for one in events.measured:
        if not one.fitted or not one.sides or not _known(one.sides, one.fitted):
            continue
        if "test" in one.roles:
            yield finding(
                "seen-rows",
                one.place,
                f"`{one.name or 'the metric'}` is of test rows that the model was fitted to: it says how well they "
                "were remembered",
                "error",
                "measure before the model is refitted to everything",
            )
        elif not held_out and not folded:
            yield finding(
                "seen-rows",
                one.place,
                f"`{one.name or 'the metric'}` is of the very rows that the model was fitted to, and no row was held "
                "out: nothing is known of new rows",
                "error",
                "hold rows out before fitting, the newest where they have a time",
            )
            return


def _known(sides: frozenset[Side], fitted: frozenset[Side]) -> bool:
    """Whether the model has seen the rows: the same side, or the whole table that the side is of."""
    return any(
        side == learnt or (learnt.role == "table" and side.of & learnt.of) for side in sides for learnt in fitted
    )
