"""Classes made equal: the model's scores are then no probabilities."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from trilho.adopt.doctor.flow.names import RESAMPLERS, full_name, last
from trilho.adopt.doctor.subject import Chunk, Subject, finding
from trilho.adopt.plan import Finding

WEIGHTS = frozenset({"class_weight", "scale_pos_weight", "is_unbalance", "auto_class_weights", "class_weights"})
CALIBRATED = re.compile(
    r"CalibratedClassifierCV|IsotonicRegression|calibration_curve|calibrat|isotonic|platt", re.IGNORECASE
)
CLASSIFIES = re.compile(r"\.\w*(Classifier|LogisticRegression|SVC|NB)(\w*)$|binary:|\"binary\"|multi:")
FIX = (
    'calibrate on rows as they come (CalibratedClassifierCV(model, method="isotonic")), or leave the classes '
    "as they "
    "are and move the threshold instead"
)


def scores_no_probabilities(subject: Subject) -> Iterator[Finding]:
    """Find resampled or weighted classes where nothing calibrates the scores afterwards; one finding for each way."""
    if any(CALIBRATED.search(name) for _, _, name in subject.calls()):
        return
    seen: set[str] = set()
    for chunk, node in subject.nodes():
        for how, at in _ways(subject, chunk, node):
            if how not in seen:
                seen.add(how)
                rule = "weighted-classes" if "weight" in how or how == "is_unbalance" else "resampled-classes"
                yield finding(
                    rule,
                    chunk.place(at),
                    f"`{how}` makes the classes weigh alike: a score of 0.5 no longer means that it happens every "
                    "other time, and costs or thresholds worked out from it are off",
                    "warning",
                    FIX,
                )


def _ways(subject: Subject, chunk: Chunk, node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.keyword(arg=str(name), value=value) if name in WEIGHTS and _weighs(value):
            yield name, value
        case ast.Dict(keys=keys, values=values):
            for key, value in zip(keys, values, strict=True):
                if isinstance(key, ast.Constant) and key.value in WEIGHTS and _weighs(value):
                    yield str(key.value), value
        case ast.Assign(targets=[ast.Subscript(slice=ast.Constant(value=str(name)))], value=value) if name in WEIGHTS:
            if _weighs(value):
                yield name, value
        case ast.Call(func=function):
            name = full_name(function, subject.known)
            called = last(name) or (function.attr if isinstance(function, ast.Attribute) else "")
            words = {word.arg: word.value for word in node.keywords}
            if (
                (called == "resample" and name in ("resample", "sklearn.utils.resample") and "n_samples" in words)
                or (called != "resample" and name and RESAMPLERS.fullmatch(called))
                or called in ("compute_sample_weight", "compute_class_weight")
            ):
                yield called, node
            elif called == "sample" and _counts(words.get("n", node.args[0] if node.args else None)):
                yield "sample", node


def _counts(node: ast.expr | None) -> bool:
    """Whether as many rows are drawn as another table has."""
    return node is not None and any(isinstance(n, ast.Name) and n.id == "len" for n in ast.walk(node))


def _weighs(value: ast.expr) -> bool:
    return not isinstance(value, ast.Constant) or value.value is True or value.value not in (None, False, 1, "None")
