"""Notebooks that cannot become a project, each answered in two lines: what was found, with its cell, and a way out."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from trilho.adopt.slice.history import History
from trilho.adopt.slice.metrics import CROSS_VALIDATED
from trilho.adopt.slice.models import NOT_MODELS, Candidate, Models
from trilho.adopt.slice.target import classes_of
from trilho.adopt.trace import Fit
from trilho.errors import DataError, Refused, TrilhoError

DEEP = {"keras": "Keras", "tensorflow": "Keras", "torch": "PyTorch", "pytorch_lightning": "PyTorch",
        "lightning": "PyTorch", "fastai": "fastai", "skorch": "skorch", "jax": "JAX"}  # fmt: skip
SERIES = re.compile(r"(?i)prophet|arima|sarimax|varmax|statsmodels\.tsa|exponentialsmoothing|holtwinters|tbats|"
                    r"darts\.models|statsforecast|sktime\.forecasting|gluonts")  # fmt: skip
CLUSTERS = re.compile(r"(KMeans|DBSCAN|OPTICS|AgglomerativeClustering|MeanShift|Birch|SpectralClustering|"
                      r"GaussianMixture|AffinityPropagation|KModes|KPrototypes)$")  # fmt: skip
UNSUPERVISED = re.compile(r"(IsolationForest|OneClassSVM|LocalOutlierFactor|EllipticEnvelope|PCA|NMF|TSNE|UMAP|"
                          r"LatentDirichletAllocation|KernelDensity)$")  # fmt: skip
CLASSICAL = "fit a scikit-learn, xgboost or lightgbm model to the same rows"
NAME_TARGET = "name the column: trilho adopt NOTEBOOK --target COLUMN"


def refuse_failed(history: History) -> None:
    """Raise where a statement of the notebook failed."""
    for did in history.trace.statements:
        if did.state == "failed":
            statement = history.statements[did.id]
            line = did.error_line or statement.line
            fact = f"{_name(history)} fails in cell {statement.cell}, line {line}: {did.error}"
            raise DataError(fact, hint="correct it, and run the notebook from top to bottom once")


def refuse_without_model(history: History, models: Models) -> None:
    """Raise where the notebook fits nothing that predicts a target."""
    if models.candidates:
        return
    for fit in reversed(history.trace.fits):
        known = _unsupported(fit)
        if known is not None:
            raise Refused(f"{_name(history)}: cell {fit.cell} {known[0]}", hint=known[1])
    for library, cell in _imports(history):
        if library in DEEP:
            fact = f"{_name(history)}: cell {cell} imports {DEEP[library]}, and nothing else fits a model"
            raise Refused(f"{fact}; deep learning is not adopted", hint=CLASSICAL)
    raise _unclear_target(history) or _only_crossed(history) or _trains_nothing(history)


def refuse_model(history: History, candidate: Candidate, classes: list[object] | None) -> None:
    """Raise where the model that would be shipped is of a kind that no project can hold."""
    where, name = f"{_name(history)}: cell {candidate.last.cell}", candidate.name
    known = _unsupported(candidate.last)
    if known is not None:
        raise Refused(f"{where} {known[0]}", hint=known[1])
    library = _library(candidate.type)
    if library in DEEP:
        raise Refused(f"{where} trains {name} with {DEEP[library]}; deep learning is not adopted", hint=CLASSICAL)
    if classes is not None and len(classes) > 2:
        shown = ", ".join(map(str, classes[:6])) + (", ..." if len(classes) > 6 else "")
        raise Refused(
            f"{where} fits {name} to {len(classes)} classes ({shown}); two are served",
            hint="make it one class against the rest, as y = (y == CLASS), or one model per class",
        )
    y = candidate.last.y.value if candidate.last.y is not None else None
    if y is not None and y.kind == "frame" and len(y.columns or []) > 1:
        shown = ", ".join((y.columns or [])[:4])
        raise Refused(
            f"{where} fits {name} to {len(y.columns or [])} targets ({shown}); one is served",
            hint="fit one model for each target, and adopt each from a notebook of its own",
        )


def without_target(history: History, candidate: Candidate) -> TrilhoError:
    """Give the error for a model whose target cannot be told."""
    where = f"{_name(history)}: cell {candidate.last.cell}"
    return DataError(f"{where} fits {candidate.name}, and what it predicts cannot be told", hint=NAME_TARGET)


def without_rows(history: History, candidate: Candidate) -> TrilhoError:
    """Give the error for a model whose rows come from no table that was read."""
    where = f"{_name(history)}: cell {candidate.last.cell}"
    return DataError(
        f"{where} fits {candidate.name} to rows that come from no file or query",
        hint="read the rows from a file or a query in the notebook",
    )


def model_classes(history: History, candidate: Candidate) -> list[object] | None:
    """Give a model's classes; None for a regression. Boosters tell by their objective."""
    seen = history.objects.get(candidate.object)
    held = [history.objects[part] for part in candidate.parts if part in history.objects]
    told = next((one.classes for one in [seen, *held] if one is not None and one.classes), None)
    if told:
        return classes_of(told)
    objective = _objective(history, candidate)
    if re.search(r"multi:|multiclass|softprob|softmax|MultiClass", objective):
        count = re.search(r"['\"]?num_class['\"]?\s*[:=]\s*'?(\d+)", objective)
        return list(range(int(count[1]) if count else 3))
    binary = re.search(r"binary|cross_entropy|xentropy|Logloss|Binomial|Logit|Probit", objective)
    return [0, 1] if binary else None


def _objective(history: History, candidate: Candidate) -> str:
    """Give what is known of what a model minimises, as text."""
    last, parameters = candidate.last, candidate.parameters or {}
    told = [candidate.type, *(f"{key}={parameters[key]}" for key in ("objective", "family") if key in parameters)]
    given = [argument for argument in last.others if argument.name in ("params", "objective", "num_class")]
    told += [f"{argument.name}={argument.value.literal or argument.source}" for argument in given]
    call = history.call_of(last)
    if call is not None and last.how == "train":
        told += [ast.unparse(argument) for argument in call.args[:1]]
    return " ".join(told)


def _unsupported(fit: Fit) -> tuple[str, str] | None:
    """Say what a fit does that no project can hold, and the way out."""
    kind, library = _class(fit), _library(fit.function)
    if library in DEEP:
        return f"trains {kind} with {DEEP[library]}; deep learning is not adopted", CLASSICAL
    if SERIES.search(fit.function):
        return (f"fits {kind}, which forecasts a series as a whole and takes no rows of features",
                "give the past to a model as columns (lags), and fit a regression to the rows")  # fmt: skip
    if fit.y is None and CLUSTERS.search(kind):
        return (f"fits {kind}: clusters have no target to be right about, and cannot be certified or watched",
                "train a classifier on the clusters as labels, and adopt that")  # fmt: skip
    if fit.y is None and UNSUPERVISED.search(kind):
        return f"fits {kind}, which is unsupervised: there is no target to predict", "fit a model to a known target"
    return None


def _unclear_target(history: History) -> TrilhoError | None:
    """Give the error for a model that was fitted to one table, target and all."""
    asked = {predict.object for predict in history.trace.predicts if predict.method == "predict"}
    for fit in reversed(history.trace.fits):
        if fit.y is None and fit.object in asked and fit.how == "fit" and not NOT_MODELS.match(fit.function):
            fact = f"{_name(history)}: cell {fit.cell} fits {_class(fit)} and names no target"
            return DataError(f"{fact}: what it predicts is not known", hint="give it X and y: model.fit(X, y)")
    return None


def _only_crossed(history: History) -> TrilhoError | None:
    calls = [*history.trace.metrics, *history.trace.splits]
    crossed = [call for call in calls if call.function.rpartition(".")[2] in CROSS_VALIDATED]
    if not crossed:
        return None
    fact = f"{_name(history)} trains nothing to ship: cell {crossed[-1].cell} only cross-validates"
    return DataError(fact, hint="add a cell that fits the model to all rows: model.fit(X, y)")


def _trains_nothing(history: History) -> TrilhoError:
    name, trace = _name(history), history.trace
    last = max((statement.cell for statement in history.notebook.statements), default=0)
    if trace.metrics and not trace.fits:
        fact = f"{name} trains nothing: cell {trace.metrics[-1].cell} measures rules that are written by hand"
        return DataError(fact, hint="a few if-then rules need no trilho: keep them as a tested function")
    if trace.fits:
        fit = trace.fits[-1]
        fact = f"{name} trains nothing: cell {fit.cell} fits {_class(fit)}, which predicts no target"
    elif trace.reads:
        read = trace.reads[0]
        fact = f"{name} trains nothing: cell {read.cell} reads {read.source[:60]}, and no cell to {last} fits a model"
    else:
        fact = f"{name} trains nothing: no cell up to {last} fits a model"
    return DataError(fact, hint="adopt the notebook that fits the model, or a model file: trilho adopt MODEL.joblib")


def _imports(history: History) -> Iterator[tuple[str, int]]:
    for statement in history.notebook.statements:
        for node in ast.walk(statement.node):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            yield from ((_library(name), statement.cell) for name in names)


def _class(fit: Fit) -> str:
    parts = fit.function.split(".")
    return parts[-2] if len(parts) > 1 and parts[-2][:1].isupper() else parts[-1]


def _library(name: str) -> str:
    return name.partition(".")[0]


def _name(history: History) -> str:
    return history.notebook.path.name
