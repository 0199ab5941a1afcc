"""Validation: true values beside predictions, as the watcher needs them to know what loss is usual."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.model.outputs import Outputs
from trilho_runtime.profile import Reference

Floats = NDArray[np.float64]
SCHEMA = 2  # of the file: 1 had no bins, and did not say so
MOST_CLASSES = 64
SMALLEST = 1e-15  # what a probability counts as at least, so that its logarithm is a number


def arrays(columns: Mapping[str, NDArray[Any]]) -> bytes:
    """Give arrays as an .npz file without the time of writing, so that the same arrays are the same bytes.

    >>> arrays({"x": np.arange(3)}) == arrays({"x": np.arange(3)})
    True
    """
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, column in columns.items():
            part = io.BytesIO()
            np.lib.format.write_array(part, column, allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, part.getvalue(), zipfile.ZIP_DEFLATED)
    return out.getvalue()


def validation(
    outputs: Outputs,
    scores: Floats,
    known: Floats,
    seconds: Floats | None = None,
    bins: Mapping[str, NDArray[Any]] | None = None,
) -> bytes:
    """Give predictions beside true values, and their times where they have any, as a file of arrays.

    A model of several probabilities gives that of the most probable class, whether it was the right one as the value,
    in `class` and `known` the places of both, and up to 64 classes all probabilities as `shares`. With `bins` it says
    too in which bin of the reference's features each row lies (`features` are their names, a byte for each).
    """
    moment = np.full(len(scores), np.nan) if seconds is None else seconds
    placed = _placed(bins) if bins else {}
    if scores.ndim == 1:
        return arrays({"time": moment, "prediction": scores, "value": known, **placed})
    chosen = scores.argmax(axis=1)
    place = _places(outputs, known)
    right = (chosen == place).astype(np.float64)
    found = {"time": moment, "prediction": scores.max(axis=1), "value": right, "class": chosen, "known": place}
    shares = {"shares": scores.astype(np.float32)} if scores.shape[1] <= MOST_CLASSES else {}
    return arrays(found | shares | placed)


def bins_of(reference: Reference, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.int64]]:
    """Give the bin of each row for each feature of the reference that the rows have the column of.

    >>> reference = Reference.fit({"x": np.arange(40.0)}, None, 3600)
    >>> bins_of(reference, {"x": np.array([-1.0, 50.0])})["x"].tolist()
    [0, 5]
    """
    return {f.name: f.place(columns[f.column]) for f in reference.features if f.column in columns}


def _placed(bins: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    names = [name for name, place in bins.items() if int(place.max(initial=0)) < 256]
    if not names:
        return {}
    table = np.stack([bins[name].astype(np.uint8) for name in names], axis=1)
    return {"schema": np.array(SCHEMA), "features": np.array(names), "bins": table}


def measures(outputs: Outputs, scores: Floats, known: Floats) -> dict[str, float]:
    """Measure predictions against true values.

    >>> measures(Outputs("value"), np.array([1.0, 3.0]), np.array([1.0, 1.0]))
    {'mae': 1.0, 'rmse': 1.4142135623730951}
    """
    if outputs.kind == "value":
        error = scores - known
        return {"mae": float(np.abs(error).mean()), "rmse": float(np.sqrt((error**2).mean()))}
    if outputs.kind == "class":
        return {"accuracy": float((scores == known).mean())}
    shares = np.column_stack([1 - scores, scores]) if scores.ndim == 1 else scores
    place = _places(outputs, known)
    given = np.clip(shares[np.arange(len(shares)), place], SMALLEST, 1.0)
    found = {"accuracy": float((shares.argmax(axis=1) == place).mean()), "log_loss": float(-np.log(given).mean())}
    return found | ({"brier": float(((scores - known) ** 2).mean())} if scores.ndim == 1 else {})


def _places(outputs: Outputs, known: Floats) -> NDArray[np.int64]:
    """Give the place of each true class among the classes."""
    if not outputs.numeric:
        return known.astype(np.int64)
    place = {float(label): number for number, label in enumerate(outputs.classes)}
    return np.array([place.get(value, -1) for value in known.tolist()], np.int64)
