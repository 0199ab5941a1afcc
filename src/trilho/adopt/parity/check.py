"""Parity, shown: the project against the notebook's run, from the file that was read to the answer over HTTP."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trilho.adopt.parity.certificate import (
    STAGES,
    Certificate,
    Digests,
    Measure,
    Model,
    Stage,
    data_files,
    digest_code,
    digest_data,
)
from trilho.adopt.parity.endpoint import Answered, ask_endpoint
from trilho.adopt.parity.harness_process import HarnessFailed, run_harness
from trilho.adopt.parity.request import SAMPLE, TOLERANCE, numbers_of, source_request
from trilho.adopt.parity.training import Trained, train_and_pack
from trilho.adopt.plan import Choice, Plan
from trilho.adopt.trace import Trace
from trilho.config import Settings, load_settings
from trilho.core.digest import digest_json
from trilho.errors import TrilhoError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PAIRS = 150  # of the sample, shown on the page
HOW = "the positions whose SHA-256 with the data's digest is smallest"
SAID = {
    "source": "load, features, fit and evaluate",
    "pipeline": "dataset version, fit, predict and pack as a pipeline",
    "package": "the package, opened again",
    "http": "the endpoint, over HTTP",
}


def certify(
    project: Path,
    trace: Trace,
    choice: Choice,
    plan: Plan,
    *,
    scratch: Path,
    python: Path,
    notebook: str = "",
    progress: Callable[[str], None] = lambda _: None,
) -> Certificate:
    """Hold a project against the run of its notebook, stage by stage, and give the certificate.

    `scratch` is the folder that the trace's files are in, `python` the project's interpreter. Nothing is written into
    the project. What fails is a stage that does not hold; only settings that can't be read raise.
    """
    project, python = (Path(os.path.abspath(place)) for place in (project, python))  # noqa: PTH100  no link followed
    settings, scratch = load_settings(project), scratch.resolve()
    with tempfile.TemporaryDirectory(prefix="trilho-parity-", ignore_cleanup_errors=True) as folder:
        check = _Check(project, settings, trace, choice, plan, scratch, python, Path(folder), progress)
        check.run()
        return check.certificate(notebook)


class _Check:
    """One check, with what its stages leave for each other in a folder."""

    def __init__(
        self,
        project: Path,
        settings: Settings,
        trace: Trace,
        choice: Choice,
        plan: Plan,
        scratch: Path,
        python: Path,
        folder: Path,
        progress: Callable[[str], None],
    ) -> None:
        self.project, self.settings, self.trace, self.choice, self.plan = project, settings, trace, choice, plan
        self.python, self.folder, self.progress = python, folder, progress
        self.files = data_files(project, settings)
        self.seed = digest_data(self.files)
        self.request = source_request(
            trace, choice, plan, settings, scratch=scratch, files=self.files, seed=self.seed
        )  # fmt: skip
        self.stages: dict[str, Stage] = {}
        self.found: dict[str, Any] = {}
        self.trained: Trained | None = None
        self.data_rows = 0

    def run(self) -> None:
        """Carry out every stage whose needs are met; the others say what they lacked."""
        self._source()
        self._pipeline()
        self._package()
        self._http()

    def _source(self) -> None:
        self.progress(SAID["source"])
        told = {**self.request, "project": str(self.project), "source": str(self._source_folder()),
                "folder": str(self.folder)}  # fmt: skip
        try:
            self.found = self._harness("source", told)
        except HarnessFailed as error:
            for name in STAGES[:4]:
                self._keep(Stage(name=name, state="not compared", reason=str(error)))
            return
        for stage in self.found["stages"]:
            self._keep(Stage(**stage))
            self.data_rows = max(self.data_rows, stage["rows"])

    def _pipeline(self) -> None:
        if not self.found.get("sample") or self.found.get("problem"):
            self._uncompared("pipeline", self.found.get("problem") or "fit gave no predictions")
            return
        self.progress(SAID["pipeline"])
        try:
            self.trained = train_and_pack(
                self.project, self.settings, python=self.python, folder=self.folder, steps=self.request["steps"],
                metrics=self.found["metrics"], whole=self.request["batch_only"], newest=self.newest,
            )  # fmt: skip
        except TrilhoError as error:
            self._uncompared("pipeline", error.line)
            return
        asked = self._sample()[: self.newest or None].tolist()
        self._compare("pipeline", [self.trained.predictions.get(row) for row in asked])

    def _package(self) -> None:
        if self.trained is None:
            self._uncompared("package", "the pipeline made no package")
            return
        self.progress(SAID["package"])
        told = {"folder": str(self.folder), "package": str(self.trained.package), "tolerance": TOLERANCE,
                "batch_only": self.request["batch_only"], "newest": self.newest,
                "target": self.settings.model.target}  # fmt: skip
        try:
            self._keep(Stage(name="package", **self._harness("packaged", told)))
        except HarnessFailed as error:
            self._uncompared("package", str(error))

    def _http(self) -> None:
        if self.trained is None or self.request["batch_only"]:
            batch = self.request["batch_only"]
            self._uncompared("http", "batch only: it has no endpoint" if batch else "the pipeline made no package")
            return
        self.progress(SAID["http"])
        rows = json.loads((self.folder / "requests.json").read_text(encoding="utf-8"))
        pasts = json.loads((self.folder / "pasts.json").read_text(encoding="utf-8")) if self.newest else []
        try:
            answers = ask_endpoint(
                self.trained.package, self.trained.digest, rows, python=self.python, folder=self.folder,
                task=self.settings.model.task, pasts=pasts,
            )  # fmt: skip
        except (TrilhoError, Answered) as error:
            self._uncompared("http", error.line if isinstance(error, TrilhoError) else str(error))
            return
        self._compare("http", answers)

    def _compare(self, name: str, answers: Sequence[float | None]) -> None:
        import numpy as np

        from trilho.adopt.parity.answers import compare_answers

        count = len(answers)  # of a model of lags, the newest alone
        expected, positions = np.load(self.folder / "expected.npy")[:count], self._sample()[:count]
        self._keep(compare_answers(name, answers, expected, positions, TOLERANCE))

    @property
    def newest(self) -> int:
        """How many rows of the sample, its first ones, are asked with the past that the package carries; 0 for all."""
        return int(self.found.get("newest", 0))

    def _uncompared(self, name: str, reason: str) -> None:
        self._keep(Stage(name=name, state="not compared", reason=reason))

    def _keep(self, stage: Stage) -> None:
        self.stages[stage.name] = replace(stage, required=self._is_required(stage.name))

    def _is_required(self, name: str) -> bool:
        if name == "features":
            return self.plan.form != "whole"
        if name == "evaluate":
            return bool(numbers_of(self.choice, self.trace))
        return name != "http" or not self.request["batch_only"]

    def _sample(self) -> NDArray[np.int64]:
        import numpy as np

        return np.asarray(np.load(self.folder / "sample.npy"), dtype=np.int64)

    def _source_folder(self) -> Path:
        return self.project / "src" if (self.project / "src").is_dir() else self.project

    def _harness(self, part: str, told: Mapping[str, Any]) -> dict[str, Any]:
        seconds = self.settings.train.timeout.total_seconds()
        return run_harness(part, told, python=self.python, project=self.project, seconds=seconds)

    def certificate(self, notebook: str) -> Certificate:
        """Put together what was found."""
        trace, choice = self.trace, self.choice
        installed: Mapping[str, str | None] = self.found.get("versions", {})
        measured: Mapping[str, float] = self.found.get("metrics", {})
        pairs = self.found.get("pairs", [])
        return Certificate(
            project=self.settings.model.name,
            notebook=notebook,
            task=choice.task,
            stages=tuple(self.stages[name] for name in STAGES),
            metrics=tuple(
                Measure(name=m.name, notebook=m.value, project=measured.get(m.name)) for m in numbers_of(choice, trace)
            ),
            rows=int(self.found.get("sample", 0)),
            data_rows=self.data_rows,
            shipped=Model(name=choice.shipped_name, cell=_cell(trace, choice.shipped_fit), why=choice.why),
            evaluated=_evaluated(trace, choice),
            enforcement=trace.enforcement,
            form=self.plan.form,
            batch_only=bool(self.request["batch_only"]),
            past=self.request["past"],
            digests=Digests(
                notebook=trace.notebook,
                data=self.seed,
                code=digest_code(self.project),
                environment=digest_json({"python": trace.version, "libraries": dict(installed)}),
                model=self.trained.digest if self.trained is not None else "",
            ),
            sample={
                "how": f"the newest {self.newest}, and of the others {HOW}" if self.newest else HOW,
                "seed": self.seed,
                "at_most": SAMPLE,
            },
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            problems=tuple(_problems(trace, installed)),
            fallback=tuple({"variable": f.variable, "cell": f.cell, "reason": f.reason} for f in self.plan.fallback),
            lags=tuple(lag.source for lag in choice.lags),
            python=trace.version,
            libraries={name: version or "absent" for name, version in installed.items()},
            pairs=_shown(pairs),
        )


def _shown(pairs: Sequence[Sequence[Any]]) -> tuple[tuple[Any, Any], ...]:
    """Give a few of the pairs for the picture, with the one that is furthest apart."""
    few = [(a, b) for a, b in pairs[:: max(1, -(-len(pairs) // PAIRS))]]
    numbers = [(a, b) for a, b in pairs if isinstance(a, float) and isinstance(b, float)]
    worst = max(numbers, key=lambda pair: abs(pair[0] - pair[1]), default=None)
    return tuple(few if worst is None or worst in few or worst[0] == worst[1] else [*few, worst])


def _cell(trace: Trace, fit: int | None) -> int | None:
    return next((one.cell for one in trace.fits if one.id == fit), None)


def _evaluated(trace: Trace, choice: Choice) -> Model | None:
    if choice.evaluated is None:
        return None
    return Model(name=choice.evaluated_name, cell=_cell(trace, choice.evaluated_fit))


def _problems(trace: Trace, installed: Mapping[str, str | None]) -> list[str]:
    return [
        f"{name} is {installed[name] or 'absent'} in the project's environment, {version} in the notebook's"
        for name, version in trace.libraries.items()
        if name in installed and installed[name] != version
    ]
