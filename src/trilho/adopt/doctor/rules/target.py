"""Features that know the answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from trilho.adopt.doctor.association import telling
from trilho.adopt.doctor.flow.events import FitSeen
from trilho.adopt.doctor.flow.values import Place
from trilho.adopt.doctor.subject import Subject, finding
from trilho.adopt.plan import Finding

RULE = "target-leakage"
FIX = "leave it out of the features: when a prediction is asked for, nobody knows it"


def target_leakage(subject: Subject) -> Iterator[Finding]:
    """Find features that are computed from the target, or that the target is computed from."""
    seen: set[str] = set()
    for fit in subject.events.fits if subject.events.target else ():
        if not fit.model:
            continue
        for column, why, place in sorted(_telling(subject, fit), key=lambda found: found[0]):
            if column not in seen:
                seen.add(column)
                yield finding(
                    RULE,
                    place,
                    f"the feature `{column}` {why}: the model reads the answer off it, and will miss it in production",
                    "error",
                    FIX,
                )


def leaking_columns(subject: Subject, fit: FitSeen) -> set[str]:
    """Give the features of a fit that know the answer."""
    return {column for column, _, _ in _telling(subject, fit)} if fit.model and subject.events.target else set()


def almost_the_target(subject: Subject) -> Iterator[Finding]:
    """Find features that were almost equal to the target when the notebook ran."""
    if subject.trace is None or subject.scratch is None:
        return
    told: set[str] = set()
    for fit in subject.trace.fits:
        for column, how in telling(fit, subject.scratch):
            if column not in told:
                told.add(column)
                yield finding(
                    RULE,
                    Place(fit.cell, fit.span[0]),
                    f"the feature `{column}` {how}: it is the target under another name, or written down after the "
                    "fact",
                    "error",
                    FIX,
                )


def _telling(subject: Subject, fit: FitSeen) -> Iterator[tuple[str, str, Place]]:
    events, X = subject.events, fit.X
    if any(kind.startswith("__main__.") and kind[9:] in subject.classes for kind in fit.kinds):
        return  # a class of the notebook's own takes what it wants of the rows
    if any("olumn" in kind and "ransformer" in kind for kind in fit.kinds):
        X = X.only(X.added | events.target) if not fit.picked else X.only(fit.picked)
        X = replace(X, known=X.known if fit.picked else frozenset(), added=fit.X.added & fit.picked)
    for column in X.added:
        made = events.columns.get(column)
        if made is not None and X.has(column) and column not in events.target and events.from_target(column):
            yield column, f"is computed from the target (`{made.source[:60]}`)", made.place
    if X.opaque and X.known is None:
        return
    if events.named:
        for column in events.target:
            if X.has(column):
                yield column, "is the target itself", fit.place
            made = events.columns.get(column)
            for parent in sorted(made.uses - {column}) if made is not None else ():
                if made is not None and X.has(parent):
                    yield parent, f"is what the target is computed from (`{made.source[:60]}`)", fit.place
    else:
        for parent in events.target:
            if X.has(parent):
                yield parent, "is what the target is computed from", fit.place
