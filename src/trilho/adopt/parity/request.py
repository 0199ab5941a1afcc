"""What the project's own functions are held against: the notebook's run, told to the harness as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trilho.adopt.plan import Choice, Metric, Plan
from trilho.adopt.trace import Argument, Call, Golden, Object, Trace
from trilho.config import Settings

KERNEL = Path(__file__).parents[1] / "capture" / "kernel"
TOLERANCE = 1e-9
SAMPLE = 2000
PROBABILITIES = ("predict_proba", "predict", "decision_function")
NUMBERS = ("predict",)


def source_request(
    trace: Trace, choice: Choice, plan: Plan, settings: Settings, *, scratch: Path, files: list[Path], seed: str
) -> dict[str, Any]:
    """Write what the harness is told, but for where the project lies and where it may write."""
    shipped = next((one for one in trace.objects if one.id == choice.shipped), None)
    column = _column(shipped, choice)
    chosen = _preferred(trace, choice, plan)
    fit = next((one for one in trace.fits if one.id == choice.shipped_fit), None)
    return {
        "schema": 1,
        "steps": steps_of(settings, plan),
        "files": [str(file) for file in files],
        "target": settings.model.target,
        "task": choice.task,
        "form": plan.form,
        "prepared": plan.prepared,
        "batch_only": is_batch_only(choice, settings),
        "past": past_of(settings),
        "fit_all": plan.split_in_fit or bool(plan.train_only and (choice.refitted or choice.split.kind == "none")),
        "transform": choice.target.transform,
        "positive": choice.target.positive,
        "derived": not choice.target.raw or _derives(plan, choice),
        "loaded": _loaded(trace, plan),
        "read": _read(trace, choice, scratch),
        "events": [
            _event(trace, one, column, scratch)
            for one in chosen
            if not plan.prepared or (one.event, one.id) == ("fit", choice.shipped_fit)
        ],
        "evaluated": _evaluated(trace, choice, column, scratch),
        "object": {
            "type": shipped.type if shipped else "",
            "method": chosen[0].method if chosen else "",
            "column": column,
        },
        "metrics": [{"name": metric.name, "value": metric.value} for metric in numbers_of(choice, trace)],
        "unseeded": f"unseeded randomness in cell {fit.cell}" if fit else "unseeded randomness",
        "libraries": trace.libraries,
        "tolerance": TOLERANCE,
        "seed": seed,
        "sample": SAMPLE,
    }


def numbers_of(choice: Choice, trace: Trace) -> list[Metric]:
    """Give the notebook's metrics that are a single number: a confusion matrix is a table."""
    tables = {call.id for call in trace.metrics if call.result.kind not in ("scalar", "other")}
    return [metric for metric in choice.metrics if metric.call not in tables]


def steps_of(settings: Settings, plan: Plan) -> dict[str, str]:
    """Give the project's functions by what they do, "" where there is none."""
    return {
        "load": settings.steps.load or f"{plan.package}.load:load",
        "features": settings.steps.features or "",
        "train": settings.steps.train,
        "evaluate": f"{plan.package}.evaluate:evaluate",
    }


def is_batch_only(choice: Choice, settings: Settings) -> bool:
    """Say whether a row can't be predicted without other rows."""
    return settings.serve.batch_only or (bool(choice.lags) and not settings.history.rows)


def past_of(settings: Settings) -> dict[str, Any] | None:
    """Say after which past rows a row is answered; None where it needs no other rows, or all of them."""
    told, time = settings.history, settings.model.time
    return {"entity": list(told.entity), "rows": told.rows, "time": time} if told.rows and time else None


def _read(trace: Trace, choice: Choice, scratch: Path) -> dict[str, Any]:
    """Give the read whose rows are served, and what the names in its arguments stood for."""
    read = next((one for one in trace.reads if one.id == choice.main_read), None)
    if read is None:
        return dict.fromkeys(("file", "function", "frozen", "digest", "kind", "kernel"), "") | {
            "arguments": {},
            "names": {},
        }
    names: dict[str, str] = {}
    for statement in trace.statements:
        if statement.id <= read.statement:
            names |= {name: value.literal for name, value in statement.values.items() if value.literal is not None}
    return {
        "file": _file(scratch, read.value.file),
        "function": read.function,
        "arguments": read.arguments,
        "names": {name: literal for name, literal in names.items() if any(name in x for x in read.arguments.values())},
        "frozen": _file(scratch, read.file),
        "digest": read.value.digest,
        "kind": read.kind,
        "kernel": str(KERNEL),
    }


def _derives(plan: Plan, choice: Choice) -> bool:
    """Say whether load parses or maps the target's own column."""
    column = f"[{choice.target.column!r}] ="
    return not choice.target.positive and any(column in part.source for part in plan.load.parts[1:])


def _loaded(trace: Trace, plan: Plan) -> str:
    """Give the digest of the notebook's own table once it was loaded, "" where load does no more than to read it."""
    last = max((part.statement for part in plan.load.parts), default=-1)
    value = next((s.values.get(plan.load.returns) for s in trace.statements if s.id == last), None)
    return value.digest if value is not None else ""


def _preferred(trace: Trace, choice: Choice, plan: Plan) -> list[Golden]:
    """Give the predictions that are compared, those for the rows of the fit first: of each event by one method."""
    methods = PROBABILITIES if choice.task == "classification" else NUMBERS
    found: dict[tuple[str, int], Golden] = {}
    here = [g for g in trace.golden if g.object == choice.shipped and g.read in (None, choice.main_read)]
    if plan.prepared and not any((g.event, g.id) == ("fit", choice.shipped_fit) for g in here):  # what it is a part of
        here = [g for g in trace.golden if (g.event, g.id) == ("fit", choice.shipped_fit)]
    ours = [g for g in here if (not plan.unlike_fit if g.event == "fit" else g.id not in plan.unlike)]
    if any(g.positions for g in ours):  # a row that the notebook made up by hand is no row of the table
        ours = [g for g in ours if g.positions or g.event == "fit"]
    known = [method for method in methods if any(g.method == method for g in ours)][:1]
    for one in ours:
        if one.method in known:
            found.setdefault((one.event, one.id), one)
    return sorted(found.values(), key=lambda g: (g.event != "fit", g.id != choice.shipped_fit, g.id))


def _event(trace: Trace, golden: Golden, column: int, scratch: Path) -> dict[str, Any]:
    given: Argument | None
    target: Argument | None = None
    if golden.event == "fit":
        fit = next((one for one in trace.fits if one.id == golden.id), None)
        given, target = (fit.X, fit.y) if fit else (None, None)
    else:
        given = next((one.X for one in trace.predicts if one.id == golden.id), None)
    return {
        "event": golden.event,
        "id": golden.id,
        "golden": _file(scratch, golden.file),
        "column": column,
        "positions": _file(scratch, golden.positions),
        "X": _kept(scratch, given),
        "y": _kept(scratch, target),
    }


def _evaluated(trace: Trace, choice: Choice, column: int, scratch: Path) -> dict[str, Any] | None:
    """Give what the metrics saw: to know whether that is what the model gave."""
    asked = next((one for one in trace.predicts if one.id == choice.evaluated_predict), None)
    if asked is None:
        return None
    fit = next((one for one in trace.fits if one.id == choice.evaluated_fit), None)
    calls: Mapping[int, Call] = {call.id: call for call in [*trace.calls, *trace.metrics]}
    judged = [calls[metric.call] for metric in choice.metrics if metric.call is not None and metric.call in calls]
    pairs = [[_kept(scratch, argument) for argument in call.arguments[:2]] for call in judged]
    return {
        "result": _file(scratch, asked.result.file),
        "column": column,
        "X": _kept(scratch, asked.X),
        "positions": _positions(trace, "predict", asked.id, scratch),
        "measured": [pair for pair in pairs if len(pair) == 2 and all(pair)],
        "refitted": choice.refitted,
        "fit_X": _kept(scratch, fit.X if fit else None),
        "fit_rows": fit.X.value.rows if fit and fit.X else None,
        "fit_positions": _positions(trace, "fit", fit.id, scratch) if fit else "",
    }


def _positions(trace: Trace, event: str, id_: int, scratch: Path) -> str:
    return next((_file(scratch, g.positions) for g in trace.golden if (g.event, g.id) == (event, id_) and g.positions),
                "")  # fmt: skip


def _column(shipped: Object | None, choice: Choice) -> int:
    """Give which column of two probabilities is that of class 1."""
    classes = shipped.classes if shipped is not None and shipped.classes else []
    return classes.index(choice.target.positive) if choice.target.positive in classes else 1


def _kept(scratch: Path, argument: Argument | None) -> str:
    return _file(scratch, argument.value.file) if argument is not None else ""


def _file(scratch: Path, name: str) -> str:
    return str(scratch / name) if name else ""
