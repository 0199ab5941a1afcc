"""What runs between the stages of a compiled model, and how it becomes what the original stages take.

A flow is either a matrix (rows by columns, one numpy type) or a list of columns, each an array or a list with None for
null. Which of the two, and the type of each column, is known when the model is compiled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.compiled import NotCompiled
from trilho_runtime.schema.field import NULLABLE_NUMBERS, Field
from trilho_runtime.schema.signature import Signature
from trilho_runtime.schema.table import OBJECT, OBJECT_NAN, restored, string_dtype

Container = Literal["frame", "array", "sparse", "series"]
NUMERIC = frozenset("iufb")
OBJECTS = ("string", "object")
CATEGORY = "category"
NULLS = {OBJECT: "none", OBJECT_NAN: "nan", "string": "NA", "boolean": "NA"}


class Unlike(Exception):
    """A stage that fell back gave a table of another shape or type than where the model was compiled."""


class Column(NamedTuple):
    """A column: its type, its name, what a null in it is to the original ("", "nan", "none" or "NA"), its field.

    `source` is the field itself as long as the column is in the table that the model is given.
    """

    dtype: str
    name: str
    null: str = ""
    field: str = ""
    source: Field | None = None

    @property
    def numeric(self) -> bool:
        """Say whether it is an array of numbers or booleans."""
        return self.dtype not in (*OBJECTS, CATEGORY) and np.dtype(self.dtype).kind in NUMERIC


@dataclass(frozen=True)
class Flow:
    """The type of what runs between two stages."""

    columns: tuple[Column, ...]
    matrix: bool
    container: Container
    inf: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """Give the numpy type of its matrix, as scikit-learn would make one of it."""
        if any(c.dtype in OBJECTS for c in self.columns):
            return np.dtype(object)
        return np.result_type(*(np.dtype(c.dtype) for c in self.columns))

    @property
    def nan(self) -> bool:
        """Say whether a value may be missing."""
        return any(c.null for c in self.columns)

    @property
    def numeric(self) -> bool:
        """Say whether all of its columns are numbers or booleans."""
        return all(c.numeric for c in self.columns)

    def picked(self, places: Sequence[int]) -> Flow:
        """Give the flow of some of its columns."""
        return replace(self, columns=tuple(self.columns[i] for i in places))

    def to_json(self) -> dict[str, Any]:
        """Give the flow as it stands in compiled.json."""
        columns = [[*c[:4], c.source and c.source.to_json()] for c in self.columns]
        return {"columns": columns, "matrix": self.matrix, "container": self.container, "inf": self.inf}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Flow:
        """Rebuild a flow from compiled.json."""
        columns = tuple(Column(d, n, null, f, s and Field.from_json(s)) for d, n, null, f, s in data["columns"])
        return cls(columns, data["matrix"], data["container"], data["inf"])


def input_flow(signature: Signature, *, checked: bool = True) -> Flow:
    """Give the flow of a signature's columns; unchecked ones may hold NaN and infinities."""
    return Flow(tuple(_input(field, checked) for field in signature.fields), False, "frame", inf=not checked)


def _input(field: Field, checked: bool) -> Column:
    nullable = field.nullable or (not checked and field.type in ("number", "string"))
    extension = field.dtype == "boolean" or NULLABLE_NUMBERS.fullmatch(field.dtype) or field.type == "timestamp"
    source = field if field.levels is not None or field.type == "string" or (field.dtype and extension) else None
    if field.levels is not None:
        return Column("string" if field.type == "string" else CATEGORY, field.name, "nan", field.name, source)
    dtype, null = field.numpy, "nan"
    if field.type == "string":
        dtype, null = "string", NULLS.get(field.dtype) or ("none" if string_dtype() == np.dtype(object) else "nan")
    elif field.type == "boolean":
        null = NULLS.get(field.dtype, "none")
    elif NULLABLE_NUMBERS.fullmatch(field.dtype):
        dtype = "float64"  # what scikit-learn makes of pandas' own numbers
    return Column(dtype, field.name, null if nullable else "", field.name, source)


def values_of(column: Any) -> list[Any]:
    """Give a column as a list of plain values, None for a null."""
    if isinstance(column, list):
        return column
    values: list[Any] = column.tolist()
    return [None if v != v else v for v in values] if column.dtype.kind == "f" else values


def original_of(x: Any, flow: Flow) -> Any:
    """Give a flow as what the original stage takes: a DataFrame, a Series, an array or a sparse matrix."""
    if flow.container == "sparse":
        from scipy.sparse import csr_matrix

        return csr_matrix(x)
    if flow.container == "array":
        return x if flow.matrix else _objects(x, flow)
    frame = _frame(x, flow)
    return frame.iloc[:, 0] if flow.container == "series" else frame


def _objects(x: Sequence[Any], flow: Flow) -> Any:
    found = np.empty((len(x[0]) if len(x) else 0, len(x)), dtype=object)
    for place, (values, column) in enumerate(zip(x, flow.columns, strict=True)):
        missing = np.nan if column.null == "nan" else None
        found[:, place] = [missing if v is None else v for v in values_of(values)]
    return found


def _frame(x: Any, flow: Flow) -> Any:
    import pandas as pd

    names = [c.name for c in flow.columns]
    if flow.matrix:
        return pd.DataFrame(x, columns=names)
    data = {place: _series(values, column) for place, (values, column) in enumerate(zip(x, flow.columns, strict=True))}
    frame = pd.DataFrame(data)
    frame.columns = pd.Index(names)
    return frame


def _series(values: Any, column: Column) -> Any:
    import pandas as pd

    if column.source is not None:
        return restored(values if isinstance(values, np.ndarray) else _array(values), column.source)
    if column.dtype == "string":
        return pd.array(values, dtype=string_dtype())
    if column.dtype == "object":
        missing = np.nan if column.null == "nan" else None
        return pd.Series(_array([missing if v is None else v for v in values_of(values)]), dtype=object)
    return np.asarray(values)


def _array(values: Sequence[Any]) -> NDArray[Any]:
    found = np.empty(len(values), object)
    found[:] = values
    return found


def runtime_of(value: Any, flow: Flow) -> Any:
    """Give what an original stage gave as the flow that it is. Raises Unlike where it is another one."""
    if hasattr(value, "toarray"):
        value = value.toarray()
    frame = hasattr(value, "iloc")
    if len(getattr(value, "shape", ())) != 2 or value.shape[1] != len(flow.columns):
        if not (frame and flow.container == "series"):
            raise Unlike(f"a table of shape {getattr(value, 'shape', None)}, not of {len(flow.columns)} columns")
        value = value.to_frame()
    if not flow.matrix:
        return [_column(value, place, column) for place, column in enumerate(flow.columns)]
    found = value.to_numpy() if frame else np.asarray(value)
    if found.dtype != flow.dtype:
        raise Unlike(f"a table of {found.dtype}, not of {flow.dtype}")
    return found


def _column(value: Any, place: int, column: Column) -> Any:
    series = value.iloc[:, place] if hasattr(value, "iloc") else value[:, place]
    if column.dtype in (*OBJECTS, CATEGORY):
        return _nulls(series.tolist())
    found = series.to_numpy() if hasattr(series, "to_numpy") else series
    if column.source is not None or found.dtype == object:
        return found.astype(column.dtype)
    if found.dtype != np.dtype(column.dtype):
        raise Unlike(f"column {column.name} of {found.dtype}, not of {column.dtype}")
    return found


def _nulls(values: list[Any]) -> list[Any]:
    """Give values with None for each null, whatever it is."""
    return [None if v is None or type(v).__name__ == "NAType" or v != v else v for v in values]


def aligned(guess: Flow, value: Any) -> Flow:
    """Give a guessed flow the container, the names and the types of what the original stage gave."""
    if len(getattr(value, "shape", ())) != 2 or value.shape[1] != len(guess.columns):
        raise NotCompiled(f"its output has the shape {getattr(value, 'shape', None)}, not {len(guess.columns)} columns")
    if not hasattr(value, "iloc"):
        container: Container = "sparse" if hasattr(value, "toarray") else "array"
        mixed = value.dtype == object and not guess.matrix
        named = [c._replace(dtype=c.dtype if mixed else str(value.dtype), name="", source=None) for c in guess.columns]
        return replace(guess, columns=tuple(named), container=container)
    dtypes = [kind_of(dtype) for dtype in value.dtypes]
    if guess.matrix and len(set(dtypes)) > 1:
        raise NotCompiled(f"its output has columns of {', '.join(sorted(set(dtypes)))}")
    told = zip(guess.columns, dtypes, value.columns, strict=True)
    return replace(guess, columns=tuple(_renamed(c, d, str(n)) for c, d, n in told), container="frame")


def _renamed(column: Column, dtype: str, name: str) -> Column:
    if column.source is not None and _kind_of_source(column.source) == dtype:
        return column._replace(name=name)
    if dtype == CATEGORY:
        raise NotCompiled("a column of categories stands between two stages")
    null = "nan" if column.null and dtype == "string" else column.null
    return column._replace(dtype=dtype, name=name, null=null, source=None)


def _kind_of_source(field: Field) -> str:
    if field.levels is not None:
        return CATEGORY
    if field.type == "string":
        return "object" if field.dtype in (OBJECT, OBJECT_NAN) else kind_of(string_dtype())
    return "object" if field.dtype == "boolean" else field.dtype if field.type == "timestamp" else "float64"


def observed(value: Any) -> Flow:
    """Give the flow of what a stage that fell back gave: nothing is known of it but what is seen."""
    if len(getattr(value, "shape", ())) != 2:
        raise NotCompiled(f"its output is {type(value).__name__}, not a table")
    if hasattr(value, "iloc"):
        told = [(kind_of(d), str(n), value.iloc[:, i]) for i, (n, d) in enumerate(value.dtypes.items())]
        if any(dtype == CATEGORY for dtype, _, _ in told):
            raise NotCompiled("it gives a column of categories")
        columns = tuple(Column(dtype, name, _null(dtype, series)) for dtype, name, series in told)
        return Flow(columns, all(c.dtype == columns[0].dtype and c.numeric for c in columns), "frame", inf=True)
    container: Container = "sparse" if hasattr(value, "toarray") else "array"
    places = range(value.shape[1])
    if value.dtype == object:
        return Flow(tuple(Column("object", "", _null("object", value[:, i])) for i in places), False, container, True)
    null = "nan" if value.dtype.kind == "f" else ""
    return Flow(tuple(Column(str(value.dtype), "", null) for _ in places), True, container, inf=True)


def kind_of(dtype: Any) -> str:
    """Give a pandas type as a column's. Raises NotCompiled for one that no signature gives."""
    if isinstance(dtype, np.dtype):
        return str(dtype)
    name = str(dtype)
    if dtype == string_dtype() or name == "string":
        return "string"
    if name == "boolean" or NULLABLE_NUMBERS.fullmatch(name):
        return "object" if name == "boolean" else "float64"
    if name == CATEGORY:
        return CATEGORY
    raise NotCompiled(f"a column of {dtype} stands between two stages")


def _null(dtype: str, values: Any) -> str:
    if dtype == "object":
        return "none" if any(v is None for v in values) else "nan"
    return "nan" if dtype == "string" or np.dtype(dtype).kind in "fM" else ""
