"""A notebook becomes a project: read, run, choose, slice, write, prove; each part knows only what is handed to it."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trilho.adopt.capture import Progress, capture, find_interpreter
from trilho.adopt.doctor.examine import examine_notebook
from trilho.adopt.emit.project import Emitted, emit
from trilho.adopt.environment import make_environment
from trilho.adopt.forecast import forecast
from trilho.adopt.notebook import Notebook, read_notebook
from trilho.adopt.parity.certificate import Certificate, write_certificate
from trilho.adopt.parity.check import certify
from trilho.adopt.plan import Choice, Fallback, Finding, Form, Plan
from trilho.adopt.scaffold import nearest_name, package_of, runtime_requirement, standard_files
from trilho.adopt.slice.choose import choose
from trilho.adopt.slice.slice import FORMS, make_plan
from trilho.adopt.standard.render import Values
from trilho.adopt.standard.tree import require_free, write_tree
from trilho.adopt.trace import StatementTrace, Trace
from trilho.adopt.trained.adopt import adopt_model
from trilho.errors import StepFailed, TrilhoError, UsageError

Say = Callable[..., None]
NOTEBOOKS = (".ipynb", ".py")
SHOWN_SECONDS = 1.0  # between two lines of progress


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

    def to_json(self) -> dict[str, Any]:
        """Give what `trilho adopt --json` prints."""
        return {**asdict(self), "project": str(self.folder), "folder": str(self.folder)}


def forecast_notebook(wish: Wish) -> list[str]:
    """Say what a notebook would read, write, send and cost; nothing of it runs."""
    return forecast(read_notebook(wish.source)).lines()


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
    say(f"Running {notebook.path.name} with {interpreter.python} (Python {interpreter.version}, {interpreter.source}).")
    with scratch_folder(notebook.digest) as scratch:
        trace = capture(notebook, interpreter, scratch, progress=_Shown(say))
        require_run(notebook, trace)
        choice = choose(
            notebook, trace, model=wish.model, target=wish.target, time=wish.time, scratch=scratch
        )  # fmt: skip
        say(f"The model is {choice.shipped_name}: {choice.why}.")
        findings = examine_notebook(notebook, trace, choice, scratch)
        return _Making(wish, notebook, trace, choice, scratch, interpreter.python, say).make(findings)


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
        self, wish: Wish, notebook: Notebook, trace: Trace, choice: Choice, scratch: Path, python: str, say: Say
    ) -> None:
        self.wish, self.notebook, self.trace, self.choice = wish, notebook, trace, choice
        self.scratch, self.python, self.say = scratch, python, say

    def make(self, findings: Iterable[Finding]) -> Adoption:
        """Write the project in the best form that gives the notebook's answers.

        A form that fails, or whose answers differ, gives way to the next: raw rows to features, raw rows to a model
        with a state, and last the whole notebook. Where none can be certified the first that was written stays.
        """
        forms: list[Form] = list(FORMS)
        because: list[Fallback] = []
        kept: Adoption | None = None
        past = bool(self.choice.lags)  # a model of lags is answered after past rows, in batches only where that fails
        while forms:
            plan = make_plan(self.notebook, self.trace, self.choice, name=self.wish.model_name,
                             allowed=forms, because=because, past=past)  # fmt: skip
            past = False
            if plan.past is None:
                forms = forms[forms.index(plan.form) + 1 :]
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
        return self.wish.into.with_name(f".{self.wish.into.name}.first")

    def _put_aside(self, told: Adoption) -> Adoption:
        shutil.rmtree(self._aside, ignore_errors=True)
        self.wish.into.rename(self._aside)
        return told

    def _settled(self, told: Adoption) -> Adoption:
        shutil.rmtree(self._aside, ignore_errors=True)
        return told

    def _restored(self, told: Adoption) -> Adoption:
        if self._aside.exists():
            shutil.rmtree(self.wish.into, ignore_errors=True)
            self._aside.rename(self.wish.into)
        return told

    def _written(self, plan: Plan) -> tuple[_Written, Certificate]:
        own = emit(self.wish.model_name, plan, self.choice, self.trace, self.notebook, self.scratch)
        files = {**standard_files(self._values(plan, own)), **own.texts}
        with tempfile.TemporaryDirectory(prefix="trilho-adopt-") as place:
            contents = dict(_as_files(own.contents, Path(place)))
            paths = write_tree(self.wish.into, files, {**own.copies, **contents})
        try:
            python = make_environment(self.wish.into, self.python, runtime_requirement())
            certificate = certify(
                self.wish.into, self.trace, self.choice, plan, scratch=self.scratch, python=python,
                notebook=self.notebook.path.name, progress=lambda text: self.say(f"  comparing {text}"),
            )  # fmt: skip
            written = write_certificate(self.wish.into, certificate)
        except BaseException:
            shutil.rmtree(self.wish.into, ignore_errors=True)
            raise
        return _Written(own, len(paths) + len(written)), certificate

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
        found = [*findings, *self.choice.findings, *plan.findings, *made.own.findings]
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
        )


@dataclass(frozen=True)
class _Written:
    own: Emitted
    files: int


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
    """Progress, in a line now and then."""

    def __init__(self, say: Say) -> None:
        self.say, self.last = say, -SHOWN_SECONDS

    def __call__(self, progress: Progress) -> None:
        if progress.seconds - self.last >= SHOWN_SECONDS:
            self.last = progress.seconds
            self.say(f"  {progress.seconds:5.1f} s  cell {progress.cell} of {progress.of}: {progress.what[:80]}")


@contextmanager
def scratch_folder(digest: str) -> Iterator[Path]:
    """Give a folder for a notebook's run; a run that was killed finds its checkpoint there again.

    It is removed when the run has come to an end, good or bad; another adoption of the same notebook at the same time
    gets one of its own.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trilho" / "adopt"
    root.mkdir(parents=True, exist_ok=True)
    with (root / f"{digest[:32]}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            folder = root / digest[:32]
        except BlockingIOError:
            folder = Path(tempfile.mkdtemp(dir=root))
        folder.mkdir(exist_ok=True)
        try:
            yield folder
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)
