"""A whole examination: rules, readiness, ledger, fitness, and where it is asked for the patch and what it changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from trilho.adopt.doctor.evidence import Evidence, Facts
from trilho.adopt.doctor.examine import examine
from trilho.adopt.doctor.fitness import fitness
from trilho.adopt.doctor.ledger import ledger
from trilho.adopt.doctor.measure import measure
from trilho.adopt.doctor.patch import Patch, patch_notebook
from trilho.adopt.doctor.project_patch import measure_project, patch_project
from trilho.adopt.doctor.readiness import readiness
from trilho.adopt.doctor.report import Fix, Report
from trilho.adopt.doctor.subject import Subject, of_notebook, of_project
from trilho.adopt.notebook import Notebook, read_notebook
from trilho.adopt.plan import Finding
from trilho.adopt.trace import Trace
from trilho.config import FILE, Settings, load_settings
from trilho.errors import TrilhoError, UsageError

Run = Callable[[Notebook, Path], Trace]
NOT_RUN = "nothing was run: --run measures it"


def find(path: Path) -> Path:
    """Find what is to be examined: a notebook, or a project's folder. Raises UsageError."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise UsageError(f"there is no {path}", hint="name a notebook, or a project's folder")
    if (path / FILE).exists():
        return path
    notebooks = sorted(path.glob("*.ipynb"))
    if len(notebooks) == 1:
        return notebooks[0]
    if notebooks:
        listed = ", ".join(found.name for found in notebooks[:5])
        raise UsageError(f"{path} has {len(notebooks)} notebooks: {listed}", hint=f"trilho doctor {notebooks[0]}")
    raise UsageError(f"{path} has neither {FILE} nor a notebook", hint="name a notebook, or a project's folder")


def check_notebook(path: Path, patch_file: str = "", run: Run | None = None, scratch: Path | None = None) -> Report:
    """Examine a notebook. With `run` it is run into `scratch` first, and the patch's effect is measured."""
    notebook = read_notebook(path)
    trace = run(notebook, scratch) if run is not None and scratch is not None else None
    subject = of_notebook(notebook, trace, scratch=scratch if trace is not None else None)
    fix = _fix(subject, patch_file, run) if patch_file or run is not None else None
    return _report(subject, str(path), Facts(), None, fix)


def check_project(folder: Path, facts: Facts, patch_file: str = "", python: Path | None = None) -> Report:
    """Examine a project; `facts` are what its journal says. With an interpreter the patch's effect is measured."""
    settings: Settings = load_settings(folder)
    subject = of_project(folder, settings)
    fix = _project_fix(subject, patch_file, python) if patch_file or python is not None else None
    return _report(subject, str(folder), facts, _kept_notebook(folder), fix)


def _report(subject: Subject, path: str, facts: Facts, notebook: Subject | None, fix: Fix | None) -> Report:
    findings = (*_certificate(facts), *examine(subject))
    evidence = Evidence(subject, findings, facts)
    return Report(
        path, subject.kind, findings, readiness(evidence), tuple(ledger(subject, notebook)), fitness(subject), fix
    )


def _certificate(facts: Facts) -> list[Finding]:
    """Say that a project's certificate does not hold for it as it is."""
    if facts.parity in ("", "valid"):
        return []
    said = "was not given" if facts.parity == "not certified" else f"does not count: {facts.parity}"
    fix = 'adopt the notebook again; after a change of the model that is meant, make golden WHY="..." says so in git'
    return [Finding("certificate", None, None, f"the parity certificate {said}",
                    "warning", fix, "parity.json")]  # fmt: skip


def _fix(subject: Subject, patch_file: str, run: Run | None) -> Fix:
    """Work the patch out, write it, and measure it where the notebook may be run."""
    patch = patch_notebook(subject)
    fix = _written(patch, patch_file, NOT_RUN)
    if run is None or subject.trace is None or subject.notebook is None or not patch.sources:
        return fix
    failed = next((one for one in subject.trace.statements if one.state == "failed"), None)
    if failed is not None:
        return replace(fix, why_not=f"the notebook itself fails: {failed.error.splitlines()[0]}")
    try:
        changes, why_not = measure(subject.notebook, patch, subject.trace, run)
    except TrilhoError as error:
        return replace(fix, why_not=error.line)
    return replace(fix, changes=tuple(changes), measured=bool(changes), why_not=why_not)


def _project_fix(subject: Subject, patch_file: str, python: Path | None) -> Fix:
    patch = patch_project(subject)
    fix = _written(patch, patch_file, NOT_RUN)
    if python is None or not patch.files:
        return fix
    changes, why_not = measure_project(subject, patch.files, python)
    return replace(fix, changes=tuple(changes), measured=bool(changes), why_not=why_not)


def _written(patch: Patch, patch_file: str, why_not: str) -> Fix:
    if patch_file and patch.diff:
        Path(patch_file).write_text(patch.diff, encoding="utf-8", errors="surrogateescape")
    return Fix(patch_file if patch.diff else "", patch.fixed, patch.left, why_not=why_not)


def _kept_notebook(folder: Path) -> Subject | None:
    """Give the notebook that a project was made of, where it is kept with it."""
    kept = sorted((folder / "notebooks").glob("*.ipynb")) if (folder / "notebooks").is_dir() else []
    try:
        return of_notebook(read_notebook(kept[0])) if kept else None
    except UsageError:
        return None
