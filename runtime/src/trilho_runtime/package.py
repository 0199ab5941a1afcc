"""The model package: a folder with an estimator, the code of its features, and a manifest of digests.

Nothing in it is imported or unpickled before every file's digest is right. `load()` then gives a predictor, for which
the package's own code is importable: one process holds one package.

    python -m trilho_runtime.package verify FOLDER
"""

from __future__ import annotations

import hashlib
import json
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.fit import answers, features_of, joined, last_features, make_features
from trilho_runtime.function import StepError
from trilho_runtime.history import History, Past
from trilho_runtime.signature import Field, RowError, Signature

SCHEMA = 1
MANIFEST = "manifest.json"
CODE = "code"
SAMPLE = "sample.json"
TOLERANCE = 1e-9
TEXTS = ("name", "task", "target", "features")
OBJECTS = ("estimator", "libraries", "metrics", "lineage", "files")

Floats = NDArray[np.float64]


class PackageError(Exception):
    """A model package is not what its manifest says, or cannot be loaded here."""


class ModelError(Exception):
    """The project's own code, or its estimator, failed on rows of the right types; `stage` says which."""

    def __init__(self, stage: str, error: BaseException) -> None:
        what = str(error) if isinstance(error, StepError) else f"{type(error).__name__}: {error}"
        super().__init__(f"{stage}: {what}")
        self.stage = stage


@dataclass(frozen=True)
class Package:
    """A package whose files are what its manifest says."""

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def signature(self) -> Signature:
        """Give the raw fields that a row holds."""
        return Signature.from_json(self.manifest["signature"])

    @property
    def batch_only(self) -> bool:
        """Say whether it answers whole tables only: its features look at other rows than the one they describe."""
        return bool(self.manifest.get("batch_only", False))

    def sample(self) -> tuple[list[dict[str, Any]], list[float]]:
        """Give the stored rows and what the model predicted for them where it was packed."""
        data = json.loads((self.folder / SAMPLE).read_bytes())
        return data["rows"], data["predictions"]

    def load(self) -> Predictor:
        """Import the package's code and unpickle its estimator.

        No bytecode is written from here on, since it would lie in the package and break its digest.
        """
        sys.dont_write_bytecode = True
        code = str((self.folder / CODE).resolve())
        sys.path[:] = [code, *(p for p in sys.path if p != code)]
        features = self._function(str(self.manifest["features"]), Path(code))
        file = self.folder / self.manifest["estimator"]["file"]
        try:
            estimator = pickle.loads(file.read_bytes())  # noqa: S301  its digest was checked
        except (Exception, SystemExit) as error:
            raise PackageError(f"{file} cannot be loaded here: {_cause(error)}{self.differences()}") from error
        return Predictor(
            self.signature,
            str(self.manifest["task"]),
            features,
            str(self.manifest["features"]),
            estimator,
            history=self._history(),
        )

    def _history(self) -> History | None:
        """Read the past rows that the package carries, where its features look at past rows."""
        told = self.manifest.get("history")
        if told is None:
            return None
        try:
            return History.load(self.folder / told["file"], (field.name for field in self.signature.fields), told)
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise PackageError(f"{self.folder}: its history cannot be read: {_cause(error)}") from error

    def prove(self, predictor: Predictor) -> None:
        """Check that the stored rows get the stored predictions. Raises PackageError for the first that does not."""
        rows, expected = self.sample()
        if not rows:  # a model of whole tables has no rows that can be asked alone
            return
        try:
            found = np.asarray(predictor.predict(rows))
        except (ValueError, ModelError) as error:
            raise PackageError(f"{self.folder / SAMPLE}: {error}{self.differences()}") from error
        wrong = np.flatnonzero(~np.isclose(found, expected, rtol=TOLERANCE, atol=1e-12))
        if len(wrong):
            row = int(wrong[0])
            fact = f"row {row} of {SAMPLE} is predicted {found[row]!r} here, {expected[row]!r} where it was packed"
            raise PackageError(f"{self.folder}: {fact}{self.differences()}")

    def differences(self) -> str:
        """Say which libraries have another version here than where the package was made, or nothing."""
        here = versions(self.manifest["libraries"])
        packed = self.manifest["libraries"]
        moved = [
            f"{name} {packed[name]}, here {here.get(name) or 'absent'}"
            for name in packed
            if packed[name] != here.get(name)
        ]
        return f" (packed with {'; '.join(moved)})" if moved else ""

    def _function(self, reference: str, code: Path) -> Callable[[Any], Any]:
        try:
            function = features_of(reference)
        except (Exception, SystemExit) as error:
            raise PackageError(
                f"{self.folder}: {reference} cannot be imported: {_cause(error)}{self.differences()}"
            ) from error
        if not reference:  # the model takes raw rows, and says itself where its code is
            return function
        module = sys.modules[reference.partition(":")[0]]
        file = Path(getattr(module, "__file__", None) or ".").resolve()
        if code not in file.parents:
            raise PackageError(
                f"{self.folder}: {module.__name__} was already imported from {file}: one process, one package"
            )
        return function


@dataclass(frozen=True)
class Predictor:
    """A loaded model: rows in, one float a row out, the value or the probability of class 1.

    With a history each row is answered by itself, after the past of its entity: rows that are asked together do not see
    each other, since their targets are not known yet.
    """

    signature: Signature
    task: str
    features: Callable[[Any], Any]
    reference: str
    estimator: Any
    path: str = "pandas"  # how rows reach the estimator
    history: History | None = None

    def predict(self, rows: Sequence[Mapping[str, Any]]) -> list[float]:
        """Predict rows of JSON values. Raises RowError for a wrong value, ModelError when the model's code fails."""
        return cast("list[float]", self.predict_columns(self.signature.columns(rows)).tolist()) if rows else []

    def predict_columns(self, columns: Mapping[str, NDArray[Any]]) -> Floats:
        """Predict rows that the signature has checked."""
        if self.history is None:
            return self._answers(self.signature.frame(columns))
        found = [self._after(self.history, columns, row, past) for row, past in enumerate(self.history.find(columns))]
        return np.array(found, np.float64)

    def predict_frame(self, frame: Any) -> Floats:
        """Predict a pandas table of raw rows."""
        if self.history is None:
            return self._answers(frame)
        return self.predict_columns(self.signature.arrays(frame))

    def renewed(self, past: Sequence[Mapping[str, Any]], asked: Mapping[str, NDArray[Any]]) -> Predictor:
        """Give the predictor with newer past rows of JSON values, their targets among them, for the rows asked.

        Raises RowError for a wrong value, and where the model looks at no past rows.
        """
        if self.history is None:
            raise RowError("past: this model looks at no past rows", "past")
        target = self.history.target
        try:
            columns = Signature((*self.signature.fields, Field(target, "number", False))).columns(past)
        except RowError as error:
            raise RowError(f"past {error}", error.field, error.row) from None
        values = columns.pop(target)
        return replace(self, history=self.history.renewed(columns, values, asked))

    def predict_after(self, past: Any, frame: Any) -> Floats:
        """Predict a pandas table of raw rows after another one, both with targets, as the training run does."""
        if self.history is None:
            return self._answers(frame)
        return self._last(joined(past, frame, self.history.target), self.history, len(frame))

    def _after(self, history: History, columns: Mapping[str, NDArray[Any]], row: int, past: Past) -> float:
        """Predict one row as the last one of the table of its past."""
        return float(self._last(self.signature.frame(history.table(columns, row, past)), history, 1)[0])

    def _last(self, table: Any, history: History, count: int) -> Floats:
        try:
            made = last_features(self.features, table, self.reference, history.target, count)
        except (Exception, SystemExit) as error:
            raise ModelError("features", error) from error
        return self._asked(made, count)

    def _answers(self, frame: Any) -> Floats:
        try:
            made = make_features(self.features, frame, self.reference)
        except (Exception, SystemExit) as error:
            raise ModelError("features", error) from error
        return self._asked(made, len(frame))

    def _asked(self, made: Any, count: int) -> Floats:
        try:
            return answers(self.estimator, made, self.task, count)
        except (Exception, SystemExit) as error:
            raise ModelError("model", error) from error


def open_package(folder: Path) -> Package:
    """Read a package's manifest and check every file's digest. Raises PackageError naming the file that is wrong."""
    manifest = _read_manifest(folder / MANIFEST)
    listed = manifest["files"]
    for name, digest in sorted(listed.items()):
        _check_file(folder, str(name), str(digest))
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or (not path.is_dir() and name not in listed and name != MANIFEST):
            raise PackageError(f"{path} is not in the manifest: a package holds what was packed and nothing else")
    history = [manifest["history"].get("file")] if manifest.get("history") else []
    for name in (manifest["estimator"].get("file"), SAMPLE, *history):
        if name not in listed:
            raise PackageError(f"{folder / MANIFEST}: {name} is not among its files")
    return Package(folder, manifest)


def folder_digest(folder: Path) -> str:
    """Give a folder's digest as the artifact store names it: of its files' relative names and contents."""
    files = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    digests = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    text = json.dumps(digests, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def check_digest(folder: Path, digest: str) -> None:
    """Raise PackageError when a package is not the one that a digest names."""
    try:
        found = folder_digest(folder)
    except OSError as error:
        raise PackageError(f"{folder}: {error.strerror or error}") from None
    if found != digest:
        raise PackageError(
            f"{folder}: its digest is {found[:12]}, {digest[:12]} is wanted: it is another package, or was changed"
        )


def versions(names: Sequence[str] | Mapping[str, Any]) -> dict[str, str]:
    """Give the installed version of each library that is installed; "python" is the interpreter's own."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in names:
        try:
            found[name] = ".".join(map(str, sys.version_info[:3])) if name == "python" else version(name)
        except PackageNotFoundError:
            continue
    return found


def _cause(error: BaseException) -> str:
    return str(error) if isinstance(error, StepError) else f"{type(error).__name__}: {error}"


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_bytes())
    except OSError as error:
        raise PackageError(
            f"{path}: {error.strerror or error}: a model package is a folder with a {MANIFEST}"
        ) from None
    except ValueError as error:
        raise PackageError(f"{path}: not JSON: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        found = manifest.get("schema") if isinstance(manifest, dict) else type(manifest).__name__
        raise PackageError(f"{path}: schema {found!r}; this trilho-runtime reads {SCHEMA}")
    wrong = [k for k in TEXTS if not isinstance(manifest.get(k), str)]
    wrong += [k for k in OBJECTS if not isinstance(manifest.get(k), dict)]
    wrong += [] if isinstance(manifest.get("signature"), list) else ["signature"]
    wrong += [] if isinstance(manifest.get("history") or {}, dict) else ["history"]
    if wrong:
        raise PackageError(f"{path}: {', '.join(wrong)} missing or of the wrong type")
    return manifest


def _check_file(folder: Path, name: str, digest: str) -> None:
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise PackageError(f"{folder / MANIFEST}: {name} lies outside the package")
    path = folder / relative
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise PackageError(f"{path}: {error.strerror or error}, but the manifest lists it") from None
    if found != digest:
        raise PackageError(
            f"{path}: its digest is {found[:12]}, the manifest says {digest[:12]}: it was changed or cut"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a model package's files against its manifest."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m trilho_runtime.package", description=main.__doc__)
    parser.add_argument("verb", choices=["verify"])
    parser.add_argument("folder", type=Path)
    given = parser.parse_args(arguments)
    try:
        package = open_package(given.folder)
    except PackageError as error:
        sys.stderr.write(f"{error}\nHint: take the package from the store again\n")
        return 1
    manifest = package.manifest
    sys.stdout.write(f"{manifest['name']}: {len(manifest['files'])} files are what the manifest says\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
