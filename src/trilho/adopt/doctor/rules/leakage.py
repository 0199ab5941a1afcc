"""Statistics that were learnt from rows which the model is judged on."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from trilho.adopt.doctor.flow.events import Events
from trilho.adopt.doctor.flow.names import RESAMPLERS
from trilho.adopt.doctor.flow.values import Statistic
from trilho.adopt.doctor.subject import Subject, finding
from trilho.adopt.plan import Finding


def leaked(events: Events) -> list[Statistic]:
    """Give the statistics of all rows that reached a model which was then measured on some of them."""
    found: dict[Statistic, None] = {}
    for fit in events.fits:
        if fit.model and (fit.folds or fit.X.role in ("train", "fold")):
            found |= dict.fromkeys(one for one in fit.learnt if one.role == "table" or (fit.folds and _copies(one)))
    return sorted(found, key=lambda one: (one.place.file, one.place.cell or 0, one.place.line))


def _copies(one: Statistic) -> bool:
    return any(RESAMPLERS.fullmatch(word) for word in one.what.split(", "))


def leakage(subject: Subject) -> Iterator[Finding]:
    """Find statistics fitted before the split."""
    for one in leaked(subject.events):
        place = one.place
        if _copies(one):
            yield finding(
                "leakage",
                place,
                f"`{one.what}` makes rows before they are split or folded: copies and mixtures of one row end up on "
                "both sides, and the metric is far too good",
                "error",
                "split first, and resample the training rows only (imblearn.pipeline.Pipeline does it in each fold)",
            )
        elif subject.events.saw_target(one):
            yield finding(
                "leakage",
                place,
                f"`{short(one.source)}` is learnt from the target of all rows, those of the test side too, and "
                "becomes a feature: the metric is better than production will be",
                "error",
                "learn it from the training rows only; `trilho doctor --patch FILE` writes the change",
            )
        else:
            yield finding(
                "leakage",
                place,
                f"`{short(one.source)}` is learnt from all rows before the split: the test rows have had a say in the "
                "features that they are judged by",
                "warning",
                "learn it from the training rows only, best as a step of the model's pipeline; `trilho doctor "
                "--patch FILE` writes the change",
            )


def fitted_to_test(subject: Subject) -> Iterator[Finding]:
    """Find transformers that are fitted once more, to the test rows."""
    for fit in subject.events.refits:
        yield finding(
            "test-fitted",
            fit.place,
            f"`{short(ast.unparse(fit.node))}` fits the transformer to the test rows: they are put on another scale "
            "than the training rows were, as no served row will be",
            "error",
            "call `transform` on the test rows, with what was fitted to the training rows",
        )


def short(source: str) -> str:
    """Cut code to what fits a line of a report."""
    line = " ".join(source.split())
    return line if len(line) <= 70 else f"{line[:67]}..."
