"""What the README tells of a model: where it is from, what it learns from, how it was judged, what was left behind."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from trilho.adopt.emit.naming import cut, listed
from trilho.adopt.notebook import Notebook
from trilho.adopt.plan import Choice, Dropped, Plan
from trilho.adopt.survey import without_secrets
from trilho.adopt.trace import Trace

FORMS = {
    "features": "A row's features are its own: `features.build` makes them, the same in training and in serving.",
    "model": "The model is asked with raw rows: what it learnt from others (`state.py`) travels with it.",
    "whole": "The notebook could not be taken apart: `load` runs its code up to the model's input, and rows are served "
    "as that input.",
}


def title_of(notebook: Notebook) -> str:
    """Give the notebook's own title, or "" where it has none."""
    for cell in notebook.cells:
        if cell.kind == "markdown":
            found = re.search(r"^\s*#{1,3}\s+(.+)$", cell.source, re.MULTILINE)
            if found:
                return found[1].strip().strip("*_`# ")
    return ""


def summary_of(notebook: Notebook, choice: Choice) -> str:
    """Give one sentence on what the model is for: the notebook's, or what is known of it."""
    for cell in notebook.cells:
        if cell.kind == "markdown":
            plain = [
                line.strip() for line in cell.source.splitlines() if line.strip() and line.lstrip()[0] not in "#-*|>!<$"
            ]
            sentence = re.split(r"(?<=[.!?])\s", " ".join(plain))[0]
            if len(sentence) > 20:
                return cut(sentence, 160)
            break
    what = "Gives the probability of" if choice.task == "classification" else "Predicts"
    return f"{what} {choice.target.column}."


def story(plan: Plan, choice: Choice, trace: Trace, notebook: Notebook) -> tuple[tuple[str, str], ...]:
    """Give the README's own sections: heading and Markdown."""
    sections = [("The model", _model(plan, choice, notebook)), ("Its data", _data(plan, choice, trace)),
                ("How it was judged", _judged(choice))]  # fmt: skip
    if plan.state:
        sections.append(("What it learns besides", _state(plan)))
    if plan.fallback:
        sections.append(("What could not be taken apart", _fallback(plan)))
    if plan.findings or choice.findings:
        sections.append(("What to know", _findings(plan, choice)))
    if plan.dropped:
        sections.append(("What was left in the notebook", _dropped(plan.dropped)))
    return tuple(sections)


def _model(plan: Plan, choice: Choice, notebook: Notebook) -> str:
    intro = next((c.source for c in notebook.cells if c.kind == "markdown" and len(c.source) > 30), "")
    quote = [f"> {line}".rstrip() for line in intro.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    lines = [*quote[:6], ""] if quote else []
    lines += [
        f"It is `{choice.shipped_name}` of the notebook `notebooks/{notebook.path.name}`: {choice.why}.",
        FORMS[plan.form],
    ]
    if choice.others:
        lines.append(f"Not taken: {listed(f'`{name}`' for name in choice.others)}.")
    if plan.past is not None:
        whose = f" of its {listed(f'`{name}`' for name in plan.past.entity)}" if plan.past.entity else ""
        lines.append(f"A row is answered after the newest rows{whose} before it, true values among them: the package "
                     "carries them, a request may bring newer ones (`[history]` in trilho.toml).")  # fmt: skip
    elif choice.lags:
        columns = listed(dict.fromkeys(f"`{lag.source}` (cell {lag.cell})" for lag in choice.lags))
        lines.append(f"Batch only: {columns} looks at other rows, which a single request does not have.")
    return "\n".join(lines)


def _data(plan: Plan, choice: Choice, trace: Trace) -> str:
    read = next(read for read in trace.reads if read.id == choice.main_read)
    source = cut(read.query or without_secrets(read.source), 100)
    lines = [f"Read in cell {read.cell} from `{source}`: {read.value.rows} rows, "
             f"{len(read.value.columns or [])} columns (sha256 `{read.digest[:16]}`).",
             f"The target is `{choice.target.column}`" + (f", the time `{choice.time}`" if choice.time else "")
             + (f", the key `{choice.key}`" if choice.key else "") + "."]  # fmt: skip
    if plan.lookups:
        tables = listed(f"`{lookup.name}`" for lookup in plan.lookups)
        lines.append(f"Kept with the code, and frozen with it: {tables} in `src/{plan.package}/tables/`.")
    if plan.train_only:
        rules = "; ".join(f"`{cut(rule)}`" for rule in plan.train_only)
        lines.append(f"Only in training, since a row that is asked about is never left out: {rules}.")
    return "\n".join(lines)


def _judged(choice: Choice) -> str:
    split = choice.split
    how = {
        "random": "rows taken at random",
        "time": "the newest rows",
        "rows": "the last rows",
        "none": "no rows apart",
    }
    lines = [f"The notebook held out {how[split.kind]}" + (f" ({split.share:.0%})" if split.share else "")
             + (f", cut at `{split.cut}`" if split.cut else "") + "."]  # fmt: skip
    if choice.metrics:
        name = f"`{choice.evaluated_name}`"
        shown = listed(f"{metric.name} {metric.value:.6g}" for metric in choice.metrics)
        lines.append(f"On these, {name} had {shown} (cell {choice.metrics[0].cell}); `evaluate.py` repeats it.")
    if choice.refitted:
        lines.append(
            "The model that is shipped was then fitted again, on more rows: no metric of the notebook is its own."
        )
    if choice.threshold is not None:
        t = choice.threshold
        lines.append(f"A score {t.operator} {t.value:g} says yes (cell {t.cell}): `decide.py`.")
    return "\n".join(lines)


def _state(plan: Plan) -> str:
    names = listed(f"`{name}`" for name in plan.state)
    return f"{names}: computed from the training rows, kept in the model, read when it is asked."


def _fallback(plan: Plan) -> str:
    return "\n".join(f"- `{f.variable}`, cell {f.cell}, line {f.line}: {f.reason}" for f in plan.fallback)


def _findings(plan: Plan, choice: Choice) -> str:
    apart = "past-rows" if plan.past is not None else ""  # the plan says what becomes of them
    found = dict.fromkeys((*plan.findings, *(f for f in choice.findings if f.rule != apart)))
    lines = []
    for finding in found:
        place = "" if finding.cell is None else f" (cell {finding.cell})"
        lines.append(f"- {finding.message}{place}" + (f" {finding.fix}" if finding.fix else ""))
    return "\n".join(lines)


def _dropped(dropped: Iterable[Dropped]) -> str:
    by_reason: dict[str, list[int]] = defaultdict(list)
    for one in dropped:
        by_reason[one.reason].append(one.cell)
    return "\n".join(
        f"- cell{'s' if len(cells) > 1 else ''} {listed(cells)}: {reason}" for reason, cells in by_reason.items()
    )
