"""Which model goes to production, and by what evidence: saved, used, refitted, picked, or measured last."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from trilho.adopt.slice.history import History, names_in
from trilho.adopt.slice.metrics import Measured
from trilho.adopt.slice.models import Candidate, Models, held_out
from trilho.adopt.slice.scores import HEADLINE, better
from trilho.adopt.trace import Predict, Save
from trilho.errors import UsageError

MODEL_FILES = (".pkl", ".pickle", ".joblib", ".json", ".ubj", ".txt", ".bin", ".model", ".sav", ".cbm", ".dill")


@dataclass(frozen=True)
class Shipped:
    """The model that is shipped, and why."""

    candidate: Candidate
    why: str
    object: int  # the candidate's, or that of a part of it which is what the notebook uses


@dataclass(frozen=True)
class Case:
    """What the evidence is looked for in."""

    history: History
    models: Models
    measured: list[Measured]


Evidence = Callable[[Case, list[Candidate]], tuple[list[Candidate], str] | None]


def pick_shipped(case: Case, wanted: str = "") -> Shipped:
    """Pick the model that goes to production. Raises UsageError for a name that no model has."""
    left = list(case.models.candidates.values())
    if wanted:
        return _named(case, wanted)
    alive = [c for c in left if case.models.is_alive(c)]
    left = alive or left
    if len(left) == 1:
        told = _saved(case, left) or _written(case, left)
        return Shipped(left[0], told[1] if told else "it is the only model", _used_part(case, left[0]))
    why = ""
    for evidence in (_saved, _written, _refitted, _picked, _compared, _measured, _latest):
        if len(left) == 1 and why:
            break
        found = evidence(case, left)
        if found is not None:
            left, why = found
    return Shipped(left[0], why, _used_part(case, left[0]))


def _named(case: Case, wanted: str) -> Shipped:
    for candidate in reversed(case.models.candidates.values()):
        if wanted in (*candidate.names, candidate.type, candidate.type.rpartition(".")[2]):
            return Shipped(candidate, f"named by --model {wanted}", _used_part(case, candidate))
    for seen in case.history.objects.values():
        owner = case.models.owner(seen.id) if wanted in seen.names else None
        if owner is not None:
            return Shipped(owner, f"named by --model {wanted}", seen.id)
    names = dict.fromkeys(name for c in case.models.candidates.values() for name in (c.names or (c.name,)))
    raise UsageError(f"--model is {wanted!r}; the notebook's models are {', '.join(names)}",
                     hint=f"trilho adopt {case.history.notebook.path.name} --model {next(iter(names))}")  # fmt: skip


def _saved(case: Case, left: list[Candidate]) -> tuple[list[Candidate], str] | None:
    """Take the model that was written to a file last; a loop that writes every one says nothing."""
    saves = case.history.trace.saves
    for save in reversed(saves):
        together = [s for s in saves if s.statement == save.statement]
        found = _among(case.models.outermost(o for s in together for o in s.objects), left)
        if found and len(found) < max(2, len(left)):
            return found, f"cell {save.cell} saves it ({_file_name(save)})"
    return None


def _written(case: Case, left: list[Candidate]) -> tuple[list[Candidate], str] | None:
    """Take the model whose predictions were written to a file, or made for rows without a known answer."""
    for save in reversed(case.history.trace.saves):
        if save.objects:
            continue
        found = _among(_predictors_of(case, {*save.names, *_names_at(case, save)}, save.statement), left)
        if len(found) == 1:
            return found, f"its predictions are written in cell {save.cell} ({_file_name(save)})"
        blends = [m.candidate for m in case.measured if len(found) > 1 and _is_blend(m, found)]
        if blends and blends[-1] is not None:
            names = " and ".join(c.name for c in sorted(found, key=lambda c: c.last.order))
            return [blends[-1]], f"the score of {names} is written in cell {save.cell} ({_file_name(save)})"
    others = [p for p in case.history.trace.predicts if _is_other_table(case, p)]
    found = _among(case.models.outermost(p.object for p in others[-1:]), left)
    return (found, f"cell {others[-1].cell} predicts new rows with it") if found else None


def _is_blend(measured: Measured, found: list[Candidate]) -> bool:
    """Say whether a metric was of all of these models together."""
    return {c.object for c in (measured.candidate, *measured.others) if c is not None} == {c.object for c in found}


def _refitted(case: Case, left: list[Candidate]) -> tuple[list[Candidate], str] | None:
    """Take the model that was fitted again, to more rows, after all was measured."""
    measured = [m.order for m in case.measured if m.held_out]
    if not measured:
        return None
    known = [m.candidate for m in case.measured if m.held_out and m.candidate is not None]
    for candidate in sorted(left, key=lambda c: c.last.order, reverse=True):
        if candidate.last.order < max(measured) and not any(case.models.kin(candidate, one) for one in known):
            continue  # it is another kind of model, between those that were measured
        rows = candidate.last.X.value.rows if candidate.last.X is not None else None
        before = [m.fit.X.value.rows or 0 for m in case.measured
                  if m.fit is not None and m.fit.X is not None and m.fit.order < candidate.last.order]  # fmt: skip
        after = all(m.order < candidate.last.order for m in case.measured if m.candidate == candidate and m.held_out)
        if after and candidate.last.order > min(measured) and rows and before and rows > max(before):
            return [candidate], f"it is refitted on everything in cell {candidate.last.cell}, after it was measured"
    return None


def _picked(case: Case, left: list[Candidate]) -> tuple[list[Candidate], str] | None:
    """Take the model that the notebook bound to a name after fitting: `best = models[name]`."""
    fitted = {fit.statement for c in left for fit in c.fits}
    for statement in reversed(case.history.notebook.statements):
        did = case.history.did.get(statement.id)
        if did is None or statement.id in fitted or not isinstance(statement.node, ast.Assign):
            continue
        for name in did.writes:
            value = did.values.get(name)
            owner = case.models.owner(value.object) if value is not None and value.object is not None else None
            if owner in left and owner is not None and any(f.statement < statement.id for f in owner.fits):
                return [owner], f"cell {statement.cell} picks it as {name}"
    return None


def _compared(case: Case, left: list[Candidate]) -> tuple[list[Candidate], str] | None:
    """Of models that one statement measured with one metric, take the best."""
    last = [m for m in case.measured if m.held_out and m.candidate in left]
    if not last:
        return None
    together = [m for m in last if m.metric.statement == last[-1].metric.statement and m.place[0] == last[-1].place[0]]
    names = {m.metric.name for m in together}
    name = next((n for n in HEADLINE if n in names), last[-1].metric.name)
    same = {m.candidate.object: m for m in together if m.metric.name == name and m.candidate is not None}
    if len(same) < 2:
        return None
    best, *rest = same.values()
    for one in rest:
        best = one if better(name, one.metric.value, best.metric.value) else best
    won = [best.candidate] if best.candidate is not None else []
    return won, f"it is the best of the {len(same)} that cell {best.metric.cell} compares, by {name}"


def _measured(case: Case, left: list[Candidate]) -> tuple[list[Candidate], str] | None:
    for one in reversed(case.measured):
        if one.candidate in left and one.candidate is not None and one.held_out:
            return [one.candidate], f"it is the last one measured, in cell {one.metric.cell}"
    return None


def _latest(case: Case, left: list[Candidate]) -> tuple[list[Candidate], str] | None:
    last = max(left, key=lambda c: c.last.order)
    return [last], f"it is the last one fitted, in cell {last.last.cell}"


def _used_part(case: Case, candidate: Candidate) -> int:
    """Give the part of a candidate that the notebook saves or asks instead of it, as `grid.best_estimator_`."""
    saved = [o for save in case.history.trace.saves for o in save.objects]
    asked = [p.object for p in case.history.trace.predicts]
    for group in (saved, asked):
        if candidate.object in group:
            return candidate.object
        parts = [o for o in group if o in candidate.parts and case.models.owner(o) == candidate]
        if parts and "Search" in candidate.type:
            return parts[-1]
    return candidate.object


def _predictors_of(case: Case, names: set[str], before: int) -> list[Candidate]:
    """Give the models whose predictions are in what some names held, the nearest only."""
    history = case.history
    found: list[int] = []
    needed = set(names)
    for statement in reversed(history.notebook.statements):
        did = history.did.get(statement.id)
        if did is None or statement.id > before or not (needed & {*did.writes, *did.mutates} or statement.id == before):
            continue
        here = [p.object for p in history.trace.predicts if p.statement == statement.id and case.models.owner(p.object)]
        found += here
        if here and statement.id != before:
            needed -= set(did.writes)
        else:
            needed |= names_in(statement.node) & set(did.reads)
    return case.models.outermost(found)


def _is_other_table(case: Case, predict: Predict) -> bool:
    """Say whether a prediction was for the rows of another table than the model was fitted to."""
    owner = case.models.owner(predict.object)
    fit = owner.fit_before(predict.order) if owner is not None else None
    if owner is None or fit is None or fit.X is None or predict.X is None or not held_out(predict, fit):
        return False
    first, second = predict.X.value.aligned, fit.X.value.aligned
    return (
        first is not None
        and second is not None
        and first.read != second.read
        and "length" not in (first.how, second.how)
    )


def _names_at(case: Case, save: Save) -> set[str]:
    statement = case.history.statements.get(save.statement)
    return names_in(statement.node) - case.history.imported if statement is not None else set()


def _among(found: Iterable[Candidate], left: list[Candidate]) -> list[Candidate]:
    return [candidate for candidate in found if candidate in left]


def _file_name(save: Save) -> str:
    return save.path.replace("\\", "/").rpartition("/")[2]
