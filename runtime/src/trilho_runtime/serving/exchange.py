"""A part of a table between two processes: a folder with an array for each column.

The platform reads tables and has none of the user's libraries; the project's process predicts and may have nothing
else. Numbers, booleans and times cross as .npy files, texts as JSON; nothing is pickled.

    columns.json   {"schema": 1, "rows": 3, "columns": [{"name": "x", "file": "0.npy", "null": "0.null.npy"}, ...]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from trilho_runtime.schema.casting import Given

SCHEMA = 1
INDEX = "columns.json"


def write_part(folder: Path, columns: Mapping[str, NDArray[Any]], rows: int) -> None:
    """Write columns, masked where null; the index comes last, so that a folder with one is whole.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     write_part(Path(name), {"x": np.array([1.5, 2.5]), "c": np.array(["a", None], object)}, 2)
    ...     sorted((key, given.null.tolist()) for key, given in read_part(Path(name))[0].items())
    [('c', [False, True]), ('x', [False, False])]
    """
    folder.mkdir(parents=True, exist_ok=True)
    listed = []
    for place, (name, column) in enumerate(columns.items()):
        null = np.ma.getmaskarray(column) if np.ma.isMaskedArray(column) else None
        values = np.asarray(column.data) if null is not None else column
        entry: dict[str, Any] = {"name": name, "file": f"{place}.npy"}
        if values.dtype.kind in "OSU":
            entry["file"] = f"{place}.json"
            texts = values.astype(object)
            if null is not None:
                texts[null] = None
            (folder / entry["file"]).write_bytes(orjson.dumps(texts.tolist(), default=str))
        else:
            np.save(folder / entry["file"], values, allow_pickle=False)
            if null is not None and null.any():
                entry["null"] = f"{place}.null.npy"
                np.save(folder / entry["null"], null, allow_pickle=False)
        listed.append(entry)
    index = {"schema": SCHEMA, "rows": rows, "columns": listed}
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")


def read_part(folder: Path) -> tuple[dict[str, Given], int]:
    """Read the columns of a folder, and the number of its rows."""
    index = json.loads((folder / INDEX).read_bytes())
    if index["schema"] != SCHEMA:
        raise ValueError(f"{folder}: a part of schema {index['schema']}; this trilho-runtime reads {SCHEMA}")
    return {entry["name"]: _read(folder, entry) for entry in index["columns"]}, int(index["rows"])


def _read(folder: Path, entry: Mapping[str, Any]) -> Given:
    file = folder / entry["file"]
    if file.suffix == ".json":
        told = orjson.loads(file.read_bytes())
        values = np.empty(len(told), object)
        values[:] = told
        return Given.of(values)
    null = np.load(folder / entry["null"], allow_pickle=False) if "null" in entry else None
    return Given.of(np.load(file, allow_pickle=False), null)
