"""A notebook becomes a project: read, run, choose, slice, write, prove; each part knows only what is handed to it."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from trilho.adopt.beforehand import notes_of, unusable
from trilho.adopt.capture import Progress, capture, find_interpreter
from trilho.adopt.doctor.examine import examine_notebook
from trilho.adopt.emit.project import Emitted, emit
from trilho.adopt.environment import has_module, make_environment, require_usable
from trilho.adopt.forecast import forecast
from trilho.adopt.notebook import Notebook, read_notebook
from trilho.adopt.parity.certificate import Certificate, write_certificate
from trilho.adopt.parity.check import certify
from trilho.adopt.plan import Choice, Fallback, Finding, Form, Plan
from trilho.adopt.scaffold import nearest_name, package_of, runtime_requirement, standard_files
from trilho.adopt.scratch import scratch_folder
from trilho.adopt.slice.choose import choose
from trilho.adopt.slice.slice import FORMS, make_plan
from trilho.adopt.slice.whole import asked_alone
from trilho.adopt.standard.render import Values
from trilho.adopt.standard.tree import drafted, require_free, write_tree
from trilho.adopt.trace import StatementTrace, Trace
from trilho.adopt.trained.adopt import adopt_model
from trilho.errors import StepFailed, TrilhoError, UsageError
from trilho.secrets import check

Say = Callable[..., None]
NOTEBOOKS = (".ipynb", ".py")
SHOWN_SECONDS = 1.0  # between two lines of progress
STILL_SECONDS = 30.0  # between two that say the same
READ_BYTES = 5_000_000  # of a file that is looked through for secrets
IGNORED = """
# it holds secrets: take them out and renew them, then delete this line
/{}
"""


@dataclass(frozen=True)
class Wish:
    """What is to be adopted, where to, and what the person who asks knows better."""

    source: Path
    into: Path
    python: str = ""
    name: str = ""
    model: str = ""
    target: str = ""
    time: str = ""
    timeout_seconds: float | None = None

    @property
    def is_model(self) -> bool:
        """Say whether it is a trained model and no notebook."""
        return self.source.suffix.lower() not in NOTEBOOKS

    @property
    def interpreter(self) -> str:
        """Give the interpreter that was named, as a full path; a link in it is not followed: it may be a venv's."""
        found = shutil.which(Path(self.python).expanduser()) if self.python else None
        return os.path.abspath(found) if found else self.python  # noqa: PTH100

    @property
    def model_name(self) -> str:
        """Give the model's name: the one that was asked for, or the folder's made into one."""
        return self.name or nearest_name(self.into.resolve().name)


@dataclass(frozen=True)
class Adoption:
    """A project that was made, and what is known of it."""

    folder: Path
    name: str
    form: str
    files: int
    steps: list[dict[str, Any]]
    parity: dict[str, Any]
    certified: bool
    verdict: str
    findings: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[dict[str, Any]] = field(default_factory=list)
    fallback: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what was chosen for the project, and how to choose otherwise

    def to_json(self) -> dict[str, Any]:
        """Give what `trilho adopt --json` prints."""
        return {**asdict(self), "project": str(self.folder), "folder": str(self.folder)}


def forecast_notebook(wish: Wish) -> list[str]:
    """Say what a notebook would read, write, send and cost, and what its interpreter lacks; nothing of it runs."""
    notebook = read_notebook(wish.source)
    return [*forecast(notebook).lines(), *unusable(notebook, wish.python)]


def adopt_notebook(wish: Wish, say: Say) -> Adoption:
    """Make a project of a notebook, and hold it against the notebook's own run.

    Where the sliced project differs from the notebook, its whole code up to the model's input is taken instead, and
    the certificate says so. Nothing is left where no project can be made; what a killed run has done is taken up by the
    next one.
    """
    package_of(wish.model_name)
    require_free(wish.into)
    notebook = read_notebook(wish.source)
    say(*forecast(notebook).lines())
    interpreter = find_interpreter(notebook, wish.python)
    require_usable(interpreter.python, tables="pandas" in notebook.modules)
    wish = _named(wish, interpreter.python)
    say(f"Running {notebook.path.name} with {interpreter.python} (Python {interpreter.version}, {interpreter.source}).")
    with scratch_folder(notebook.digest) as scratch, drafted(wish.into) as draft:
        trace = capture(
            notebook, interpreter, scratch, progress=_Shown(say), timeout_seconds=wish.timeout_seconds
        )  # fmt: skip
        require_run(notebook, trace)
        choice = choose(
            notebook, trace, model=wish.model, target=wish.target, time=wish.time, scratch=scratch
        )  # fmt: skip
        say(f"The model is {choice.shipped_name}: {choice.why}.")
        findings = examine_notebook(notebook, trace, choice, scratch)
        making = _Making(wish, notebook, trace, choice, scratch, interpreter.python, say, draft)
        return making.make(findings)


def _named(wish: Wish, python: str) -> Wish:
    """Keep the project's package from hiding a library of the notebook's. Raises UsageError for a name that does."""
    name = wish.model_name
    package = package_of(name)
    if not has_module(python, package):
        return wish
    if wish.name:
        package_of(name, {package})
    return replace(wish, name=nearest_name(name, {package}))


def adopt_trained(wish: Wish, sample: Path | None, say: Say) -> Adoption:
    """Make a project of a trained model; what nobody knows of it is said. Raises UsageError without a sample."""
    if sample is None:
        raise UsageError(
            f"{wish.source} is a trained model, and without rows nothing can be shown of it",
            hint=f"trilho adopt {wish.source} --sample rows.csv --into {wish.into}",
        )
    made = adopt_model(wish.source, sample, wish.into, python=wish.interpreter, name=wish.model_name,
                       target=wish.target, time=wish.time, say=say)  # fmt: skip
    package = package_of(made.name)
    return Adoption(
        folder=made.folder,
        name=made.name,
        form="trained",
        files=made.files,
        steps=[{"name": name, "function": f"{package}.{name}:{name}", "cells": []} for name in ("load", "fit")],
        parity=made.certificate.summary(),
        certified=made.certificate.certified,
        verdict=verdict_of(made.certificate),
        findings=[asdict(finding) for finding in once(made.findings)],
    )


class _Making:
    """The last part: from a run and a choice to a project that is held against them."""

    def __init__(
        self, wish: Wish, notebook: Notebook, trace: Trace, choice: Choice, scratch: Path, python: str, say: Say,
        folder: Path,
    ) -> None:  # fmt: skip
        self.wish, self.notebook, self.trace, self.choice = wish, notebook, trace, choice
        self.scratch, self.python, self.say = scratch, python, say
        self.folder = folder  # where it is made; it is moved to where it is wanted when it is done

    def make(self, findings: Iterable[Finding]) -> Adoption:
        """Write the project in the best form that gives the notebook's answers.

        A form that fails, or whose answers differ, gives way to the next: raw rows to features, raw rows to a model
        with a state, and last the whole notebook. Where none can be certified the first that was written stays.
        """
        forms: list[Form] = list(FORMS)
        because: list[Fallback] = []
        kept: Adoption | None = None
        late = True
        past = bool(self.choice.lags)  # a model of lags is answered after past rows, in batches only where that fails
        while forms:
            try:
                plan = make_plan(self.notebook, self.trace, self.choice, name=self.wish.model_name,
                                 allowed=forms, because=because, past=past, late=late,
                             scratch=self.scratch)  # fmt: skip
            except TrilhoError:
                if kept is None:
                    raise
                break
            past = False
            if plan.past is None:
                forms = forms[forms.index(plan.form) + 1 :]
            if plan.form == "whole" and not plan.prepared:  # then the whole way to the model's input
                forms, late = ["whole"], False
            try:
                made, certificate = self._written(plan)
            except TrilhoError as error:
                if not forms and kept is None:
                    raise
                because.append(self._reason(error.line))
                continue
            told = self._told(plan, made, certificate, findings)
            if certificate.certified or not _is_sliced_wrong(certificate):
                return self._settled(told)
            because.append(self._reason("; ".join(certificate.reasons())))
            kept = kept or self._put_aside(told)
            if forms:
                self.say(f"Its answers differ ({told.verdict}): trying another form of project.")
        assert kept is not None
        return self._restored(kept)

    def _reason(self, said: str) -> Fallback:
        fit = next(fit for fit in self.trace.fits if fit.id == self.choice.shipped_fit)
        return Fallback(self.choice.shipped_name, fit.cell, fit.span[0], said)

    @property
    def _aside(self) -> Path:
        return self.folder.with_name(f".{self.folder.name}.first")

    def _put_aside(self, told: Adoption) -> Adoption:
        shutil.rmtree(self._aside, ignore_errors=True)
        self.folder.rename(self._aside)
        return told

    def _settled(self, told: Adoption) -> Adoption:
        shutil.rmtree(self._aside, ignore_errors=True)
        return told

    def _restored(self, told: Adoption) -> Adoption:
        if self._aside.exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            self._aside.rename(self.folder)
        return told

    def _written(self, plan: Plan) -> tuple[_Written, Certificate]:
        choice = asked_alone(plan, self.choice)
        own = emit(self.wish.model_name, plan, choice, self.trace, self.notebook, self.scratch)
        files = {**standard_files(self._values(plan, own)), **own.texts}
        exposed = find_exposed(own.texts, own.copies)
        for name in [name for name in exposed if name.startswith("notebooks/")]:
            files[".gitignore"] += IGNORED.format(re.sub(r"([\\*?\[\]])", r"\\\1", name))
        with tempfile.TemporaryDirectory(prefix="trilho-adopt-") as place:
            contents = dict(_as_files(own.contents, Path(place)))
            paths = write_tree(self.folder, files, {**own.copies, **contents})
        try:
            python = make_environment(self.folder, self.python, runtime_requirement())
            certificate = certify(
                self.folder, self.trace, choice, plan, scratch=self.scratch, python=python,
                notebook=self.notebook.path.name, progress=lambda text: self.say(f"  comparing {text}"),
            )  # fmt: skip
            written = write_certificate(self.folder, certificate)
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        return _Written(own, len(paths) + len(written), exposed), certificate

    def _values(self, plan: Plan, own: Emitted) -> Values:
        return Values(
            name=self.wish.model_name,
            package=plan.package,
            task=self.choice.task,
            python=".".join(self.trace.version.split(".")[:2]),
            summary=own.summary,
            story=own.story,
            files=own.files,
            libraries=own.libraries,
            beginning=f"Adopted from notebooks/{self.notebook.path.name}.",
        )

    def _told(self, plan: Plan, made: _Written, certificate: Certificate, findings: Iterable[Finding]) -> Adoption:
        chosen = [f for f in self.choice.findings if plan.past is None or f.rule != "past-rows"]
        found = [*findings, *chosen, *plan.findings, *made.own.findings, *told_secrets(made.exposed)]
        return Adoption(
            folder=self.wish.into,
            name=self.wish.model_name,
            form=plan.form,
            files=made.files,
            steps=_steps(plan, made.own),
            parity=certificate.summary(),
            certified=certificate.certified,
            verdict=verdict_of(certificate),
            findings=[asdict(finding) for finding in once(found)],
            dropped=[asdict(dropped) for dropped in plan.dropped],
            fallback=[asdict(fallback) for fallback in plan.fallback],
            notes=notes_of(plan, self.choice, made.own.texts["trilho.toml"]),
        )


@dataclass(frozen=True)
class _Written:
    own: Emitted
    files: int
    exposed: dict[str, int]


def find_exposed(texts: Mapping[str, str], copies: Mapping[str, Path]) -> dict[str, int]:
    """Count what looks like a secret in the files that a project is made of, by file; none is ever repeated."""
    found = {name: len(check([(name, text)])) for name, text in texts.items()}
    for name, path in copies.items():
        if path.is_file() and path.stat().st_size <= READ_BYTES:
            content = path.read_bytes()
            found[name] = 0 if b"\0" in content[:8192] else len(check([(name, content.decode("utf-8", "replace"))]))
    return {name: count for name, count in found.items() if count}


def told_secrets(exposed: Mapping[str, int]) -> list[Finding]:
    """Say what of a project no repository should get."""
    found = []
    for name in sorted(exposed):
        is_notebook = name.startswith("notebooks/")
        kept = "; .gitignore keeps it out of commits" if is_notebook else ""
        then = ", then delete its line in .gitignore" if is_notebook else ""
        said = f"it is kept as it is, with what looks like a secret in it{kept}"
        found.append(Finding("secret-kept", None, None, said, "error", f"take it out and renew it{then}", name))
    return found


def require_run(notebook: Notebook, trace: Trace) -> None:
    """Raise StepFailed with the cell where a notebook's run ended early."""
    failed = next((one for one in trace.statements if one.state == "failed"), None)
    if failed is None:
        return
    statement = next(one for one in notebook.statements if one.id == failed.id)
    line = failed.error_line or statement.line
    raise StepFailed(
        f"{notebook.path.name} fails in cell {statement.cell}, line {line}: {failed.error}",
        hint=_advice(failed),
    )


def _advice(failed: StatementTrace) -> str:
    kind, _, said = failed.error.partition(":")
    if kind == "NameError":
        name = re.search(r"name '(\w+)'", said)
        return f"define {name[1] if name else 'it'} in a cell above: a clean kernel knows only what the notebook says"
    if kind in ("ModuleNotFoundError", "ImportError"):
        return "--python names the interpreter that the notebook runs with"
    if kind in ("SystemExit", "KeyboardInterrupt"):
        return "take the line out: a notebook that is adopted runs to its last cell"
    if kind == "EOFError" or "input()" in said:
        return "write the answer into the cell: nobody is there to be asked"
    if kind == "MemoryError":
        return "run it where there is more memory, or on fewer rows"
    if kind == "FileNotFoundError":
        return "put the file where the notebook looks for it, or correct the path"
    return "let it run from the first cell to the last in a clean kernel, then adopt it"


def verdict_of(certificate: Certificate) -> str:
    """Say in a line what was shown, or why nothing was."""
    if not certificate.certified:
        return "; ".join(certificate.reasons())
    end = "package" if certificate.batch_only else "endpoint"
    largest = certificate.max_difference
    return f"{certificate.rows} rows give the same answers from the code to the {end}, largest difference {largest:.3g}"


def once(findings: Iterable[Finding]) -> list[Finding]:
    """Leave out what was found twice, by rule and place; errors come first."""
    kept: dict[tuple[object, ...], Finding] = {}
    for finding in findings:
        kept.setdefault((finding.rule, finding.cell, finding.line), finding)
    order = ("error", "warning", "note")
    return sorted(kept.values(), key=lambda f: (order.index(f.severity), f.cell is None, f.cell or 0, f.line or 0))


def _is_sliced_wrong(certificate: Certificate) -> bool:
    """Say whether the project's own code is what differs: then the whole notebook may do better."""
    return any(stage.name in ("features", "fit", "pipeline", "package", "http") and not stage.holds
               for stage in certificate.stages)  # fmt: skip


def _steps(plan: Plan, own: Emitted) -> list[dict[str, Any]]:
    functions = {"load": plan.load, "features": plan.features[-1] if plan.features else None,
                 "fit": plan.fit[-1] if plan.fit else None, "predict": plan.predict,
                 "evaluate": plan.evaluate[-1] if plan.evaluate else None}  # fmt: skip
    there = {Path(file).stem for file in own.texts}
    return [
        {"name": name, "function": f"{plan.package}.{name}:{name if name != 'features' else 'build'}",
         "cells": function.cells if function is not None else []}
        for name, function in functions.items() if name in there
    ]  # fmt: skip


def _as_files(contents: Mapping[str, bytes], folder: Path) -> Iterator[tuple[str, Path]]:
    for number, (name, content) in enumerate(contents.items()):
        path = folder / str(number)
        path.write_bytes(content)
        yield name, path


class _Shown:
    """Progress, in a line now and then: what is found at once, a new place after a second, the same one seldom."""

    def __init__(self, say: Say) -> None:
        self.say, self.last, self.shown = say, -SHOWN_SECONDS, ("", 0)

    def __call__(self, progress: Progress) -> None:
        place = (progress.what, progress.cell)
        wait = STILL_SECONDS if place == self.shown else SHOWN_SECONDS
        if progress.note or progress.seconds - self.last >= wait:
            self.last, self.shown = progress.seconds, place
            self.say(f"  {progress.seconds:5.1f} s  cell {progress.cell} of {progress.of}: {progress.what[:80]}")
