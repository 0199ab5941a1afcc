"""The form in which a model takes its rows: a table, or what a model that was fitted to arrays or texts is used to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from trilho_runtime.model.manifest import PackageError

Kind = Literal["table", "numbered", "array", "values"]
NO_PANDAS = "packaging reads the sample with pandas, which is not installed here"


@dataclass(frozen=True)
class Form:
    """How rows reach a model: a named table, one with numbered columns, an array, or the values of a single column."""

    kind: Kind = "table"
    dtype: str = ""

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> Form:
        """Read a manifest's form; a table where it says none."""
        told = manifest.get("form")
        if told and told["kind"] not in get_args(Kind):
            raise ValueError(f"rows of the form {told['kind']!r}")
        return cls(told["kind"], told.get("dtype", "")) if told else cls()

    def to_json(self) -> dict[str, Any]:
        """Give the form as it stands in a manifest."""
        return {"kind": self.kind, **({"dtype": self.dtype} if self.dtype else {})}

    def given(self, frame: Any) -> Any:
        """Give a table of fields as the model takes it."""
        if self.kind == "table":
            return frame
        if self.kind == "numbered":
            return frame.set_axis(range(frame.shape[1]), axis=1)
        if self.kind == "array":
            return frame.to_numpy(dtype=np.dtype(self.dtype))
        return frame.iloc[:, 0].to_numpy(dtype=np.dtype(self.dtype))


def table_of(sample: Any) -> tuple[Any, Form]:
    """Give a sample as a pandas table with plain row numbers, and the form in which the model took it.

    A table of pandas or another library, a dict of arrays, an array (its columns are named f0, f1, ...), or a list of
    values. Raises PackageError for what is none of them, and for columns that no request can name.
    """
    try:
        import pandas as pd
    except ImportError:
        raise PackageError(NO_PANDAS, "pip install pandas") from None
    if hasattr(sample, "to_pandas") and not isinstance(sample, (pd.DataFrame, pd.Series)):
        sample = sample.to_pandas()
    if isinstance(sample, pd.DataFrame):
        frame, form = _of_frame(sample)
    elif isinstance(sample, Mapping):
        frame, form = pd.DataFrame({name: np.asarray(values) for name, values in sample.items()}), Form()
    elif isinstance(sample, (np.ndarray, pd.Series, list, tuple)):
        frame, form = _of_array(np.asarray(sample))
    else:
        hint = (
            "X.toarray(), or package the pipeline that makes it" if hasattr(sample, "toarray") else "pass a DataFrame"
        )
        raise PackageError(f"the sample is {type(sample).__name__}; wanted a DataFrame, an array or a dict", hint)
    if not len(frame) or not len(frame.columns):
        fact = f"the sample has {len(frame)} rows and {len(frame.columns)} columns; at least one of each is needed"
        raise PackageError(fact, "pass some rows that the model was fitted to or tested on")
    return frame.reset_index(drop=True), form


def _of_frame(frame: Any) -> tuple[Any, Form]:
    names = list(frame.columns)
    if names and names == list(range(len(names))):
        return frame.set_axis([f"f{place}" for place in range(len(names))], axis=1), Form("numbered")
    odd = next((name for name in names if not isinstance(name, str)), None)
    if odd is not None:
        fact = f"a column is named {odd!r}, which is {type(odd).__name__}; a request names fields by text"
        raise PackageError(fact, "X.columns = [str(c) for c in X.columns], and fit again")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise PackageError(f"{names.count(twice)} columns are named {twice!r}", "give each a name of its own")
    return frame, Form()


def _of_array(array: Any) -> tuple[Any, Form]:
    import pandas as pd

    if array.ndim not in (1, 2) or array.dtype.kind not in "biufOUS":
        fact = f"the sample is an array of {array.ndim} dimensions and type {array.dtype}"
        raise PackageError(fact, "pass one row of numbers or texts for each prediction")
    kind: Kind = "values" if array.ndim == 1 else "array"
    dtype = "object" if array.dtype.kind in "OUS" else str(array.dtype)
    columns = [array] if array.ndim == 1 else [array[:, place] for place in range(array.shape[1])]
    data = {
        f"f{place}": pd.Series(column.tolist()) if dtype == "object" else column for place, column in enumerate(columns)
    }
    return pd.DataFrame(data), Form(kind, dtype)
