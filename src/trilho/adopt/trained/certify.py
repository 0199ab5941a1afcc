"""Whether a project gives the answers of the model file that it was made of: in its code, the pipeline, the package,
and over HTTP. What was never known, such as the training, is named as not compared."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from trilho.adopt.parity.answers import compare_answers
from trilho.adopt.parity.certificate import (
    STAGES,
    Certificate,
    Digests,
    Model,
    Stage,
    data_files,
    digest_code,
    digest_data,
)
from trilho.adopt.parity.endpoint import Answered, ask_endpoint
from trilho.adopt.parity.harness_process import HarnessFailed, run_harness
from trilho.adopt.parity.training import Trained, train_and_pack
from trilho.adopt.trained.handed import Handed
from trilho.config import Settings, load_settings
from trilho.core.digest import digest_json
from trilho.errors import TrilhoError

TOLERANCE = 1e-9
SAMPLE = 2000
UNKNOWN = {
    "load": "the rows are the sample's, as they are",
    "features": "the model takes raw rows",
    "evaluate": "how the model was measured is not known",
}


def certify_handed(
    project: Path, handed: Handed, *, python: Path, progress: Callable[[str], None] = lambda _: None
) -> Certificate:
    """Hold a project against the predictions of the model's file, and give the certificate."""
    settings = load_settings(project)
    with tempfile.TemporaryDirectory(prefix="trilho-parity-", ignore_cleanup_errors=True) as folder:
        check = _Check(project, settings, handed, python, Path(folder), progress)
        check.run()
        return check.certificate()


class _Check:
    """One check, with what its stages leave for each other in a folder."""

    def __init__(
        self,
        project: Path,
        settings: Settings,
        handed: Handed,
        python: Path,
        folder: Path,
        progress: Callable[[str], None],
    ) -> None:
        self.project, self.settings, self.handed = project, settings, handed
        self.python, self.folder, self.progress = python, folder, progress
        self.trained: Trained | None = None
        self.stages = {
            name: Stage(name=name, state="not compared", required=False, reason=reason)
            for name, reason in UNKNOWN.items()
        }

    def run(self) -> None:
        """Carry out every stage; what one lacks, it says."""
        steps = {"features": self.settings.steps.features or "", "train": self.settings.steps.train}
        model = self.settings.model
        told = {
            "folder": str(self.folder),
            "project": str(self.project),
            "sample": str(self._sample_file()),
            "target": model.target,
            "task": model.task,
            "at_most": SAMPLE,
            "tolerance": TOLERANCE,
            "predictions": self.handed.predictions,
            **steps,
        }
        self.progress("the project's model")
        if not self._harness("fit", "asked_model", told):
            return
        self._pipeline(steps)
        self._package()
        self._http()

    def _pipeline(self, steps: dict[str, str]) -> None:
        self.progress("a pipeline")
        try:
            self.trained = train_and_pack(
                self.project,
                self.settings,
                python=self.python,
                folder=self.folder,
                steps=steps,
                metrics=self.handed.metrics,
                whole=not self.handed.alone,
            )
        except TrilhoError as error:
            self._missing("pipeline", error.line)
            return
        positions = np.load(self.folder / "sample.npy").tolist()
        self._compare("pipeline", [self.trained.predictions.get(row) for row in positions])

    def _package(self) -> None:
        if self.trained is None:
            self._missing("package", "the pipeline made no package")
            return
        self.progress("the package")
        told = {
            "folder": str(self.folder),
            "package": str(self.trained.package),
            "tolerance": TOLERANCE,
            "batch_only": not self.handed.alone,
            "newest": 0,
            "target": [],
        }
        self._harness("package", "packaged", told)

    def _http(self) -> None:
        if self.trained is None or not self.handed.alone:
            batch = not self.handed.alone
            reason = "batch only: it has no endpoint" if batch else "the pipeline made no package"
            self.stages["http"] = Stage(name="http", state="not compared", required=not batch, reason=reason)
            return
        self.progress("the endpoint")
        rows = json.loads((self.folder / "requests.json").read_text(encoding="utf-8"))
        try:
            answers = ask_endpoint(
                self.trained.package,
                self.trained.digest,
                rows,
                python=self.python,
                folder=self.folder,
                task=self.handed.task,
            )
        except (TrilhoError, Answered) as error:
            self._missing("http", error.line if isinstance(error, TrilhoError) else str(error))
            return
        self._compare("http", answers)

    def _harness(self, stage: str, part: str, told: dict[str, Any]) -> bool:
        seconds = self.settings.train.timeout.total_seconds()
        try:
            found = run_harness(part, told, python=self.python, project=self.project, seconds=seconds)
        except HarnessFailed as error:
            self._missing(stage, str(error))
            return False
        self.stages[stage] = Stage(**{"name": stage, **found})
        return (self.folder / "requests.json").is_file()

    def _compare(self, name: str, answers: Sequence[float | None]) -> None:
        expected, positions = np.load(self.folder / "expected.npy"), np.load(self.folder / "sample.npy")
        self.stages[name] = compare_answers(name, answers, expected, positions, TOLERANCE)

    def _missing(self, name: str, reason: str) -> None:
        self.stages[name] = Stage(name=name, state="not compared", reason=reason)

    def _sample_file(self) -> Path:
        return self.project / "data" / "sample.parquet"

    def certificate(self) -> Certificate:
        """Put together what was found."""
        handed = self.handed
        for name in STAGES:
            self.stages.setdefault(name, Stage(name=name, state="not compared", reason="a stage before it failed"))
        compared = [s.rows for n, s in self.stages.items() if n in ("pipeline", "package", "http") and s.rows]
        data = digest_data(data_files(self.project, self.settings))
        return Certificate(
            project=self.settings.model.name,
            notebook=handed.path.name,
            task=handed.task,
            stages=tuple(self.stages[name] for name in STAGES),
            metrics=(),
            rows=min(compared, default=0),
            data_rows=handed.rows,
            shipped=Model(name=handed.class_name, why=f"it is what {handed.path.name} holds"),
            evaluated=None,
            enforcement="landlock" if handed.enforced else "hooked",
            form="model file",
            batch_only=not handed.alone,
            digests=Digests(
                notebook=handed.digest,
                data=data,
                code=digest_code(self.project),
                environment=digest_json({"python": handed.python, "libraries": handed.versions}),
                model=self.trained.digest if self.trained is not None else "",
            ),
            sample={"how": "the first rows of the sample", "seed": data, "at_most": SAMPLE},
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            python=handed.python,
            libraries=handed.versions,
        )
