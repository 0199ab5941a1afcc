"""Which metrics a shipped model is judged by: its own, or those of the model that it was refitted from."""

from __future__ import annotations

from dataclasses import replace

from trilho.adopt.plan import Metric
from trilho.adopt.slice.metrics import Measured
from trilho.adopt.slice.models import Candidate, Models
from trilho.adopt.slice.scores import CLASSES, HEADLINE, better, number

ROUGH = ("classification_report", "confusion_matrix")  # they give a metric by the way


def judged_by(models: Models, one: Candidate, measured: list[Measured]) -> list[Measured]:
    """Give the metrics of the shipped model, or of its kin as it was before it was fitted again: the headline first.

    Those on held-out rows come before those of a cross-validation, and both before those on the training rows.
    """
    bound = _bound(models)
    own = [m for m in measured if m.candidate == one]
    kin = [m for m in measured if _is_before(models, m.candidate, one)]
    for group in (own, kin):
        for part in (
            [m for m in group if m.held_out and not m.cross_validated],
            [m for m in group if m.cross_validated],
        ):
            nearest = _nearest(models, one, part)
            if nearest:
                return _headline_first(nearest, bound)
    unowned = [m for m in measured if m.candidate is None and m.cross_validated]
    return _headline_first(unowned or [m for m in own if not m.held_out], bound)


def _bound(models: Models) -> dict[int, set[float]]:
    """Give the numbers that the notebook's variables held, by the statement that bound them."""
    found: dict[int, set[float]] = {}
    for did in models.history.trace.statements:
        numbers = (number(value.literal) for value in did.values.values())
        found[did.id] = {value for value in numbers if value is not None}
    return found


def _is_before(models: Models, other: Candidate | None, one: Candidate) -> bool:
    if other is None or other == one:
        return False
    return models.kin(other, one) and other.last.order <= one.last.order


def _nearest(models: Models, one: Candidate, group: list[Measured]) -> list[Measured]:
    """Of metrics of models of one kind, keep those of the likest model, measured last."""
    likeness: dict[tuple[object, ...], float] = {}  # by the place of the fit: of folds only the last one is known
    for each in (m.candidate for m in group if m.candidate is not None):
        likeness[_site(each)] = max(likeness.get(_site(each), 0.0), models.likeness(each, one))
    best = max(likeness.values(), default=0.0)
    near = [m for m in group if m.candidate is not None and likeness[_site(m.candidate)] == best]
    if not near:
        return []
    return _folds(near) or [m for m in near if m.group == near[-1].group]


def _site(candidate: Candidate) -> tuple[object, ...]:
    return candidate.last.statement, candidate.last.cell, candidate.last.span


def _folds(group: list[Measured]) -> list[Measured]:
    """Where one place measured fit after fit, each to other rows, give the means over these folds.

    What is measured of all folds together afterwards is of the last fit to look at, and gives way to them.
    """
    last, found = group[-1].fit, []
    for key in dict.fromkeys((m.metric.statement, m.place, m.metric.name) for m in group):
        same = [m for m in group if (m.metric.statement, m.place, m.metric.name) == key]
        fits = {m.fit.id: m.fit for m in same if m.fit is not None}
        rows = {fit.X.value.digest for fit in fits.values() if fit.X is not None}
        if len(fits) < 2 or len(rows) < len(fits) or last is None or last.id not in fits:
            continue
        mean = sum(m.metric.value for m in same) / len(same)
        found.append(replace(same[-1], metric=replace(same[-1].metric, value=mean), cross_validated=True))
    return found


def _headline_first(group: list[Measured], bound: dict[int, set[float]]) -> list[Measured]:
    """Put the metric first that says most; of one that was swept over limits keep the value that was chosen.

    That is the first one that the notebook keeps in a variable. Where it only prints them, it is of a classification
    what needs no limit, of a regression the notebook's own first.
    """
    sites: dict[tuple[object, ...], list[Measured]] = {}
    exact = [one for one in group if not one.metric.function.endswith(ROUGH)]
    for one in exact or group:
        sites.setdefault((one.place, one.metric.name), []).append(one)
    single = [values[-1] for values in sites.values() if len(values) == 1]
    kept = [_kept(values, bound) for values in sites.values() if len(values) > 1]
    unique: dict[str, Measured] = {}
    for one in [*(each for each in kept if each is not None), *single] or [values[-1] for values in sites.values()]:
        unique[one.metric.name] = one
    if "rmse" in unique:
        unique.pop("mse", None)
    unique = dict(sorted(unique.items(), key=lambda item: item[1].order))
    named = [name for name, one in unique.items() if _is_named(one.metric, bound)]
    usual = [*HEADLINE, *unique] if set(unique) & CLASSES else [*(name for name in unique if name != "r2"), *unique]
    first = next((name for name in (*named, *usual) if name in unique), "")
    return [measured for name, measured in unique.items() if name == first] + [
        measured for name, measured in unique.items() if name != first
    ]


def _kept(values: list[Measured], bound: dict[int, set[float]]) -> Measured | None:
    """Give the best of the values that one place gave, where the statement kept it in a variable."""
    best = values[0]
    for one in values[1:]:
        best = one if better(one.metric.name, one.metric.value, best.metric.value) else best
    kept = _is_near(best.metric.value, bound.get(best.metric.statement, set()))
    return replace(best, swept=True) if kept else None


def _is_named(metric: Metric, bound: dict[int, set[float]]) -> bool:
    """Say whether a variable holds a metric: bound where it was computed, or after."""
    return any(_is_near(metric.value, held) for id_, held in bound.items() if id_ >= metric.statement)


def _is_near(value: float, held: set[float]) -> bool:
    return value in held or any(abs(value - one) <= 1e-12 * max(1.0, abs(value)) for one in held)
