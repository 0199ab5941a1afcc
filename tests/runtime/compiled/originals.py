"""What the comparisons of compiled estimators with the originals share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.compiled.estimators import CompiledEstimator, compile_estimator, load_estimator

Floats = NDArray[np.float64]


def table(seed: int, rows: int = 400, columns: int = 6, missing: float = 0.0) -> Floats:
    """Give a matrix of random numbers, of which column 2 is small whole numbers."""
    rng = np.random.default_rng(seed)
    made = rng.normal(size=(rows, columns))
    made[:, 2] = rng.integers(0, 6, rows)
    made[rng.random(made.shape) < missing] = np.nan
    return made


def target(matrix: Floats, kind: str) -> NDArray[Any]:
    """Give a target: value, positive, two (0 and 1), flags (booleans), words (three texts) or numbers (2, 5, 9)."""
    known = np.nan_to_num(matrix)
    value = known[:, 0] * 2 + np.sin(known[:, 1] * 3) + known[:, 2] / 3 - 0.8
    place = np.digitize(value, np.quantile(value, [0.3, 0.7]))
    by = {
        "value": value,
        "positive": np.exp(value / 4),
        "two": (value > 0).astype(np.int64),
        "flags": value > 0,
        "pair": np.array(["no", "yes"])[(value > 0).astype(np.int64)],
        "words": np.array(["high", "low", "middle"])[place],
        "numbers": np.array([2, 5, 9])[place],
        "codes": place,
    }
    return np.asarray(by[kind])


def scores(model: Any, given: Any) -> Floats:
    """Give the original's answers in the shape that scores have everywhere."""
    classes = getattr(model, "classes_", None)
    if classes is None:
        return np.asarray(model.predict(given), np.float64).reshape(-1)
    labels = np.asarray(classes).tolist()
    if hasattr(model, "predict_proba"):
        found = np.asarray(model.predict_proba(given), np.float64)
        return found[:, 1] if labels == [0, 1] and not isinstance(labels[0], bool) else found
    said = np.asarray(model.predict(given)).tolist()
    numbers = all(isinstance(label, int | float) for label in labels)
    return np.array([float(label) if numbers else float(labels.index(label)) for label in said])


def read_again(made: CompiledEstimator, folder: Path) -> CompiledEstimator:
    """Write a compiled estimator's parts to files and read them back."""
    spec, arrays, files = made.to_parts()
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    np.savez(folder / "arrays.npz", **arrays)  # type: ignore[arg-type]
    (folder / "spec.json").write_text(json.dumps(spec, allow_nan=False))
    return loaded(folder)


def loaded(folder: Path) -> CompiledEstimator:
    """Read a compiled estimator out of a folder."""
    with np.load(folder / "arrays.npz", allow_pickle=False) as arrays:
        return load_estimator(json.loads((folder / "spec.json").read_text()), dict(arrays), folder)


def compared(model: Any, matrix: Floats, folder: Path, *, sparse: bool = False) -> CompiledEstimator:
    """Compile a fitted model, read it back, and hold it to the original's answers within its own bound."""
    made = read_again(compile_estimator(model, sparse=sparse), folder)
    check_same(made, model, matrix, sparse=sparse)
    assert made(matrix[:0]).shape == (0, *made(matrix[:1]).shape[1:])
    alone = np.concatenate([made(matrix[row : row + 1]) for row in range(20)])
    check_close(alone, made(matrix[:20]), made.exact)
    return made


def check_same(made: CompiledEstimator, model: Any, matrix: Floats, *, sparse: bool = False) -> None:
    """Hold a compiled model to the original's answers for a matrix."""
    given: Any = matrix
    if sparse:
        from scipy.sparse import csr_matrix

        given = csr_matrix(matrix)
    found, wanted = made(matrix), scores(model, given)
    assert found.dtype == np.float64
    assert found.shape == wanted.shape
    check_close(found, wanted, made.exact)


def check_close(found: Floats, wanted: Floats, exact: str) -> None:
    """Hold numbers to a bound: equal in every bit, or within 1e-12 of the largest term."""
    if exact == "bit-equal":
        np.testing.assert_array_equal(found, wanted)
    else:
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def around(values: Floats) -> list[Floats]:
    """Give numbers at, just below and just above others, in both precisions."""
    narrow = values.astype(np.float32)
    near = [np.nextafter(narrow, np.float32(np.inf)), np.nextafter(narrow, np.float32(-np.inf)), narrow]
    return [
        values, np.nextafter(values, np.inf), np.nextafter(values, -np.inf), *(one.astype(np.float64) for one in near)
    ]  # fmt: skip


def refusal(ask: Any, *given: Any) -> str:
    """Give the class of error that a call is refused with, or nothing."""
    try:
        ask(*given)
    except ValueError as error:
        return type(error).__name__
    return ""
