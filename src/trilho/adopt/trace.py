"""What was seen while a notebook ran: the wire format between the kernel in the notebook's environment and trilho.

`trace.json` in the scratch folder has these shapes, with the fields by their names; files that it names are relative to
that folder. A span is (first line, first column, last line, last column) in a cell's cleaned code, as `ast` counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from types import GenericAlias, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

SCHEMA = 1
Span = tuple[int, int, int, int]
T = TypeVar("T")


@dataclass(frozen=True)
class Aligned:
    """How a value's rows are those of a table that was read: all of them in order, some, in another order, or as many.

    "length" is said of arrays, whose rows have no labels.
    """

    read: int  # the Read's id
    how: Literal["all", "some", "reordered", "length"]


@dataclass(frozen=True)
class Value:
    """What a value was, without the value."""

    kind: Literal[
        "frame", "series", "array", "sparse", "estimator", "booster", "dataset", "scalar", "text", "time",
        "mapping", "sequence", "function", "class", "module", "none", "other",
    ]  # fmt: skip
    type: str  # the full name of its class
    rows: int | None = None
    columns: list[str] | None = None
    dtypes: list[str] | None = None
    aligned: Aligned | None = None
    literal: str | None = None  # repr of a short scalar, text or container of such
    digest: str = ""  # of its content; "" where it has none that can be had
    file: str = ""  # where its content is kept
    object: int | None = None  # estimators and boosters: which object it is


@dataclass(frozen=True)
class Argument:
    """An argument of a call: its source text, and what it was."""

    source: str
    value: Value
    name: str = ""  # the keyword, where it was given by one


@dataclass(frozen=True)
class Expression:
    """A sub-expression of a statement (calls, subscripts, attributes, operators), also inside notebook functions."""

    span: Span
    cell: int
    value: Value  # of the last evaluation
    times: int = 1


@dataclass(frozen=True)
class StatementTrace:
    """What one top-level statement did."""

    id: int
    seconds: float
    state: Literal["ran", "failed", "refused", "skipped"]
    reads: list[str] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    mutates: list[str] = field(default_factory=list)  # content changed without a new binding, aliases included
    values: dict[str, Value] = field(default_factory=dict)  # of what it wrote or mutated, afterwards
    expressions: list[Expression] = field(default_factory=list)
    output: str = ""  # the end of what it printed and displayed
    error: str = ""  # "NameError: name 'x' is not defined"
    error_line: int = 0


@dataclass(frozen=True)
class Call:
    """A call of the notebook's own code that matters: where, of what, with what."""

    id: int
    statement: int
    cell: int
    span: Span
    function: str  # full name: "sklearn.metrics._regression.mean_absolute_error", "xgboost.training.train"
    arguments: list[Argument]
    result: Value
    order: int  # position among all calls


@dataclass(frozen=True)
class Read:
    """Data that the notebook read, frozen."""

    id: int
    statement: int
    cell: int
    span: Span
    kind: str  # "csv", "parquet", "excel", "json", "sql", "bigquery", "dataset" (sklearn's), "http", "file"
    function: str
    source: str  # path, URL, or query
    arguments: dict[str, str]  # keyword -> its source text
    digest: str  # sha256 of the source file, or of the frozen extract
    bytes: int
    file: str  # the frozen copy
    value: Value
    query: str = ""
    job: str = ""


@dataclass(frozen=True)
class Fit:
    """An estimator was fitted: `.fit(...)`, `.fit_transform`, `xgboost.train`, `lightgbm.train`, ..."""

    id: int
    statement: int
    cell: int
    span: Span
    object: int
    how: str  # "fit", "fit_transform", "fit_predict", "partial_fit", "train"
    function: str
    X: Argument | None  # for a DMatrix or Dataset: what it was made of
    y: Argument | None
    others: list[Argument]  # eval_set, sample_weight, ...
    order: int


@dataclass(frozen=True)
class Predict:
    """An estimator was asked: predict, predict_proba, decision_function, transform, score."""

    id: int
    statement: int
    cell: int
    span: Span
    object: int
    method: str
    X: Argument | None
    result: Value
    order: int


@dataclass(frozen=True)
class Save:
    """The notebook kept something: a model, a table. Redirected into the scratch folder, or refused."""

    statement: int
    cell: int
    line: int
    path: str
    allowed: bool  # redirected; else refused
    function: str
    objects: list[int]  # estimators in what was written
    file: str = ""
    names: list[str] = field(default_factory=list)  # of the variables given to the writer


@dataclass(frozen=True)
class Golden:
    """What an estimator, as it was when the notebook ended, predicts for rows that it was fitted to or asked about."""

    object: int
    event: Literal["fit", "predict"]
    id: int  # of that event
    method: str  # "predict", "predict_proba", ...
    rows: int
    file: str  # .npy; for two classes of predict_proba both columns
    positions: str = ""  # .npy, int64: each row's position in the table `read`; "" where not known
    read: int | None = None


@dataclass(frozen=True)
class Object:
    """An estimator or booster, as it was when the notebook ended."""

    id: int
    type: str
    names: list[str]  # globals that are it
    parameters: dict[str, str]
    classes: list[str] | None = None  # repr of each
    features: list[str] | None = None
    parts: list[int] = field(default_factory=list)  # estimators inside it (a pipeline's steps)
    file: str = ""  # pickled, "" where that failed


@dataclass(frozen=True)
class Connection:
    """The notebook spoke to a host."""

    statement: int
    cell: int
    host: str
    port: int
    allowed: bool


@dataclass(frozen=True)
class Trace:
    """All that was seen of one run."""

    schema: int
    notebook: str  # sha256 of the file
    python: str
    version: str
    libraries: dict[str, str]  # distributions that were imported, and what those need: name -> version
    modules: dict[str, str]  # top-level module -> distribution
    enforcement: Literal["landlock", "hooked"]
    seconds: float
    statements: list[StatementTrace]
    calls: list[Call]
    reads: list[Read]
    fits: list[Fit]
    predicts: list[Predict]
    metrics: list[Call]
    splits: list[Call]
    saves: list[Save]
    connections: list[Connection]
    objects: list[Object]
    golden: list[Golden]
    functions: dict[str, list[str]] = field(default_factory=dict)  # notebook function -> names of globals it touched


def load_trace(folder: Path) -> Trace:
    """Read the trace that a kernel left. Raises ValueError for another schema."""
    data = json.loads((folder / "trace.json").read_bytes())
    if data.get("schema") != SCHEMA:
        raise ValueError(f"trace.json has schema {data.get('schema')!r}; {SCHEMA} is read")
    return build(Trace, data)


def build(kind: type[T], data: Mapping[str, Any]) -> T:
    """Make a dataclass of this module from JSON; missing fields take their defaults, unknown ones are left out.

    >>> build(Aligned, {"read": 0, "how": "all"})
    Aligned(read=0, how='all')
    """
    hints = get_type_hints(kind)
    names = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: _value(hints[name], value) for name, value in data.items() if name in names})


def _value(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(hint, UnionType):
        return _value(next(part for part in get_args(hint) if part is not type(None)), value)
    if is_dataclass(hint):
        return build(hint, value)  # type: ignore[arg-type]
    origin = get_origin(hint)
    if origin is tuple or (isinstance(hint, GenericAlias) and hint.__origin__ is tuple):
        return tuple(value)
    if origin is list:
        return [_value(get_args(hint)[0], item) for item in value]
    if origin is dict:
        return {key: _value(get_args(hint)[1], item) for key, item in value.items()}
    return value
