"""From a notebook's run, and what is shipped of it, to a plan: which statement goes into which function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trilho.adopt.notebook import Notebook
from trilho.adopt.plan import Choice, Fallback, Form, Plan
from trilho.adopt.slice.assemble import Assembly
from trilho.adopt.slice.live import find_live
from trilho.adopt.slice.past import PastAssembly
from trilho.adopt.slice.program import Program
from trilho.adopt.slice.roles import Roles
from trilho.adopt.slice.shared import Unsliceable
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
) -> Plan:
    """Plan the project `name` of a notebook, in the best of the allowed forms.

    Where rows cannot be followed one by one, the plan is of form "whole" and its `fallback` says which variable, in
    which cell, and why; `because` gives reasons from outside, such as a parity that could not be shown. With `past`, a model of lags is
    planned to be answered after past rows, where that can be: then the plan says which.
    """
    package = name.replace("-", "_")
    program = Program(notebook, trace, choice)
    reasons = list(because)
    if past and choice.lags and "model" in allowed:
        try:
            roles = Roles.of(program)
            return PastAssembly(program, roles, find_live(program, roles), package).plan_past()
        except Unsliceable as error:
            reasons.append(error.fallback)
    if set(allowed) & {"features", "model"}:
        try:
            roles = Roles.of(program)
            live = find_live(program, roles)
            plan = Assembly(program, roles, live, package).plan("features" in allowed)
            return replace(plan, fallback=tuple(reasons)) if choice.lags else plan
        except Unsliceable as error:
            reasons.append(error.fallback)
    try:
        roles = Roles.of(program)
        plan = Assembly(program, roles, find_live(program, roles), package).plan_late()
        return replace(plan, fallback=tuple(reasons))
    except Unsliceable:
        pass
    return replace(plan_whole(program, package), fallback=tuple(reasons))
