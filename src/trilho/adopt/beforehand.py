"""What is worth knowing before and after an adoption: what the interpreter lacks, and what was chosen for the owner."""

from __future__ import annotations

import re

from trilho.adopt.capture import find_interpreter
from trilho.adopt.emit.naming import cut
from trilho.adopt.emit.settings import learns_from_served
from trilho.adopt.environment import require_usable
from trilho.adopt.notebook import Notebook
from trilho.adopt.plan import Choice, Plan
from trilho.errors import TrilhoError

DROPS = re.compile(r"\.(drop\w*|dropna|sample|query)\(")
WINDOW = re.compile(r'^window = "(.+)"  # (.+)$', re.MULTILINE)


def unusable(notebook: Notebook, python: str = "", *, absent_too: bool = True) -> list[str]:
    """Say why no project could live in the notebook's interpreter, such as that pyarrow is missing; else nothing.

    Where no interpreter with its packages is here at all, that is said with `absent_too`.
    """
    try:
        interpreter = find_interpreter(notebook, python)
    except TrilhoError as error:
        return _told(error) if absent_too else []
    try:
        require_usable(interpreter.python, tables="pandas" in notebook.modules)
    except TrilhoError as error:
        return _told(error)
    return []


def notes_of(plan: Plan, choice: Choice, settings: str) -> list[str]:
    """Say what was chosen for the project that its owner may want otherwise, and why."""
    notes = [f"form 'model': {_why_model(plan)}; nothing of it is compiled"] if plan.form == "model" else []
    if learns_from_served(plan, choice):
        notes.append("rows that are served and labelled are learnt from, too: [data] served = false turns that off")
    window = WINDOW.search(settings)
    return notes + ([f"a window of the watch is {window[1]}: {window[2]}"] if window else [])


def _why_model(plan: Plan) -> str:
    """Say why the project makes features and predictions in one piece of its own code."""
    drops = next((rule for rule in plan.train_only if DROPS.search(rule)), "")
    if drops:
        return f"`{cut(drops)}` is for training only, so that fit itself makes the features of the rows that are left"
    if plan.past is not None:
        return "a row is answered after its past"
    if plan.state:
        return f"its features need what training learnt ({', '.join(plan.state)})"
    return "its code makes features and predictions in one"


def _told(error: TrilhoError) -> list[str]:
    return [f"It cannot be adopted so: {error.fact}", *([f"  {error.hint}"] if error.hint else [])]
