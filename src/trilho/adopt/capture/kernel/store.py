"""Keeps the content of values in the scratch folder: each content once, within a budget."""

from __future__ import annotations

import os
import pickle
import sys
from typing import Any

BUDGET = 200 * 1024 * 1024


class Store:
    """Files named by digest, below one folder."""

    def __init__(self, scratch: str, budget: int = BUDGET) -> None:
        self.scratch = scratch
        self.budget = budget
        self.files: dict[str, str] = {}  # digest and kind -> file
        self.held: dict[str, Any] = {}  # file -> the value itself
        os.makedirs(os.path.join(scratch, "values"), exist_ok=True)

    def keep(self, value: Any, digest: str) -> str:
        """Write a value's content, and give the file; "" where it is too big, or can't be kept."""
        key = f"{type(value).__name__}-{digest}"
        if key in self.files:
            return self.files[key]
        size = size_of(value)
        if not digest or size > self.budget:
            return ""
        file = self.write(value, os.path.join("values", digest))
        if file:
            self.budget -= size
            self.files[key] = file
        return file

    def write(self, value: Any, name: str) -> str:
        """Write one value: a frame as Parquet, an array as .npy, the rest pickled."""
        for ending, writer in ((".parquet", self._parquet), (".npy", self._npy), (".pkl", self._pickle)):
            path = os.path.join(self.scratch, name + ending)
            try:
                if writer(value, path):
                    return name + ending
            except Exception:  # noqa: BLE001  what one format can't hold, the next may
                if os.path.exists(path):
                    os.unlink(path)
        return ""

    def write_table(self, value: Any, name: str) -> str:
        """Write a table as a notebook would, so that pandas reads it back as it was; what is none as `write` does."""
        pd = sys.modules.get("pandas")
        path = os.path.join(self.scratch, name + ".parquet")
        if pd is not None and isinstance(value, pd.DataFrame):
            try:
                value.to_parquet(path)
                if pd.read_parquet(path).equals(value):
                    return name + ".parquet"
            except Exception:  # noqa: BLE001  mixed types, columns without names
                if os.path.exists(path):
                    os.unlink(path)
        return self.write(value, name)

    def write_pickle(self, value: Any, name: str) -> str:
        """Pickle a value, and give the file; "" where that fails."""
        path = os.path.join(self.scratch, name)
        try:
            self._pickle(value, path)
        except Exception:  # noqa: BLE001  lambdas, open files, locks
            if os.path.exists(path):
                os.unlink(path)
            return ""
        return name

    def _parquet(self, value: Any, path: str) -> bool:
        pd = sys.modules.get("pandas")
        if pd is None or not isinstance(value, (pd.DataFrame, pd.Series)):
            return False
        frame = (
            value.to_frame(name="0" if value.name is None else value.name) if isinstance(value, pd.Series) else value
        )
        if isinstance(frame.index, pd.MultiIndex) or isinstance(frame.columns, pd.MultiIndex):
            return False
        if not all(isinstance(label, str) for label in frame.columns) or not frame.columns.is_unique:
            return False
        whole = frame.copy(deep=False)
        whole.insert(0, "__index__", frame.index)
        whole.reset_index(drop=True).to_parquet(path, index=False)
        return True

    def _npy(self, value: Any, path: str) -> bool:
        np = sys.modules.get("numpy")
        if np is None or not isinstance(value, np.ndarray) or value.dtype.hasobject:
            return False
        np.save(path, value, allow_pickle=False)
        return True

    def _pickle(self, value: Any, path: str) -> bool:
        with open(path, "wb") as handle:
            pickle.dump(value, handle, protocol=4)
        return True


def size_of(value: Any) -> int:
    """Give about how many bytes a value's content takes."""
    usage = getattr(value, "memory_usage", None)
    if callable(usage):
        used = usage(deep=False) if kind_has_deep(value) else usage()
        return int(used.sum()) if hasattr(used, "sum") else int(used)
    size = getattr(value, "nbytes", None)
    return int(size) if isinstance(size, int) else sys.getsizeof(value)


def kind_has_deep(value: Any) -> bool:
    """Say whether a value's memory_usage takes `deep`, as those of pandas do."""
    return type(value).__module__.startswith("pandas")
