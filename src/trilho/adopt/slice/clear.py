"""New names for what in the notebook has the name of something that a project has."""

from __future__ import annotations

import keyword

from trilho.adopt.slice.program import Program

OURS = frozenset(
    {"Model", "Path", "State", "build", "decide", "evaluate", "fit", "load", "rows", "split", "state", "target"}
)
CHOICES = {
    "train": ("train_model", "fit_model", "fit_estimator"),
    "prepare": ("prepare", "prepare_rows", "prepare_raw_rows"),
    "derive": ("derive", "derive_features", "make_features"),
    "clean": ("clean", "clean_rows", "drop_rows"),
}


def clear_names(program: Program) -> dict[str, str]:
    """Give another name for each of the notebook's that would hide one of the project's."""
    taken = set(program.names) | OURS
    found = {}
    for name in sorted(OURS & _bound(program)):
        better = name.upper() if name in _constants(program) else f"{name}_"
        while better in taken or keyword.iskeyword(better):
            better += "_"
        taken.add(better)
        found[name] = better
    return found


def _bound(program: Program) -> set[str]:
    return {name for step in program.steps.values() for name in step.writes}


def _constants(program: Program) -> set[str]:
    return {
        name
        for step in program.steps.values()
        for name in step.writes
        if name in step.did.values and step.did.values[name].kind in ("text", "scalar")
    }


def own_names(program: Program) -> dict[str, str]:
    """Give the names of the project's other functions: the first of several that the notebook has not taken."""
    return {what: next((n for n in names if n not in program.names), f"{names[0]}_") for what, names in CHOICES.items()}
