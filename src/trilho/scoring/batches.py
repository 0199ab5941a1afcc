"""What scores a date: the versions that serve and their shares, the decision, the contract, the past."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date as Date  # noqa: N812
from pathlib import Path

from trilho.data.contract import Contract, load_contract
from trilho.errors import NotYet
from trilho.project import Project
from trilho.scoring.request import Request
from trilho.scoring.source import Source
from trilho.serve.batch.run import Batch, Model, Rule
from trilho.serve.batch.scorer import Scorer, Scorers
from trilho.serve.batch.source import MARK, Field


def shares_of(project: Project, version: int | None) -> Mapping[int, int]:
    """Give what is served: the version that was asked for, else each with its share of the traffic."""
    if version is not None:
        return {version: 100}
    shares = project.state().shares
    if not shares:
        raise NotYet(
            f"no version of {project.name} is released", hint="trilho release VERSION, or --version N to try one"
        )
    return shares


def versions_of(project: Project, shares: Mapping[int, int], asked: int | None) -> list[int]:
    """Give the versions that score: what serves, and beside it the one that is on its way, unseen at first."""
    rollout = project.state().rollout
    if asked is not None or rollout is None:
        return sorted(shares)
    beside = {rollout.version, *([rollout.champion] if rollout.champion is not None else [])}
    return sorted({*shares, *beside})


def model_of(project: Project, version: int) -> Model:
    """Give a version as a batch has it."""
    package = project.package(version)
    return Model(version, package, project.state().versions[version].package)


def rule_of(project: Project) -> Rule | None:
    """Give the decision that holds; None where none does."""
    held = project.state().decision
    return None if held is None else Rule(held, project.decision(held))


def past_of(project: Project) -> str:
    """Say how far the past of a model of lags is known: with more of it the same rows get other scores."""
    return str(project.past.extent()) if project.settings.history.rows and project.past_file.exists() else ""


def starter_of(project: Project, models: Sequence[Model], decision: Path | None = None) -> Callable[[int], Scorer]:
    """Give what starts the process of a version."""
    packages = {model.version: model for model in models}
    history = project.past_file if project.settings.history.rows else None

    def start(version: int) -> Scorer:
        model = packages[version]
        return Scorer(project.python, model.package, model.digest, decision, history)

    return start


def batch_of(
    project: Project,
    request: Request,
    date: Date,
    models: Sequence[Model],
    shares: Mapping[int, int],
    scorers: Scorers,
    source: Source,
) -> Batch:
    """Give a date with all that its scoring needs."""
    settings = project.settings
    manifest = json.loads((models[0].package / "manifest.json").read_text(encoding="utf-8"))
    fields = [Field(field["name"], field["type"]) for field in manifest["signature"]]
    return Batch(
        model=project.name,
        date=date,
        files=source.files(date),
        models=models,
        shares=shares,
        scorers=scorers,
        fields=fields,
        contract=Contract() if request.warn else _contract(project, {field.name for field in fields}),
        time=settings.model.time,
        only_date=not request.whole and MARK not in request.source and settings.model.time is not None,
        zone=settings.timezone,
        one_of_many=len(request.dates) > 1,
        key=[settings.serve.sticky] if settings.serve.sticky else [settings.model.key] if settings.model.key else [],
        again=request.again,
        part_rows=2**31 if manifest.get("batch_only") else request.part_rows,
    )


def _contract(project: Project, fields: set[str]) -> Contract:
    """Give what the contract says of the model's fields, and nothing of how many rows there must be."""
    whole = load_contract(project.folder / project.settings.data.contract)
    table = whole.table.model_copy(update={"min_rows": 0, "freshness": None})
    columns = {name: rule for name, rule in whole.columns.items() if name in fields}
    return whole.model_copy(update={"table": table, "columns": columns})
