"""A project with a journal and no training: what most verbs need."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from trilho.backends.local.journal import LocalJournal
from trilho.backends.local.store import LocalStore
from trilho.cli.app import run
from trilho.core import records as r
from trilho.serve.certificate import Certifier

TOML = """
[model]
name = "bikes"
task = "regression"
target = "rides"
time = "time"
key = "id"

[data]
source = "data.csv"

[steps]
features = "bikes.features:build"
train = "bikes.train:fit"

[watch]
alerts = ["slack"]
"""


@dataclass
class Said:
    """What a verb said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Verb = Callable[..., Said]


@pytest.fixture
def trilho(capsys: pytest.CaptureFixture[str]) -> Verb:
    """Run a verb in this process."""

    def call(*arguments: str) -> Said:
        capsys.readouterr()
        code = run(arguments)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return call


@dataclass
class Made:
    """A project's folder, home and journal."""

    folder: Path
    home: Path

    @property
    def journal(self) -> LocalJournal:
        return LocalJournal(self.home / "journal.sqlite")

    @property
    def store(self) -> LocalStore:
        return LocalStore(self.home / "store")

    def version(self, number: int, verdict: r.Verdict = "pass", actor: str = "ana", champion: int | None = None) -> str:
        """Record a version with its run and the gate's verdict; give its package's digest."""
        source = self.folder / "package.txt"
        source.write_text(f"package {number}")
        package = self.store.put(source)
        run_ = f"run-{number}"
        reason = f"mae 4{number}, the champion 95"
        self.journal.append(
            r.RunStarted(model="bikes", run=run_, pipeline="train", trigger="a person", dataset=None, commit=None,
                         commit_time=None),
            r.RunEnded(model="bikes", run=run_, state="succeeded", error=None, seconds=1.5, tasks=[
                r.TaskResult(name="fit", state="ran", seconds=1.25, needs=["split"], reason="")]),
            r.VersionPackaged(model="bikes", version=number, run=run_, dataset="d" * 64, package=package, metric="mae",
                              metrics={"mae": 40.0 + number, "rows": 1440.0}, commit=None, commit_time=None,
                              data_until="2012-06-01T00:00:00"),
            r.GateJudged(model="bikes", version=number, champion=champion, verdict=verdict,
                         evidence={"reason": reason}),
            actor=actor,
        )  # fmt: skip
        return package


def certified(maker: Certifier, version: int, package: Path, say: object = None) -> r.VersionCertified:
    """Say that a version bears what it must, as its server would if its package held a model."""
    made = "2026-03-01T12:00:00+00:00"
    return r.VersionCertified(
        model=maker.model, version=version, package=package.name, verdict="pass", reason="it answers", checks=[],
        conditions={"peak": None}, figures={"rows": 50}, machine={"cores": 2, "load": [0.5]}, made=made,
    )  # fmt: skip


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A project that the test stands in, acting as rui; its packages hold no model, and are certified unseen."""
    monkeypatch.setattr(Certifier, "certify", certified)
    folder = tmp_path / "bikes"
    folder.mkdir()
    (folder / "trilho.toml").write_text(TOML)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TRILHO_ACTOR", "rui")
    return Made(folder, folder / ".trilho")
