"""Which metrics a shipped model is judged by: its own, or those of the model that it was refitted from."""

from __future__ import annotations

from dataclasses import replace

from trilho.adopt.slice.metrics import Measured
from trilho.adopt.slice.models import Candidate, Models
from trilho.adopt.slice.scores import CLASSES, HEADLINE

ROUGH = ("classification_report", "confusion_matrix")  # they give a metric by the way


def judged_by(models: Models, one: Candidate, measured: list[Measured]) -> list[Measured]:
    """Give the metrics of the shipped model, or of its kin as it was before it was fitted again: the headline first.

    Those on held-out rows come before those of a cross-validation, and both before those on the training rows.
    """
    own = [m for m in measured if m.candidate == one]
    kin = [m for m in measured if _is_before(models, m.candidate, one)]
    for group in (own, kin):
        for part in (
            [m for m in group if m.held_out and not m.cross_validated],
            [m for m in group if m.cross_validated],
        ):
            nearest = _nearest(models, one, part)
            if nearest:
                return _headline_first(nearest)
    unowned = [m for m in measured if m.candidate is None and m.cross_validated]
    return _headline_first(unowned or [m for m in own if not m.held_out])


def _is_before(models: Models, other: Candidate | None, one: Candidate) -> bool:
    if other is None or other == one:
        return False
    return models.kin(other, one) and other.last.order <= one.last.order


def _nearest(models: Models, one: Candidate, group: list[Measured]) -> list[Measured]:
    """Of metrics of models of one kind, keep those of the likest model, measured last."""
    likeness = {m.candidate.object: models.likeness(m.candidate, one) for m in group if m.candidate is not None}
    best = max(likeness.values(), default=0.0)
    near = [m for m in group if m.candidate is not None and likeness[m.candidate.object] == best]
    if not near:
        return []
    return _folds(near) or [m for m in near if m.group == near[-1].group]


def _folds(group: list[Measured]) -> list[Measured]:
    """Where one place measured fit after fit, each to other rows, give the means over these folds."""
    last = group[-1]
    here = [m for m in group if m.metric.statement == last.metric.statement]
    fits = {m.fit.id: m.fit for m in here if m.place == last.place and m.fit is not None}
    rows = {fit.X.value.digest for fit in fits.values() if fit.X is not None}
    if len(fits) < 2 or len(rows) < len(fits):
        return []
    found = []
    for key in dict.fromkeys((m.place, m.metric.name) for m in here):
        same = [m for m in here if (m.place, m.metric.name) == key]
        mean = sum(m.metric.value for m in same) / len(same)
        found.append(replace(same[-1], metric=replace(same[-1].metric, value=mean), cross_validated=True))
    return found


def _headline_first(group: list[Measured]) -> list[Measured]:
    """Put the metric that says most first; of one that was swept over limits keep the last value.

    Of a classification that is what needs no limit, of a regression the notebook's own first.
    """
    sites: dict[tuple[object, ...], list[Measured]] = {}
    exact = [one for one in group if not one.metric.function.endswith(ROUGH)]
    for one in exact or group:
        sites.setdefault((one.place, one.metric.name), []).append(one)
    single = [values[-1] for values in sites.values() if len(values) == 1]
    unique: dict[str, Measured] = {}
    for one in single or [values[-1] for values in sites.values()]:
        unique[one.metric.name] = one
    if "rmse" in unique:
        unique.pop("mse", None)
    order = [*HEADLINE, *unique] if set(unique) & CLASSES else [*(name for name in unique if name != "r2"), *unique]
    first = next((name for name in order if name in unique), "")
    return [measured for name, measured in unique.items() if name == first] + [
        measured for name, measured in unique.items() if name != first
    ]
