"""What a training starts from: the functions and columns that trilho.toml names, and the rows."""

from __future__ import annotations

import difflib
from pathlib import Path

from trilho.config import FILE, Settings
from trilho.data.contract import Contract
from trilho.data.known import known_version
from trilho.data.version import Dataset
from trilho.errors import ConfigError
from trilho.train.training import TrainContext
from trilho_runtime.describe import look_for


def check_steps(settings: Settings, project: Path, source: Path) -> None:
    """Hold the functions that trilho.toml names against the project's files, without importing them."""
    for key, arguments in (("load", 1), ("features", 1), ("train", 2), ("decide", 1)):
        reference = getattr(settings.steps, key)
        if reference is None:
            continue
        found = look_for(source, reference, arguments)
        if not found.found and key == "decide":  # the score alone, or the score and the row
            found = with_row if (with_row := look_for(source, reference, 2)).found else found
        if not found.found:
            hint = f"did you mean {found.near!r}?" if found.near else f"correct steps.{key}, or write the function"
            raise ConfigError(f"{project / FILE}: steps.{key} is {reference!r}: {found.problem}", hint=hint)


def read_data(context: TrainContext, contract: Contract) -> Dataset:
    """Give the dataset version of the project's rows as they are now; the file of served rows is removed then."""
    model = context.settings.model
    try:
        sources = context.sources() if callable(context.sources) else context.sources
        dataset = known_version(
            sources,
            context.store,
            context.home,
            time=model.time,
            key=model.key,
            target=model.target,
            served=context.served,
            contract=contract,
        )
        _check_columns(context, dataset)
        return dataset
    finally:
        if context.served is not None:
            context.served.unlink(missing_ok=True)


def _check_columns(context: TrainContext, dataset: Dataset) -> None:
    """Hold the settings that name columns against the data's."""
    settings = context.settings
    for key, named in (("watch.ignore", settings.watch.ignore), ("gate.slices", settings.gate.slices)):
        for column in named:
            if column not in dataset.columns:
                close = difflib.get_close_matches(column, dataset.columns, n=1)
                raise ConfigError(
                    f"{context.project / FILE}: {key} has {column!r}, and the data has no such column; it has: "
                    + ", ".join(dataset.columns),
                    hint=f"did you mean {close[0]!r}?" if close else f"correct {key}",
                )
