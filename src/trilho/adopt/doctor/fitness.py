"""Whether trilho is for this case at all. It is not for everything, and says so kindly."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from trilho.adopt.doctor.flow.names import last
from trilho.adopt.doctor.subject import Subject

READERS = re.compile(r"(read|scan)_(?!clipboard)\w+|to_dataframe|to_arrow|toPandas|fetchdf|fetch_df|(load|"
                     r"fetch)_\w+|loadtxt|"
                     r"genfromtxt|list_rows|open|urlopen|load|sql|table")  # fmt: skip
MADE_UP = re.compile(r"sklearn\.datasets\.make_\w+")
MANY_RULES = 12
RULES_ONLY = (
    "the answer comes from {count} and no model is trained: a function with tests, released like any "
    "other code, is simpler to run, to explain and to change than a platform for models"
)
NO_MODEL = "nothing is trained here: trilho begins where a model is; come back with the notebook that fits it"
NO_DATA = (
    "no data is read: there is no table or file that a training could read again next month; a place where the data "
    "comes in regularly is needed first"
)
INVENTED = "the data is made up by the code itself: a model of it has nothing to predict in production"


@dataclass(frozen=True)
class Fitness:
    """Whether trilho fits, and what speaks against it."""

    fits: bool
    reasons: tuple[str, ...] = ()


def fitness(subject: Subject) -> Fitness:
    """Say whether there is a model and data to train it from."""
    reasons = []
    if not _has_model(subject):
        rules = rule_count(subject)
        counted = f"{rules} if-then rule" if rules == 1 else f"{rules} if-then rules"
        reasons.append(RULES_ONLY.format(count=counted) if 0 < rules <= MANY_RULES else NO_MODEL)
    if not _has_data(subject):
        reasons.append(INVENTED if any(MADE_UP.fullmatch(name) for _, _, name in subject.calls()) else NO_DATA)
    return Fitness(not reasons, tuple(reasons))


def _has_model(subject: Subject) -> bool:
    if subject.trace is not None and subject.trace.fits:
        return True
    if any(fit.model for fit in subject.events.fits):
        return True
    trained = {"fit", "fit_resample", "train", "partial_fit", "fit_predict", "from_formula", "ols", "glm", "logit"}
    calls = {node.func.attr for _, node, _ in subject.calls() if isinstance(node.func, ast.Attribute)}
    imported = " ".join(subject.known.values())
    return bool(calls & trained) and bool(re.search(
        r"sklearn|xgboost|lightgbm|catboost|statsmodels|torch|keras|tensorflow|prophet|imblearn|pygam|flaml|autogluon",
        imported,
    ))  # fmt: skip


def _has_data(subject: Subject) -> bool:
    if subject.trace is not None:
        return bool(subject.trace.reads)
    if subject.settings is not None:
        source = subject.settings.data.source
        return "://" in source or any(subject.folder.glob(source))
    for _, node, name in subject.calls():
        word = last(name) or (node.func.attr if isinstance(node.func, ast.Attribute) else "")
        if READERS.fullmatch(word) and not MADE_UP.fullmatch(name) and (word != "open" or not _writes(node)):
            return True
    return False


def _writes(node: ast.Call) -> bool:
    mode = node.args[1] if len(node.args) > 1 else next((w.value for w in node.keywords if w.arg == "mode"), None)
    return isinstance(mode, ast.Constant) and isinstance(mode.value, str) and mode.value[:1] in ("w", "a", "x")


def rule_count(subject: Subject) -> int:
    """Count the if-then rules that decide: branches of functions that return constants, np.where and np.select."""
    return sum(_rules_in(node) for _, node in subject.nodes())


def _rules_in(node: ast.AST) -> int:
    match node:
        case ast.FunctionDef(body=body):
            return sum(1 for branch in _branches(body) if _decides(branch))
        case ast.Call(func=ast.Attribute(attr="where"), args=[ast.Compare() | ast.BinOp(), _, _]):
            return 1
        case ast.Call(func=ast.Attribute(attr="select"), args=[ast.List(elts=conditions), *_]):
            return len(conditions)
    return 0


def _branches(body: list[ast.stmt]) -> Iterator[ast.If]:
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.If):
                yield node


def _decides(node: ast.If) -> bool:
    """Whether a branch gives a constant, or adds one to a score."""
    end = node.body[-1]
    match end:
        case ast.Return(value=ast.Constant()) | ast.Assign(value=ast.Constant()) | ast.AugAssign(value=ast.Constant()):
            return True
    return False
