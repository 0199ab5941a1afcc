"""The platform's own steps of the standard pipeline: from a dataset version to the predictions that the gate compares.

They run as the project's steps do, each a process with executor input, here and in the cloud. A step whose result
changes gets a new version: its source does not count.
"""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from trilho.data.contract import Contract
from trilho.data.contract import check as check_table
from trilho.data.version import load_table, read_manifest
from trilho.errors import DataError, NotYet, Refused
from trilho.train import split as rule
from trilho.train.evaluate import choose, keep_unseen, measure, read_predictions
from trilho_runtime.step import Artifact, In, Metrics, Model, Out, Table, step


class Cut(NamedTuple):
    """How a table was split: rows on either side, and the newest time that trains ("" without a time)."""

    train_rows: int
    holdout_rows: int
    train_until: str


class Verdict(NamedTuple):
    """What the held-out rows say: the history that is kept, its metrics, and those of every candidate."""

    history: str
    metrics: dict[str, float]
    candidates: dict[str, Any]


def say(text: str) -> None:
    """Print a line: what a step prints is its log."""
    print(text, flush=True)  # noqa: T201


@dataclass(frozen=True)
class StoredFiles:
    """An artifact store as its files lie, on this machine or behind a mount; to read from only."""

    root: Path

    def path(self, digest: str) -> Path:
        """Give where an artifact lies. Raises DataError when it is not there."""
        place = self.root / digest[:2] / digest
        if not place.exists():
            raise DataError(f"artifact {digest[:12]} is not in {self.root}", hint="run what made it again")
        return place


@step(version=1, uncounted=("store",))
def extract(table: Out[Table], dataset: str, store: str) -> int:
    """Write a dataset version as one table."""
    files = StoredFiles(Artifact("store", store).path)
    rows = load_table(dataset, files, table.path)
    say(f"{rows} rows of dataset {dataset[:12]}")
    left_out = read_manifest(dataset, files).get("served_left_out", 0)
    if left_out:
        say(f"{left_out} served rows left out: they break the contract")
    return rows


@step(version=1)
def check(table: In[Table], contract: dict[str, Any], time: str = "") -> None:
    """Hold the table against its contract. Raises Refused with all that is wrong."""
    rules = Contract.model_validate(contract)
    refuse([str(finding) for finding in check_table(table.path, rules, time=time or None)])


def refuse(findings: list[str]) -> None:
    """Raise Refused where anything was found, and print all of it."""
    for finding in findings:
        say(finding)
    if findings:
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        raise Refused(
            f"the data breaks its contract: {findings[0]}{more}",
            hint="correct the data, or the contract where the world has changed",
        )


@step(version=1)
def split(
    table: In[Table], holdout: Out[Table], train: Out[Table], holdout_seconds: float, time: str = "", since: str = ""
) -> Cut:
    """Hold out the newest rows; those before them, from `since` on, train."""
    targets = {"window" if since else "all": (train.path, since)}
    return _split(table, holdout, targets, time, holdout_seconds)


@step(version=1)
def split_twice(
    table: In[Table],
    holdout: Out[Table],
    train_all: Out[Table],
    train_window: Out[Table],
    holdout_seconds: float,
    time: str = "",
    since: str = "",
) -> Cut:
    """Hold out the newest rows; all of those before them train, and once more those from `since` on."""
    targets = {"all": (train_all.path, ""), "window": (train_window.path, since)}
    return _split(table, holdout, targets, time, holdout_seconds)


def _split(
    table: In[Table], holdout: Out[Table], targets: dict[str, tuple[Path, str]], time: str, holdout_seconds: float
) -> Cut:
    rows, held, until = rule.split(table.path, holdout.path, targets, time, holdout_seconds)
    for name, count in rows.items():
        say(f"{name}: {count} rows train, {held} are held out")
    return Cut(next(iter(rows.values())), held, until)


@step(version=1)
def evaluate(
    fitted: In[Model],
    fitted_to: In[Table],
    predicted: In[Table],
    model: Out[Model],
    train: Out[Table],
    predictions: Out[Table],
    scores: Out[Metrics],
    task: str,
    metric: str,
    history: str = "all",
) -> Verdict:
    """Measure the only candidate on the held-out rows."""
    found = {history: measure(*read_predictions(predicted.path), task)}
    chosen = {history: (fitted, fitted_to, predicted)}
    return _keep(found, metric, chosen, (model, train, predictions), scores)


@step(version=1)
def evaluate_two(
    fitted_all: In[Model],
    fitted_to_all: In[Table],
    predicted_all: In[Table],
    fitted_window: In[Model],
    fitted_to_window: In[Table],
    predicted_window: In[Table],
    model: Out[Model],
    train: Out[Table],
    predictions: Out[Table],
    scores: Out[Metrics],
    task: str,
    metric: str,
) -> Verdict:
    """Measure both candidates on the held-out rows and keep the better; fitted to the same rows they are one."""
    given: dict[str, tuple[Artifact, ...]] = {
        "all": (fitted_all, fitted_to_all, predicted_all),
        "window": (fitted_window, fitted_to_window, predicted_window),
    }
    if filecmp.cmp(fitted_to_all.path, fitted_to_window.path, shallow=False):
        del given["window"]
    found = {name: measure(*read_predictions(parts[2].path), task) for name, parts in given.items()}
    return _keep(found, metric, given, (model, train, predictions), scores)


def _keep(
    found: dict[str, dict[str, float]],
    metric: str,
    given: Mapping[str, Sequence[Artifact]],
    outputs: Sequence[Artifact],
    scores: Out[Metrics],
) -> Verdict:
    if metric not in next(iter(found.values())):
        raise NotYet(
            f"{metric} cannot be measured: the held-out rows are all of one class",
            hint="make train.holdout longer, or wait for more data",
        )
    best = choose(found, metric)
    for name, measured in found.items():
        said = ", ".join(f"{key} {value:.6g}" for key, value in measured.items())
        say(f"{name}: {said}{' (kept)' if name == best else ''}")
    for source, target in zip(given[best], outputs, strict=True):
        shutil.copyfile(source.path, target.path)
    scores.metadata |= found[best]
    return Verdict(best, found[best], found)


@step(version=1)
def pair(
    ours: In[Table],
    theirs: In[Table],
    challenger: Out[Table],
    champion: Out[Table],
    train_until: str = "",
    champion_trained_until: str = "",
) -> None:
    """Keep the held-out rows that neither model was trained on, for both, so that they can be compared row by row."""
    seen = max(train_until, champion_trained_until)
    rows = keep_unseen(ours.path, challenger.path, seen)
    keep_unseen(theirs.path, champion.path, seen)
    say(f"{rows} held-out rows were seen by neither model")
