"""A project's pipelines, and anybody's, wired to this machine: compiled, run and put on record.

With a trilho.toml a run gets its records in the journal; without one a folder will do, and its runs are kept in
.trilho (or TRILHO_HOME) only.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trilho.config import FILE
from trilho.errors import ConfigError, TrilhoError, UsageError
from trilho.pipeline.compile.compiler import compile_definition
from trilho.pipeline.definition.document import Definition, load_definition, read_interfaces
from trilho.pipeline.keeping.runs import RunFolder, is_elsewhere, new_run_id
from trilho.pipeline.rules.check import require_sound
from trilho.pipeline.rules.reading import Finding
from trilho_runtime.steps.digest import digest_json
from trilho_runtime.steps.fingerprint import code_digest

if TYPE_CHECKING:
    from trilho.core import records as r
    from trilho.core.ports import ArtifactStore
    from trilho.pipeline.execution.execute import RunResult, TaskEvent
    from trilho.pipeline.ir.reader import Spec
    from trilho.project import Project

LOCAL_IMAGE = "trilho.local"
LOCKS = (
    "requirements.txt",
    "requirements.lock",
    "uv.lock",
    "poetry.lock",
    "pdm.lock",
    "Pipfile.lock",
    "pyproject.toml",
)
TRIGGER = "a person"
EXTRACT = "trilho.train.steps:extract"  # the step that reads a dataset version: a training has it
WANTED: dict[str, tuple[str, tuple[type, ...]]] = {
    "NUMBER_INTEGER": ("a whole number", (int,)),
    "NUMBER_DOUBLE": ("a number", (int, float)),
    "BOOLEAN": ("true or false", (bool,)),
    "LIST": ("a list as JSON", (list,)),
    "STRUCT": ("an object as JSON", (dict,)),
}
EXAMPLES = {"NUMBER_INTEGER": "5", "NUMBER_DOUBLE": "0.5", "BOOLEAN": "true", "LIST": "'[1, 2]'",
            "STRUCT": "'{\"a\": 1}'"}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """A compiled pipeline, and what its rules only found odd."""

    name: str
    document: dict[str, Any]
    image: str
    warnings: list[Finding] = field(default_factory=list)

    def said(self) -> list[str]:
        """Give the warnings as lines, also one about an image that a tag names."""
        found = [f"{one}" + (f"; {one.hint}" if one.hint else "") for one in self.warnings]
        return [*found, *filter(None, [tag_warning(self.image)])]


@dataclass(frozen=True, kw_only=True)
class Site:
    """A folder that pipelines are compiled and run in: a project, or any other."""

    folder: Path
    project: Project | None = None
    interpreter: Path | None = None
    """The interpreter that was named for this call."""

    @classmethod
    def of(cls, folder: Path, python: Path | None = None) -> Site:
        """Open a folder. Raises ConfigError for a trilho.toml that is wrong, UsageError for no interpreter."""
        if python is not None and not os.access(python, os.X_OK):
            raise UsageError(f"--python is {python}, and no interpreter is there", hint="--python .venv/bin/python")
        named = python.absolute() if python is not None else None  # resolved, a virtual environment would be lost
        if not (folder / FILE).exists():
            if not folder.is_dir():
                raise UsageError(f"{folder} is not a folder", hint="-C DIR names the folder to work in")
            return cls(folder=folder.resolve(), interpreter=named)
        from trilho.project import Project

        project = Project.open(folder)
        return cls(folder=project.folder, project=project, interpreter=named)

    @property
    def home(self) -> Path:
        """Where runs, results and the cache are kept."""
        if self.project is not None:
            return self.project.home
        return Path(os.environ.get("TRILHO_HOME") or self.folder / ".trilho").expanduser().resolve()

    @property
    def source(self) -> Path:
        """The folder that the steps' modules are imported from."""
        src = self.folder / "src"
        return src if src.is_dir() else self.folder

    @cached_property
    def python(self) -> Path:
        """The interpreter of the steps."""
        if self.interpreter is not None:
            return self.interpreter
        if self.project is not None:
            return self.project.python
        own = self.folder / ".venv" / "bin" / "python"
        named = os.environ.get("TRILHO_PYTHON")
        return Path(named) if named else own if own.exists() else Path(sys.executable)

    def trains(self, reference: str) -> bool:
        """Say whether what is meant by a name, or by none, is the standard training."""
        return not reference and self.project is not None and self.project.settings.pipeline.define is None

    def compile(self, reference: str | None = None, image: str | None = None) -> Compiled:
        """Compile the pipeline that a function writes; without one the project's own, or else the standard one.

        Raises GraphError that lists all that is wrong with it, each by file and line.
        """
        if reference is not None and not all(reference.partition(":")):
            ready = Path(reference).suffix in (".yaml", ".yml", ".json")
            raise UsageError(
                f"{reference!r} is no function; package.module:function is wanted",
                hint=f"trilho pipeline run {reference}, if it is compiled already" if ready else None,
            )
        definition = self._define(reference)
        interfaces = read_interfaces(definition, self.source)
        warnings = require_sound(definition, interfaces)
        chosen = image or self._image(definition)
        document = compile_definition(definition, interfaces, image=chosen)
        return Compiled(name=definition.name, document=document, image=chosen, warnings=warnings)

    def _define(self, reference: str | None) -> Definition:
        if self.project is None:
            if reference is None:
                raise ConfigError(
                    f"{self.folder} has no {FILE} that says which pipeline",
                    hint="name the function that writes it: trilho pipeline compile package.module:function",
                )
            return load_definition(reference, python=self.python, source=self.source, home=self.home)
        from trilho.data.contract import load_contract
        from trilho.train.inputs import check_steps
        from trilho.train.pipeline import training_pipeline

        settings = self.project.settings
        named = reference or settings.pipeline.define
        if named is None:
            check_steps(settings, self.folder, self.source)
        standard = training_pipeline(settings, load_contract(self.folder / settings.data.contract))
        python = self.python if named is not None else Path(sys.executable)  # the standard one needs no interpreter
        return load_definition(named, standard, python=python, source=self.source, home=self.home)

    def _image(self, definition: Definition) -> str:
        if self.project is not None and self.project.settings.pipeline.image is not None:
            return self.project.settings.pipeline.image
        name = self.project.name if self.project is not None else definition.name
        return f"{LOCAL_IMAGE}/{name}@sha256:{self.digest()}"

    def digest(self) -> str:
        """Give the digest of all of the code and of the files that lock its libraries: what an image would hold."""
        locks = {name: (self.folder / name).read_text("utf-8") for name in LOCKS if (self.folder / name).is_file()}
        return digest_json([code_digest(self.source, ["*"]), locks])

    def run(
        self,
        spec: Spec,
        parameters: Mapping[str, Any],
        *,
        install: bool = True,
        cache: bool = True,
        resume: str | None = None,
        timeout: timedelta | None = None,
        on_task: Callable[[r.TaskResult], None] = lambda _: None,
        observe: Callable[[TaskEvent], None] | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> tuple[str, RunResult]:
        """Run a pipeline here and give the run's id and what it came to; in a project it is put on record.

        What cannot run here is refused before it is on record or anything runs.
        """
        from trilho.pipeline.execution.execute import execute
        from trilho.pipeline.places import Places
        from trilho.pipeline.workers.workers import Workers

        run = new_run_id()
        if resume is not None and RunFolder.of(self.home, resume).read() is None:
            raise UsageError(f"there is no run {resume} in {self.home}", hint="a run's id is in what it printed")
        places = Places(
            python=self.python, source=self.source, folder=self.folder, platform=Path(sys.executable), install=install
        )
        with (
            RunFolder.of(self.home, run).lease(),
            Workers(places, self.home, say=say) as workers,
            _Recording(self, run, spec.name) as recording,
        ):

            def observed(event: TaskEvent) -> None:
                recording.begin()
                if observe is not None:
                    observe(event)

            result = execute(
                spec,
                parameters,
                run_id=run,
                home=self.home,
                store=self.store,
                places=places,
                timeout=timeout,
                on_task=on_task,
                observe=observed,
                about=recording.about,
                workers=workers,
                held=True,
                cache=cache,
                resume=resume,
            )
            recording.end(result.state, result.tasks, result.error, result.seconds)
        return run, result

    def supplied(self, spec: Spec) -> dict[str, Any]:
        """Give what the compiled training of this project asks for and only the project can say: data, champion.

        Of any other pipeline nothing. The data is versioned now, as `trilho train` does; no version of the model is
        registered by running the pipeline alone.
        """
        project, extracts = self.project, EXTRACT in json.dumps(spec.document.get("deploymentSpec", {}))
        if project is None or not extracts or "dataset" not in spec.root.inputs:
            return {}
        from trilho.train.run import supply

        state, run = project.state(), new_run_id()
        champion = state.versions.get(state.champion) if state.champion is not None else None
        try:
            context = project.train_context(run, TRIGGER, champion, served=project.export_served(run))
            found = supply(context, spec.document)
        finally:
            shutil.rmtree(RunFolder.of(self.home, run).path, ignore_errors=True)
        return {name: value for name, value in found.items() if name != "run"}

    @cached_property
    def store(self) -> ArtifactStore:
        """The artifacts."""
        from trilho.backends.local.store import LocalStore

        return self.project.store if self.project is not None else LocalStore(self.home / "store")


class _Recording:
    """A run's start and end in the journal, where there is one; a run in which nothing began leaves nothing."""

    def __init__(self, site: Site, run: str, pipeline: str) -> None:
        self._site, self._project, self._run, self._pipeline = site, site.project, run, pipeline
        self._begun = False
        self._ended = False
        self._commit, self._time = self._project.commit() if self._project is not None else (None, None)

    def __enter__(self) -> _Recording:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if self._begun and not self._ended:
            said = (
                error.fact if isinstance(error, TrilhoError) else f"it was interrupted: {kind.__name__ if kind else ''}"
            )
            found = RunFolder.of(self._site.home, self._run).read() or {}
            self._record_end("failed", found.get("tasks", []), said, 0.0)
        elif not self._begun:
            shutil.rmtree(RunFolder.of(self._site.home, self._run).path, ignore_errors=True)

    @property
    def about(self) -> dict[str, str | None]:
        """What the run's manifest says of it."""
        model = self._project.name if self._project is not None else None
        return {"model": model, "trigger": TRIGGER, "commit": self._commit, "runner": "local"}

    def begin(self) -> None:
        """Put the start on record, once."""
        if self._begun:
            return
        self._begun = True
        if self._project is None:
            return
        from trilho.core.records import RunStarted

        self._settle(self._project)
        self._project.record(
            RunStarted(
                model=self._project.name,
                run=self._run,
                pipeline=self._pipeline,
                trigger=TRIGGER,
                dataset=None,
                commit=self._commit,
                commit_time=self._time,
            )
        )

    def end(self, state: r.RunState, tasks: list[r.TaskResult], error: TrilhoError | None, seconds: float) -> None:
        """Put the end on record."""
        self.begin()
        self._record_end(state, tasks, error.line if error is not None else None, seconds)

    def _record_end(self, state: r.RunState, tasks: list[r.TaskResult], error: str | None, seconds: float) -> None:
        self._ended = True
        if self._project is not None:
            from trilho.core.records import RunEnded

            end = RunEnded(
                model=self._project.name,
                run=self._run,
                state=state,
                tasks=tasks,
                error=error,
                seconds=round(seconds, 3),
            )
            self._project.record(end)

    def _settle(self, project: Project) -> None:
        from trilho.train.records import settle_runs

        running = [run.id for run in project.state().runs.values() if run.state == "running"]
        here = [run for run in running if not is_elsewhere(project.home, run)]
        settle_runs(project.home, project.name, here, project.record)


def parameters_of(
    spec: Spec, given: Iterable[str], supply: Callable[[Spec], Mapping[str, Any]] = lambda _: {}
) -> dict[str, Any]:
    """Read parameters given as "name=value" by the types that a pipeline declares; lists and objects are JSON.

    `supply` is asked where some are missing. Raises UsageError that names the parameter, what was given and what is
    wanted, or all that are missing.
    """
    found: dict[str, Any] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise UsageError(f"--param is {text!r}; NAME=VALUE is wanted", hint="--param rows=500")
        if name not in spec.root.inputs:
            from trilho.core.spelling import near

            raise UsageError(f"pipeline {spec.name} has no parameter {name!r}", hint=near(name, spec.root.inputs))
        found[name] = _read(name, value, spec.root.inputs[name].type)
    known = {**spec.given, **found}
    missing = [name for name, kind in spec.root.inputs.items() if kind.required and known.get(name) is None]
    if missing:
        found = {**supply(spec), **found}
        missing = [name for name in missing if found.get(name) is None]
    if missing:
        said = f"parameter{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
        raise UsageError(
            f"{said} of pipeline {spec.name} {'are' if len(missing) > 1 else 'is'} missing",
            hint=" ".join(f"--param {name}=..." for name in missing),
        )
    return found


def _read(name: str, text: str, kind: str) -> Any:
    wanted = WANTED.get(kind)
    if wanted is None:
        return text
    words, types = wanted
    try:
        value = json.loads(text.lower() if kind == "BOOLEAN" else text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        value = None
    fits = isinstance(value, types) and (kind == "BOOLEAN" or not isinstance(value, bool))
    if not fits or (isinstance(value, float) and not math.isfinite(value)):
        raise UsageError(f"parameter {name} is {text!r}; {words} is wanted", hint=f"--param {name}={EXAMPLES[kind]}")
    return value


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def tag_warning(image: str) -> str | None:
    """Say what is odd about an image that is not named by its digest; None where it is.

    >>> tag_warning("registry.example.com/shop@sha256:12ab")
    >>> tag_warning("shop:v2")
    'the image shop:v2 has no digest; a tag can name another image tomorrow; give it as NAME@sha256:...'
    """
    if "@sha256:" in image:
        return None
    return f"the image {image} has no digest; a tag can name another image tomorrow; give it as NAME@sha256:..."
