"""What becomes of a notebook: which model is shipped (Choice), and which statement goes where (Plan)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["error", "warning", "note"]
Form = Literal["features", "model", "whole"]


@dataclass(frozen=True)
class Finding:
    """Something worth knowing of a notebook or a project, with its place, why it hurts, and a way out."""

    rule: str  # "hidden-state", "leakage", ...
    cell: int | None
    line: int | None
    message: str  # what is there, and why it hurts, in one or two sentences
    severity: Severity = "warning"
    fix: str = ""
    file: str = ""  # where it is not the notebook


@dataclass(frozen=True)
class Dropped:
    """A cell of which nothing is in the project, and why."""

    cell: int
    reason: str


@dataclass(frozen=True)
class Fallback:
    """What could not be sliced: the variable, its cell, and why."""

    variable: str
    cell: int
    line: int
    reason: str


@dataclass(frozen=True)
class Metric:
    """A metric that the notebook computed on held-out rows."""

    name: str  # "mae", "roc_auc", "accuracy", or the function's or variable's own name
    function: str  # full name, "" where it was written by hand
    value: float
    statement: int
    cell: int
    line: int
    argument_sources: tuple[str, ...] = ()
    threshold: float | None = None  # where it judges classes made of scores
    call: int | None = None  # the Call's id


@dataclass(frozen=True)
class Split:
    """How train and test came apart."""

    kind: Literal["random", "time", "rows", "none"]
    statements: tuple[int, ...] = ()
    share: float | None = None  # of test rows
    seed: str = ""
    cut: str = ""  # the literal date or row number, or the expression
    train: tuple[str, ...] = ()  # names of what is of the train side
    test: tuple[str, ...] = ()


@dataclass(frozen=True)
class Threshold:
    """A score's limit above which the notebook says yes."""

    source: str  # "THRESH", "0.3"
    value: float
    statement: int
    cell: int
    line: int
    operator: Literal[">", ">="] = ">"
    tuned_on: Literal["test", "train", "constant"] = "constant"


@dataclass(frozen=True)
class Lag:
    """A feature made of other rows."""

    cell: int
    line: int
    statement: int
    source: str  # "df.groupby('loja')['vendas'].shift(7)"
    method: str  # "shift", "rolling", ...
    column: str = ""
    entity: str = ""


@dataclass(frozen=True)
class Target:
    """What is predicted."""

    column: str  # its name in the project's dataset
    raw: bool  # whether it is a column of the table that was read
    statements: tuple[int, ...] = ()  # that derive it, where it is not
    transform: str = ""  # "np.log1p" where the model learns a function of it
    positive: str = ""  # repr of the class that counts as 1, where classes are not 0 and 1
    negative: str = ""


@dataclass(frozen=True)
class Choice:
    """Which of the notebook's models goes to production, and what it was judged by."""

    task: Literal["classification", "regression"]
    shipped: int  # object id
    shipped_name: str
    shipped_fit: int  # the Fit's id that made it what it is
    why: str  # the evidence for shipping this one
    evaluated: int | None  # object id
    evaluated_name: str
    evaluated_fit: int | None
    evaluated_predict: int | None
    refitted: bool  # whether the shipped one was fitted on more than the evaluated one
    metrics: tuple[Metric, ...]  # the headline first
    target: Target
    time: str  # column, "" where there is none
    key: str
    split: Split
    main_read: int  # the Read whose rows are served
    threshold: Threshold | None = None
    lags: tuple[Lag, ...] = ()
    holdout: str = ""  # "last 60 days", "" for the default share
    others: tuple[str, ...] = ()  # models that are not shipped
    findings: tuple[Finding, ...] = ()
    blend: tuple[int, ...] = ()  # objects whose predictions are in the score with the shipped one's
    regrouped: Fallback | None = None  # where the model's rows stop being rows of the table that was read
    time_name: str = ""  # what the notebook calls `time` once parsed, where that is another column


@dataclass(frozen=True)
class Part:
    """A statement as it goes into one function: rewritten source, not yet indented."""

    source: str
    cell: int
    line: int
    statement: int


@dataclass(frozen=True)
class Function:
    """A function of the project to be written."""

    name: str
    parameters: tuple[tuple[str, str], ...]  # name, type as it is written ("pd.DataFrame"); a default after " = "
    returns: str  # the expression that it returns; "" for none
    returns_type: str
    parts: tuple[Part, ...]
    doc: str = ""  # what it does, imperative, one line

    @property
    def cells(self) -> list[int]:
        """Give the cells that it comes from."""
        return sorted({part.cell for part in self.parts})


@dataclass(frozen=True)
class Lookup:
    """Another table that the features need: kept with the code."""

    name: str  # of the function that gives it
    read: int
    call: str  # the notebook's own read, with `PATH` for the path


@dataclass(frozen=True)
class Lookback:
    """Which past rows the features of a row look at."""

    entity: tuple[str, ...]  # the columns that name whose; none where the table is one series
    rows: int  # how many at least, as the code says; what is measured can be more


@dataclass(frozen=True)
class Plan:
    """What goes where. Functions are complete but for imports, indentation and formatting."""

    form: Form
    package: str
    frame: str  # the notebook's name for the raw table
    load: Function  # load(path) -> raw rows, target and all, before columns are chosen
    features: tuple[Function, ...]  # the last one is build(df) or build(df, state); before it what it calls
    definitions: dict[str, tuple[Part, ...]]  # notebook functions and classes by the module that needs them first
    constants: dict[str, tuple[Part, ...]]  # the same of module constants
    fit: tuple[Function, ...]  # the last one is fit(X, y) or fit(rows, target)
    predict: Function | None  # form "model": predict(what Model holds..., rows) -> raw scores; fit returns Model(...)
    evaluate: tuple[Function, ...]  # split(...), then evaluate(...) -> dict of metrics
    imports: tuple[str, ...]  # every import of the notebook that is live, one per line
    state: tuple[str, ...] = ()  # names learnt in training
    columns: tuple[str, ...] | None = None  # raw columns that build needs, None where all
    lookups: tuple[Lookup, ...] = ()
    estimator_type: str = "object"  # as it is annotated
    probabilities: bool = False  # whether predict gives the probability of class 1
    train_only: tuple[str, ...] = ()  # rules that drop or reorder rows in training only, as source
    split_in_fit: bool = False
    past: Lookback | None = None  # where a row is answered after its past: form "model", rows hold the target too
    prepared: bool = False  # form "whole": whether what load gives is the model's input, and evaluate takes the file
    whole_batch: bool = False  # of such: whether the model itself looks at other rows
    unlike_fit: bool = False  # whether the rows that were learnt from had other features than they would when served
    unlike: tuple[int, ...] = ()  # ids of Predicts whose X had statistics of its own rows: no served row can equal them
    dropped: tuple[Dropped, ...] = ()
    fallback: tuple[Fallback, ...] = ()
    findings: tuple[Finding, ...] = field(default_factory=tuple)
