"""Decisions that were made with the rows which the model is judged on."""

from __future__ import annotations

from collections.abc import Iterator

from trilho.adopt.doctor.flow.events import Chosen
from trilho.adopt.doctor.flow.values import Place
from trilho.adopt.doctor.subject import Subject, finding
from trilho.adopt.plan import Finding

TOLD = {
    "threshold": (
        "threshold-tuned-on-test",
        "the threshold is chosen by a metric of the same rows that are reported: its result is the best of many "
        "looks at them",
        "choose it on a validation part of the training rows, and measure once on the test rows",
    ),
    "early stopping": (
        "early-stopping-on-test",
        "the number of rounds is chosen by the rows that the model is then judged on: the metric is better than on "
        "new rows",
        "stop early on a validation part cut from the training rows, the newest of them where they have a time",
    ),
    "selection": (
        "selection-on-test",
        "the best of several models or settings is picked by the rows that it is then judged on: the winner's metric "
        "is too good",
        "pick by cross validation within the training rows, and measure the winner once on the test rows",
    ),
}

BY_EYE = {
    "threshold": "thresholds are tried one after the other on the test rows: the one that is picked from the list is "
                 "picked by the rows that it is judged on",
    "selection": "models or settings are tried one after the other on the test rows: the one that is picked from the "
                 "list is picked by the rows that it is judged on",
}  # fmt: skip


def tuned_on_test(subject: Subject) -> Iterator[Finding]:
    """Find thresholds, rounds and models chosen on the only rows that were held out."""
    seen: set[tuple[str, int | None]] = set()
    for one in subject.events.chosen:
        rule, message, fix = TOLD[one.what]
        if (rule, one.place.cell) not in seen and _only_held_out(subject, one):
            seen.add((rule, one.place.cell))
            yield finding(
                rule, one.place, BY_EYE[one.what] if one.by_eye else message, "note" if one.by_eye else "warning", fix
            )
    threshold = subject.choice.threshold if subject.choice is not None else None
    if (
        threshold is not None
        and threshold.tuned_on == "test"
        and not any(r == "threshold-tuned-on-test" for r, _ in seen)
    ):
        rule, message, fix = TOLD["threshold"]
        yield finding(rule, Place(threshold.cell, threshold.line), message, "warning", fix)


def search_saw_test(subject: Subject) -> Iterator[Finding]:
    """Find searches for settings over all rows, test rows included."""
    events = subject.events
    for fit in events.fits:
        measured = [one for one in events.measured if "test" in one.roles]
        if fit.search and fit.X.role == "table" and any(side.of & fit.X.tables for m in measured for side in m.sides):
            yield finding(
                "selection-on-test",
                fit.place,
                "the search for settings sees all rows, those of the test side too: the settings fit the rows that "
                "they are judged on",
                "warning",
                "give the search the training rows only",
            )


def _only_held_out(subject: Subject, one: Chosen) -> bool:
    """Whether no other held-out rows were ever measured; rows of cross validation are no test rows."""
    tuned = {side for side in one.sides if side.role == "test"}
    if not tuned:
        return False
    tables = frozenset(table for side in tuned for table in side.of)
    measured = {side for m in subject.events.measured for side in m.sides if side.role == "test" and side.of & tables}
    return (bool(measured & tuned) and not measured - tuned) or (not measured and one.what != "early stopping")
