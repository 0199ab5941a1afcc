"""From a notebook's run, and what is shipped of it, to a plan: which statement goes into which function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from trilho.adopt.notebook import Notebook
from trilho.adopt.plan import Choice, Fallback, Form, Plan
from trilho.adopt.slice.assemble import Assembly
from trilho.adopt.slice.complete import check_names
from trilho.adopt.slice.live import find_live
from trilho.adopt.slice.moving import with_moving_split
from trilho.adopt.slice.past import PastAssembly
from trilho.adopt.slice.program import Program
from trilho.adopt.slice.roles import Roles
from trilho.adopt.slice.shared import Unsliceable
from trilho.adopt.slice.together import without_second_table
from trilho.adopt.slice.unfold import unfold_fits, unfold_pairs
from trilho.adopt.slice.whole import plan_whole
from trilho.adopt.trace import Trace

FORMS: tuple[Form, ...] = ("features", "model", "whole")


def make_plan(
    notebook: Notebook,
    trace: Trace,
    choice: Choice,
    *,
    name: str,
    allowed: Sequence[Form] = FORMS,
    because: Sequence[Fallback] = (),
    past: bool = False,
    late: bool = True,
    scratch: Path | None = None,
) -> Plan:
    """Plan the project `name` of a notebook, in the best of the allowed forms.

    Where rows cannot be followed one by one, the plan is of form "whole" and its `fallback` says which variable, in
    which cell, and why; `because` gives reasons from outside, such as a parity that could not be shown. With `past`, a
    model of lags is planned to be answered after past rows, where that can be: then the plan says which. Of form
    "whole" rows are those that train and test are cut from, or the model's input where it can't, or without `late`.
    With the trace's folder, `scratch`, a split at a literal date or row number moves with the data.
    """
    plan = _made(notebook, trace, choice, name, allowed, because, past, late)
    return with_moving_split(plan, Program(notebook, trace, choice), scratch)


def _made(
    notebook: Notebook, trace: Trace, choice: Choice, name: str, allowed: Sequence[Form], because: Sequence[Fallback],
    past: bool, late: bool,
) -> Plan:  # fmt: skip
    package = name.replace("-", "_")
    program = Program(notebook, trace, choice)
    reasons = list(because)
    if choice.regrouped is not None:
        return replace(plan_whole(program, package), fallback=(*reasons, choice.regrouped))
    if past and choice.lags and "model" in allowed:
        try:
            roles = Roles.of(program)
            return PastAssembly(program, roles, find_live(program, roles), package).plan_past()
        except Unsliceable as error:
            reasons.append(error.fallback)
    if set(allowed) & {"features", "model"}:
        try:
            plan = _plan_sliced(notebook, trace, choice, package, features="features" in allowed)
            return replace(plan, fallback=tuple(reasons)) if choice.lags else plan
        except Unsliceable as error:
            reasons.append(error.fallback)
    try:
        if not late:
            return replace(plan_whole(program, package), fallback=tuple(reasons))
        roles = Roles.of(program)
        plan = Assembly(program, roles, find_live(program, roles), package).plan_late()
        check_names(program, plan)
        return replace(plan, fallback=tuple(reasons))
    except Unsliceable:
        pass
    return replace(plan_whole(program, package), fallback=tuple(reasons))


def _plan_sliced(notebook: Notebook, trace: Trace, choice: Choice, package: str, *, features: bool) -> Plan:
    """Plan by the statements as they are; written out where they do too much at once. Raises Unsliceable."""

    def planned(notebook: Notebook, trace: Trace, choice: Choice) -> Plan:
        program = without_second_table(Program(notebook, trace, choice))
        roles = Roles.of(program)
        plan = Assembly(program, roles, find_live(program, roles), package).plan(features)
        check_names(program, plan)
        return plan

    fits = unfold_fits(notebook, trace, choice)
    if fits is not None:
        try:
            return fits.folded(planned(fits.notebook, fits.trace, fits.choice))
        except Unsliceable:
            pass
    try:
        return planned(notebook, trace, choice)
    except Unsliceable:
        pairs = unfold_pairs(notebook, trace, choice)
        if pairs is None:
            raise
        try:
            return pairs.folded(planned(pairs.notebook, pairs.trace, pairs.choice))
        except Unsliceable:
            pass
        raise
