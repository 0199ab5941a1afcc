"""Hold a notebook or a project against all rules."""

from __future__ import annotations

from pathlib import Path

from trilho.adopt.doctor.rules import CURED, RULES
from trilho.adopt.doctor.subject import Subject, of_notebook, of_project
from trilho.adopt.notebook import Notebook
from trilho.adopt.plan import Choice, Finding
from trilho.adopt.trace import Trace
from trilho.config import FILE, load_settings

RANK = {"error": 0, "warning": 1, "note": 2}


def examine_notebook(notebook: Notebook, trace: Trace | None = None, choice: Choice | None = None,
                     scratch: Path | None = None) -> list[Finding]:  # fmt: skip
    """Find what is wrong with a notebook, without running it; a trace and a choice make it see more.

    `scratch` is the folder that the trace's files are in. With a choice the notebook is being adopted: what the project
    puts right by itself is left out.
    """
    findings = examine(of_notebook(notebook, trace, choice, scratch))
    return [one for one in findings if choice is None or one.rule not in CURED]


def examine_project(folder: Path) -> list[Finding]:
    """Find what is wrong with a project's code, settings and files. Raises ConfigError where trilho.toml is wrong."""
    settings = load_settings(folder) if (folder / FILE).exists() else None
    return examine(of_project(folder, settings))


def examine(subject: Subject) -> list[Finding]:
    """Apply every rule; the worst first, then in the order of the code, and nothing twice."""
    found: dict[tuple[str, int | None, int | None, str, str], Finding] = {}
    for rule in RULES:
        for one in rule(subject):
            found.setdefault((one.rule, one.cell, one.line, one.file, one.message), one)
    installed = {(one.cell, one.line) for one in found.values() if one.rule == "unpinned-import"}
    kept = [one for one in found.values()
            if one.rule != "install-in-notebook" or (one.cell, one.line) not in installed]  # fmt: skip
    return sorted(
        kept, key=lambda one: (RANK[one.severity], one.file, -1 if one.cell is None else one.cell, one.line or 0)
    )
