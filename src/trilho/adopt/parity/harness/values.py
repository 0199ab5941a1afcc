"""Values as the notebook's run kept them, and what names their rows in the table that was read."""

from __future__ import annotations

import ast
import hashlib
import importlib
import pickle
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..equality import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

INDEX = "__index__"
PLACES = ("filepath_or_buffer", "path", "io", "path_or_buf")  # of what is read: the frozen copy stands for it
TYPES = {kind.__name__: kind for kind in (str, int, float, bool, object, list, dict, range, tuple)}


def read_value(file: str) -> tuple[Any, Any]:
    """Read a kept value: a frame or series, an array, or what was pickled; and a frame's index, where it was kept."""
    path = Path(file)
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False), None
    if path.suffix == ".npz":
        return _sparse(path), None
    if path.suffix != ".parquet":
        value = pickle.loads(path.read_bytes())  # noqa: S301  kept by the notebook's own run on this machine
        return value, getattr(value, "index", None)
    import pandas as pd

    frame = pd.read_parquet(path)
    if INDEX not in frame.columns:
        return frame, None
    return frame.drop(columns=INDEX), frame[INDEX]


def kept(file: str) -> tuple[Any, Any]:
    """Give a kept value with its index; (None, None) where there is none, or none that can be read here."""
    try:
        return read_value(file) if file else (None, None)
    except Exception:  # noqa: BLE001  a pickle of a class that only the notebook has
        return None, None


def as_table(value: Any) -> Any:
    """Give a value as a frame, None where it is no table; the columns of an array are numbered."""
    import pandas as pd

    if hasattr(value, "toarray"):
        value = value.toarray()
    if isinstance(value, pd.Series):
        value = value.to_frame()
    if isinstance(value, np.ndarray) and value.ndim in (1, 2):
        value = pd.DataFrame(value.reshape(len(value), -1))
    return value if isinstance(value, pd.DataFrame) else None


def positions_of(file: str, rows: int, index: Any, table_rows: int) -> NDArray[np.int64] | None:
    """Give each row's position in the table that was read.

    Where the run could not tell, the rows' labels are taken for positions if they can be: were they not, the values
    would differ.
    """
    if file:
        return np.asarray(np.load(file, allow_pickle=False), dtype=np.int64)
    if index is not None and rows and _are_positions(np.asarray(index), rows, table_rows):
        return np.asarray(index, dtype=np.int64)
    return np.arange(rows, dtype=np.int64) if rows == table_rows else None


def placed(named: Any, labels: NDArray[Any], otherwise: NDArray[np.int64] | None) -> NDArray[np.int64] | None:
    """Give the places in a loaded table of rows that are named by its labels: load may have left rows out.

    >>> placed([0, 3], np.array([0, 2, 3]), None).tolist()
    [0, 2]
    """
    if named is None or (labels.dtype.kind in "iu" and np.array_equal(labels, np.arange(len(labels)))):
        return otherwise
    at = {label: place for place, label in enumerate(labels.tolist())}
    found = [at.get(label) for label in np.asarray(named).tolist()]
    unknown = len(at) < len(labels) or any(place is None for place in found)
    return otherwise if unknown else np.array(found, dtype=np.int64)


def _are_positions(labels: NDArray[Any], rows: int, table_rows: int) -> bool:
    whole = labels.dtype.kind in "iu" and len(np.unique(labels)) == len(labels) == rows
    return whole and bool(labels.min() >= 0) and bool(labels.max() < table_rows)


def hashed_sample(positions: Sequence[int], seed: str, size: int) -> NDArray[np.int64]:
    """Choose rows by the digests of their positions: nobody picks them, and everybody gets the same.

    >>> hashed_sample(range(3), "data", 5).tolist()
    [0, 1, 2]
    """
    if len(positions) <= size:
        return np.array(sorted(positions), dtype=np.int64)
    order = sorted(positions, key=lambda row: hashlib.sha256(f"{seed}:{row}".encode()).digest())
    return np.array(sorted(order[:size]), dtype=np.int64)


def replay_read(told: Mapping[str, Any]) -> Any:
    """Read a frozen file as the notebook read it; None where its arguments can't be had, or the table is another."""
    frozen = str(told["frozen"])
    if not frozen or frozen.endswith(".pkl"):
        return None
    if frozen.endswith(".parquet") and told["kind"] != "parquet":  # no file was read: the table itself was kept
        return read_value(frozen)[0]
    module, _, name = str(told["function"]).rpartition(".")
    if module.partition(".")[0] != "pandas":
        return None
    import pandas as pd

    reader = getattr(pd, name, None)
    try:
        names = {key: ast.literal_eval(text) for key, text in told["names"].items()}
        space = {"__builtins__": TYPES, "np": np, "numpy": np, "pd": pd, "pandas": pd, **names}
        given = {key: eval(text, dict(space)) for key, text in told["arguments"].items() if key not in PLACES}  # noqa: S307  the notebook's own text
        table = reader(frozen, **given) if callable(reader) else None
    except Exception:  # noqa: BLE001  an argument that only the notebook could make
        return None
    return table if not told["digest"] or digest_of(table, told["kernel"]) in ("", told["digest"]) else None


def digest_of(value: Any, kernel: str) -> str:
    """Give the digest that the notebook's run gave to such a value."""
    if "trilho_kernel" not in sys.modules:
        package = types.ModuleType("trilho_kernel")
        package.__path__ = [kernel]
        sys.modules["trilho_kernel"] = package
    return str(importlib.import_module("trilho_kernel.digests").Digester().of(value)[0])


def _sparse(path: Path) -> Any:
    return importlib.import_module("scipy.sparse").load_npz(path)


def json_rows(frame: Any) -> list[dict[str, Any]]:
    """Give rows as somebody would send them who has them as the notebook read them, and knows nothing of ours.

    Missing is null, a time is ISO 8601, and every other value is what JSON calls it.
    """
    names, missing = list(map(str, frame.columns)), frame.isna().to_numpy()
    columns = [frame.iloc[:, index].astype(object).tolist() for index in range(len(names))]
    return [
        {name: None if missing[row, index] else _json(columns[index][row]) for index, name in enumerate(names)}
        for row in range(len(frame))
    ]


def _json(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else shown(value)
