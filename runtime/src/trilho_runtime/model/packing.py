"""Packing: a fitted model and a sample of its rows become a model package, proven in a process of its own.

The same inputs give the same bytes, so that the folder's digest names the model. What is written is asked, in JSON
rows, alone and together, for predictions that the model already made here.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.fit import features_of, make_features
from trilho_runtime.model.bare import dressed
from trilho_runtime.model.draft import Draft, write
from trilho_runtime.model.form import Form, table_of
from trilho_runtime.model.manifest import CODE, MANIFEST, READABLE, PackageError, parse_manifest, read_manifest, walk
from trilho_runtime.model.outputs import Outputs, OutputsError, outputs_of
from trilho_runtime.model.placing import new_place, not_written, put_in_place
from trilho_runtime.model.proof import prove_apart
from trilho_runtime.model.signing import SIGNING_KEY, sign
from trilho_runtime.model.sources import copy_code, copy_modules, own_modules, reference_of
from trilho_runtime.model.validation import bins_of, measures, validation
from trilho_runtime.profile import Reference
from trilho_runtime.schema.signature import Signature
from trilho_runtime.schema.table import ColumnError
from trilho_runtime.steps.function import StepError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
ASKED_ROWS = 20_000
SAMPLE_ROWS = 50
SHOWN_NAMES = 12
WINDOW_SECONDS = 86400.0
Function = Callable[[Any], Any]


class PackagePath(type(Path())):  # type: ignore[misc]
    """Where a package was written, and what was found when it was.

    It is a path like any other. `rows_proven` stored rows got the same predictions in a process of its own; `format`
    is the estimator's, `path` how a server will run it ("compiled", "partly" or "pandas") and `why` what stands against
    more; `signed_by` is the name of the key; `never_null` are the fields that refuse null.
    """

    files: int
    size_bytes: int
    rows_proven: int
    format: str
    path: str
    why: str
    signed_by: str | None
    never_null: tuple[str, ...] = ()

    def __repr__(self) -> str:
        told = f"{self}: {self.files} files, {self.size_bytes / 1e6:.1f} MB, estimator in {self.format}, {self.path}"
        told += f", {self.rows_proven} rows proven" + (f" ({self.why})" if self.why else "")
        return f"{told}\n{self.nulls}" if self.nulls else told

    @property
    def nulls(self) -> str:
        """Say which fields refuse null and how they would not; nothing where none does."""
        names, more = self.never_null[:SHOWN_NAMES], len(self.never_null) - SHOWN_NAMES
        if not names:
            return ""
        shown = ", ".join(names) + (f" and {more} more" if more > 0 else "")
        one = len(self.never_null) == 1
        which = "this field refuses" if one else f"these {len(self.never_null)} fields refuse"
        return f"{which} null, since the sample has none: {shown} (pass nullable=[...] to let it in)"


def package(
    model: Any,
    sample: Any,
    *,
    name: str,
    out: str | os.PathLike[str],
    task: str | None = None,
    target: str = "prediction",
    features: str | Function | None = None,
    code: str | os.PathLike[str] | None = None,
    y: Any = None,
    metrics: Mapping[str, float] | None = None,
    decide: str | Function | None = None,
    labels: Sequence[Any] | None = None,
    time: str = "",
    key: str = "",
    lineage: Mapping[str, Any] | None = None,
    nullable: Sequence[str] | bool = (),
) -> PackagePath:
    """Write a model package: everything that serving a fitted model needs, in one folder.

    `model` is any fitted estimator, a booster of XGBoost or LightGBM, an object with `predict`, or a function of rows;
    `sample` are rows as it takes them, a table or an array, with all that their columns may hold. `features` makes the
    model's input of raw rows, and then the sample is of raw rows. `code` is the folder of the project's modules, found
    by the model's where it is not given. With `y`, the sample's true values, it also holds what the watcher compares
    with. `labels` are the classes of a model that does not say them; `time` and `key` name the columns of a row's time
    and of what it is about.
    A field refuses null where the sample has none, unless `nullable` names it (True names all). The path that is
    returned says too what was proven. Raises PackageError where the model cannot be packed, or not be written; then
    nothing is left, and what was there before still is.
    """
    _check_name(name)
    place = _place(Path(out))
    model = dressed(model)
    frame, form = table_of(sample)
    if target in frame.columns:
        fact = f"target is {target!r}, which is a column of the sample too; a served row does not have it"
        raise PackageError(fact, 'leave that column out, or name another target="..."')
    beside = new_place(place)
    try:
        beside.mkdir(parents=True)
        reference = reference_of(features, "features") if features is not None else ""
        decision = reference_of(decide, "decide") if decide is not None else ""
        tops = _take_code(code, beside / CODE, model, *(f for f in (features, decide) if callable(f)))
        found = _draft(model, frame, form, task, reference, y, labels, nullable, time, key)
        about = {"time": time, "key": key, "decision": decision, "own": tops, "lineage": dict(lineage or {})}
        draft = Draft(name=name, target=target, **{**found, **about})
        draft.metrics.update(metrics if metrics is not None else {})
        manifest = write(draft, beside)
        signed_by = sign(beside, os.environ[SIGNING_KEY]) if os.environ.get(SIGNING_KEY) else None
        proven = prove_apart(beside, tops.values())
        done = _told(place, beside, manifest, proven, signed_by)
        put_in_place(beside, place)
        return done
    except StepError as error:
        raise PackageError(
            str(error), "the model has to answer each row by itself, with the types of the sample"
        ) from error
    except (ColumnError, OutputsError) as error:
        raise PackageError(str(error), error.hint) from error
    except OSError as error:
        raise not_written(place, error) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _draft(
    model: Any,
    frame: Any,
    form: Form,
    task: str | None,
    reference: str,
    y: Any,
    labels: Sequence[Any] | None,
    nullable: Sequence[str] | bool = (),
    time: str = "",
    key: str = "",
) -> dict[str, Any]:
    """Ask the model about the sample, and give what a package says of both."""
    signature = _allowing(Signature.infer(frame), nullable)
    truth = _truth(y, len(frame))
    asked = _spread(len(frame), ASKED_ROWS)
    some = frame.iloc[asked].reset_index(drop=True)
    function = features_of(reference)
    given = make_features(function, form.given(some), reference) if reference else form.given(some)
    outputs = _outputs(model, given, task, labels)
    scores = outputs.scores(model, given)
    chosen = _provable(signature, some)
    known = None if truth is None else _known(outputs, truth[asked])
    watched = _reference(frame, time, key)
    bins = bins_of(watched, {name: some[name].to_numpy() for name in some.columns})
    return {
        "reference": watched,
        "model": model,
        "features": reference,
        "signature": signature,
        "form": form,
        "outputs": outputs,
        "frame": some,
        "given": given,
        "answers": scores,
        "rows": signature.rows(some.iloc[chosen]),
        "scores": scores[chosen],
        "validation": None if known is None else validation(outputs, scores, known, bins=bins),
        "metrics": {} if known is None else measures(outputs, scores, known),
    }


def _allowing(signature: Signature, nullable: Sequence[str] | bool) -> Signature:
    """Give a signature that takes null in the fields named besides those in which the sample has one."""
    if isinstance(nullable, bool):
        return signature.allowing(signature.names) if nullable else signature
    named = [nullable] if isinstance(nullable, str) else list(nullable)
    strange = [name for name in named if name not in signature.names]
    if strange:
        known = ", ".join(field.name for field in signature.fields)
        raise PackageError(f"nullable names {strange[0]!r}, which is no column of the sample", f"it has {known:.200}")
    return signature.allowing(named)


def _outputs(model: Any, given: Any, task: str | None, labels: Sequence[Any] | None) -> Outputs:
    if not hasattr(model, "predict") and not callable(model):
        fact = f"the model is {type(model).__name__}, which has no predict and cannot be called"
        raise PackageError(fact, "pass a fitted estimator, an object with predict, or a function of rows")
    if isinstance(model, type):
        raise PackageError(f"the model is the class {model.__name__} itself", "pass a fitted object of it")
    try:
        return outputs_of(model, given, task, labels)
    except OutputsError:
        raise
    except Exception as error:
        said = str(error).splitlines()[0] if str(error) else ""
        fact = f"the model cannot predict the sample: {type(error).__name__}: {said:.300}"
        raise PackageError(fact, "pass a fitted model, and rows as it takes them (raw ones with features=)") from error


def _truth(y: Any, rows: int) -> NDArray[Any] | None:
    if y is None:
        return None
    found = np.asarray(y).reshape(-1)
    if len(found) != rows:
        raise PackageError(f"y has {len(found)} values for {rows} rows", "pass one value for each row of the sample")
    if any(value is None or value != value for value in found.tolist()):
        raise PackageError("y has missing values", "leave the rows out whose true value is not known")
    return found


def _known(outputs: Outputs, truth: NDArray[Any]) -> NDArray[np.float64]:
    try:
        return outputs.places(truth) if outputs.classes else truth.astype(np.float64)
    except (TypeError, ValueError):
        wanted = f"one of the classes {', '.join(map(repr, outputs.classes))}" if outputs.classes else "a number"
        fact = f"y holds {truth[0]!r}, of type {truth.dtype}; {wanted} is what the model predicts"
        raise PackageError(fact, "pass y as the model was fitted to it") from None


def _reference(frame: Any, time: str, key: str) -> Reference:
    absent = [name for name in (time, key) if name and name not in frame.columns]
    if absent or (time and frame[time].dtype.kind != "M"):
        what = f"no column {absent[0]}" if absent else f"no times in {time}, but {frame[time].dtype}"
        raise PackageError(f"the sample has {what}", f"it has {', '.join(frame.columns)[:200]}")
    columns = {name: frame[name].to_numpy() for name in frame.columns if name not in (time, key)}
    return Reference.fit(columns, frame[time].to_numpy() if time else None, WINDOW_SECONDS)


def _provable(signature: Signature, frame: Any) -> NDArray[np.int64]:
    """Choose rows to store; one with an infinite number cannot be said in JSON."""
    whole = np.ones(len(frame), bool)
    for name, column in signature.arrays(frame).items():
        if column.dtype.kind == "f":
            whole &= ~np.isinf(column)
            if not whole.any():
                raise PackageError(
                    f"every row of the sample has an infinite number, such as in {name}", "leave those out"
                )
    places = np.flatnonzero(whole)
    return places[_spread(len(places), SAMPLE_ROWS)]


def _spread(rows: int, most: int) -> NDArray[np.int64]:
    """Give so many places at most, spread over all rows.

    >>> _spread(10, 4).tolist()
    [0, 3, 6, 9]
    """
    return np.unique(np.linspace(0, rows - 1, min(most, rows)).astype(np.int64))


def _take_code(code: str | os.PathLike[str] | None, to: Path, *objects: Any) -> dict[str, Path]:
    """Copy the code that the model needs, and give the project's top-level modules."""
    tops = own_modules(*objects)
    if code is not None:
        copy_code(Path(code), to)
        absent = next((name for name in tops if not ((to / name).is_dir() or (to / f"{name}.py").exists())), None)
        if absent is not None:
            fact = f"the model needs {absent}, from {tops[absent]}, which is not in {code}"
            raise PackageError(fact, "name the folder that holds it in code=, or leave code out to have it found")
        return {path.stem if path.is_file() else path.name: Path(code) for path in sorted(to.iterdir())}
    if tops:
        copy_modules(tops.values(), to)
    return tops


def _check_name(name: str) -> None:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        fact = f"name is {name!r}; allowed: letters, digits and . _ -, 63 at most, a letter or digit first"
        raise PackageError(fact, 'such as name="bike-demand"')


def _place(out: Path) -> Path:
    """Give the folder to write. Raises PackageError where something is that is no package of ours."""
    out = Path(os.path.abspath(out))  # noqa: PTH100  a link is looked at, not followed
    other = 'name another folder: out="..."'
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise PackageError(f"{out} is there already and is no folder", other)
    if not out.exists() or not any(out.iterdir()):
        return out
    try:
        manifest = parse_manifest(read_manifest(out / MANIFEST), out / MANIFEST)
    except PackageError:
        raise PackageError(f"{out} is there already and is no model package; it is left as it is", other) from None
    extra = [p for p in walk(out) if (n := p.relative_to(out).as_posix()) not in manifest["files"] and n not in KEPT]
    if extra or manifest["schema"] not in READABLE:
        raise PackageError(f"{extra[0]} is no part of the package there; it is left as it is", other)
    return out


KEPT = {MANIFEST, "manifest.sig"}


def _told(
    place: Path, beside: Path, manifest: Mapping[str, Any], proven: Mapping[str, Any], signed_by: str | None
) -> PackagePath:
    told = PackagePath(place)
    told.files = len(manifest["files"])
    told.size_bytes = sum(path.stat().st_size for path in walk(beside))
    told.rows_proven, told.path, told.why = proven["rows"], proven["path"], proven["why"]
    told.format, told.signed_by = manifest["estimator"]["format"], signed_by
    told.never_null = tuple(field["name"] for field in manifest["signature"] if not field["nullable"])
    return told
