"""What the code owes: five counts, before and after adoption, and how each is counted."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from trilho.adopt.dataflow import flow
from trilho.adopt.doctor.flow.values import Place
from trilho.adopt.doctor.requirements import read_requirements
from trilho.adopt.doctor.rules import secrets
from trilho.adopt.doctor.rules.imports import loose_packages
from trilho.adopt.doctor.subject import Chunk, Subject

SHOWS = re.compile(
    r"^(plt|sns|px|fig|ax|axes?|print|display)\b|\.(plot|hist|show|head|tail|info|describe|value_counts)\b"
)
WINDOW = 6
TRIGGERS = ("drift", "performance")


@dataclass(frozen=True)
class Debt:
    """One count; None where it is not known."""

    name: str
    before: int | None
    after: int | None
    counted: str


def ledger(subject: Subject, notebook: Subject | None = None) -> list[Debt]:
    """Count what is owed. A notebook is the "before"; a project is the "after", and its own notebook the "before"."""
    if subject.kind == "notebook":
        return _of_notebook(subject)
    after = _of_project(subject)
    if notebook is None:
        return after
    before = {debt.name: debt for debt in _of_notebook(notebook)}
    return [
        replace(
            debt, before=before[debt.name].before, counted=f"before: {before[debt.name].counted}; after: {debt.counted}"
        )
        for debt in after
    ]


def _of_notebook(subject: Subject) -> list[Debt]:
    steps = _hand_steps(subject)
    shaping = _transforming(subject)
    tested = any(isinstance(node, ast.Assert) for _, node in subject.nodes())
    declared = read_requirements(subject.folder)
    return [
        Debt("hand steps per release", len(steps), None, f"estimated: {', '.join(steps)}"),
        Debt(
            "untested transform lines",
            0 if tested else shaping,
            None,
            "lines of code that bind or change something before the last fit, without imports and plots; no assert "
            "checks them"
            if not tested
            else "the notebook asserts what it works out",
        ),
        Debt(
            "training/serving duplication",
            shaping,
            None,
            "estimated: the same lines, which whoever serves the model has to write a second time",
        ),
        Debt(
            "unpinned packages",
            len(loose_packages(subject, declared)),
            None,
            "imported packages whose version no file beside it gives",
        ),
        Debt("secrets in code", _secrets(subject), None, "places where a key, token or password stands"),
    ]


def _of_project(subject: Subject) -> list[Debt]:
    steps = _release_steps(subject)
    declared = read_requirements(subject.folder)
    loose = declared.unpinned if declared.files else sorted(loose_packages(subject, declared))
    return [
        Debt("hand steps per release", None, len(steps), ", ".join(steps)),
        Debt(
            "untested transform lines",
            None,
            untested_lines(subject),
            "lines of functions in src/ whose name no test mentions, directly or through a function that does",
        ),
        Debt(
            "training/serving duplication",
            None,
            duplicated_lines(subject.chunks),
            f"lines that stand twice in src/, in runs of {WINDOW} and more; features are one function for both",
        ),
        Debt("unpinned packages", None, len(loose), "packages that are required, and in no file with a version"),
        Debt("secrets in code", None, _secrets(subject), "places where a key, token or password stands"),
    ]


def _secrets(subject: Subject) -> int:
    return len({(one.cell, one.file, one.line) for one in secrets.secrets(subject)})


def _hand_steps(subject: Subject) -> list[str]:
    """Name what a person does for every release of a model that lives in a notebook."""
    steps = ["run every cell", "read the metric and decide"]
    sources = "\n".join(text.text for text in subject.texts if text.kind == "source")
    if re.search(r"^\s*[!%](pip|conda)", sources, re.MULTILINE):
        steps.append("install packages")
    if re.search(r"drive\.mount|files\.upload|read_clipboard|\binput\(", sources):
        steps.append("bring the data by hand")
    if re.search(r"[\"'](19|20)\d\d-\d\d(-\d\d)?[\"']", sources):
        steps.append("move the literal dates")
    steps += [f"copy the file that `{kept.function}` wrote to where it serves" for kept in subject.events.kept[:1]]
    if not subject.events.kept and any(fit.model for fit in subject.events.fits):
        steps.append("get the fitted model out of the notebook")
    steps += ["write the features again for serving", "tell the users"]
    return steps


def _release_steps(subject: Subject) -> list[str]:
    """Name what a person still does for every release of a project."""
    settings, steps = subject.settings, []
    triggers = settings is not None and (settings.retrain.drift or settings.retrain.performance)
    if not triggers:
        steps.append("start the training")
    if settings is not None and settings.gate.approval:
        steps.append("approve")
    steps.append("trilho release")
    if settings is not None and "://" not in settings.data.source and not settings.data.served:
        steps.append(f"put new rows into {settings.data.source}")
    return steps


def _transforming(subject: Subject) -> int:
    """Count the lines that bind or change something before the last fit."""
    last_fit = max((fit.statement for fit in subject.events.fits if fit.model), default=len(subject.statements))
    lines: set[tuple[int | None, int]] = set()
    for at, one in enumerate(subject.statements):
        node = one.node
        if at > last_fit or isinstance(node, ast.Import | ast.ImportFrom | ast.Assert):
            continue
        done = flow(node)
        text = ast.unparse(node)
        if (done.writes or done.mutates) and not SHOWS.match(text):
            lines |= {(one.cell, line) for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    return sum(1 for cell, line in lines if _is_code(subject, Place(cell, line)))


def _is_code(subject: Subject, place: Place) -> bool:
    for chunk in subject.chunks:
        if chunk.cell == place.cell:
            text = (
                chunk.source.split("\n")[place.line - 1].strip() if place.line <= chunk.source.count("\n") + 1 else ""
            )
            return bool(text) and not text.startswith("#")
    return False


def untested_lines(subject: Subject) -> int:
    """Count the lines of functions that no test reaches by name."""
    functions = {name: node for name, (_, node) in subject.functions.items()}
    tested = "\n".join(chunk.source for chunk in subject.tests)
    reached = {name for name in functions if re.search(rf"\b{re.escape(name)}\b", tested)}
    for _ in functions:
        more = {inner.id for name in reached for inner in ast.walk(functions[name]) if isinstance(inner, ast.Name)}
        more |= {
            inner.attr for name in reached for inner in ast.walk(functions[name]) if isinstance(inner, ast.Attribute)
        }
        if not (more & functions.keys()) - reached:
            break
        reached |= more & functions.keys()
    idle = [node for name, node in functions.items() if name not in reached]
    return sum((node.end_lineno or node.lineno) - node.lineno + 1 for node in idle)


def duplicated_lines(chunks: Iterable[Chunk]) -> int:
    """Count the lines that stand in two places, in runs of six lines and more; blank lines and comments aside."""
    seen: dict[tuple[str, ...], tuple[str, int]] = {}
    double: set[tuple[str, int]] = set()
    for chunk in chunks:
        lines = [(at, line.strip()) for at, line in enumerate(chunk.source.split("\n"))]
        lines = [(at, line) for at, line in lines if line and not line.startswith(("#", "import ", "from "))]
        for start in range(len(lines) - WINDOW + 1):
            window = lines[start : start + WINDOW]
            key = tuple(line for _, line in window)
            if key in seen and seen[key] != (chunk.file, window[0][0]):
                double |= {(chunk.file, at) for at, _ in window}
            seen.setdefault(key, (chunk.file, window[0][0]))
    return len(double)
