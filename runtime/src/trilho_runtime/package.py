"""The model package: a folder with an estimator, the code of its features, and a manifest of digests.

Nothing in it is imported or unpickled before every file's digest is right, and before a trusted key's signature where
keys are trusted. `load()` then gives a predictor: by array code alone where the package is fully compiled, else with
the package's own code importable: one process holds one package.

    python -m trilho_runtime.package verify FOLDER [--trust FILE]...
    python -m trilho_runtime.package sign FOLDER --key FILE
    python -m trilho_runtime.package keys --out FILE

The module can be called: `trilho_runtime.package(model, sample=X, name="...", out="...")` writes one.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import sys
import tempfile
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from trilho_runtime.fit import features_of
from trilho_runtime.history import History
from trilho_runtime.model.estimator import restore
from trilho_runtime.model.form import Form
from trilho_runtime.model.importing import use_code
from trilho_runtime.model.manifest import (
    CODE,
    MANIFEST,
    SAMPLE,
    SCHEMA,
    PackageError,
    apart,
    check_archive,
    check_files,
    check_manifest,
    check_names,
    parse_manifest,
    read_listed,
    read_manifest,
)
from trilho_runtime.model.outputs import Outputs
from trilho_runtime.model.precision import least, tolerance_of
from trilho_runtime.model.predictor import COMPILED, PANDAS, ModelError, Predictor
from trilho_runtime.model.signing import Key, check_signature, trusted_keys
from trilho_runtime.schema.signature import Signature
from trilho_runtime.steps.function import StepError

if TYPE_CHECKING:
    from trilho_runtime.compiled.plan import Compiled

__all__ = ["CODE", "MANIFEST", "SAMPLE", "SCHEMA", "ModelError", "Package", "PackageError", "Predictor", "open_package"]
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Package:
    """A package whose files are what its manifest says."""

    folder: Path
    manifest: Mapping[str, Any]
    signed_by: str | None = None
    """The name of the trusted key that signed it; None where no key is trusted."""

    @functools.cached_property
    def signature(self) -> Signature:
        """Give the raw fields that a row holds."""
        return Signature.from_json(self.manifest["signature"])

    @property
    def batch_only(self) -> bool:
        """Say whether it answers whole tables only: its features look at other rows than the one they describe."""
        return bool(self.manifest.get("batch_only", False))

    def read(self, name: str) -> bytes:
        """Read one of its files, by the bytes that the manifest lists. Raises PackageError for others."""
        return read_listed(self.folder, name, self.manifest["files"])

    def sample(self) -> tuple[list[dict[str, Any]], list[Any]]:
        """Give the stored rows and what the model predicted for them where it was packed."""
        try:
            data = json.loads(self.read(SAMPLE))
            rows, predictions = data["rows"], data["predictions"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise PackageError(f"{self.folder / SAMPLE}: it holds no sample: {_cause(error)}") from None
        if not (isinstance(rows, list) and isinstance(predictions, list) and len(rows) == len(predictions)):
            raise PackageError(f"{self.folder / SAMPLE}: it holds no sample: as many rows as predictions are wanted")
        return rows, predictions

    def load(self, *, compiled: bool = True) -> Predictor:
        """Give the model, ready to predict.

        A fully compiled package imports nothing of the project's and reads no estimator. From any other its code is
        imported and its estimator read; with `compiled=False` that is so for every package.
        """
        manifest, reference = self.manifest, str(self.manifest["features"])
        original = functools.cache(self._estimator)
        plan, why = self._compiled(original) if compiled else (None, "its array code is not used")
        full = plan is not None and plan.path == COMPILED and not reference and "history" not in manifest
        features: Callable[[Any], Any] = _unused
        if not full:
            code = use_code(self.folder, manifest["files"])
            features = self._function(reference, code)
        if plan is None:
            original()
        told = manifest.get("compiled") or {}
        made = Signature.from_json(told["features"]) if plan is not None and "features" in told else None
        return Predictor(
            self.signature,
            str(manifest["task"]),
            features,
            reference,
            original,
            Outputs.from_manifest(manifest),
            Form.from_manifest(manifest),
            plan,
            made,
            (COMPILED if full else "partly") if plan is not None else PANDAS,
            tuple(told.get("stages", ())) if plan is not None else (),
            why,
            self._history(),
        )

    def _compiled(self, original: Callable[[], Any]) -> tuple[Compiled | None, str]:
        """Read the array code, from a copy of its files that nobody else can change; or say why there is none."""
        told = self.manifest.get("compiled")
        if not told or not told.get("files"):
            return None, str((told or {}).get("why") or "it was packed before models were compiled")
        from trilho_runtime import compiled

        with tempfile.TemporaryDirectory(prefix="trilho-") as name:
            for file in told["files"]:
                data = self.read(file)
                if file.endswith(".npz"):
                    check_archive(data, self.folder / file)
                Path(name, file).parent.mkdir(parents=True, exist_ok=True)
                Path(name, file).write_bytes(data)
            try:
                return compiled.load(Path(name), told, original=original), str(told.get("why", ""))
            except PackageError:
                raise
            except (Exception, SystemExit) as error:  # noqa: BLE001  it is served as it was fitted then
                return None, f"the compiled model cannot be loaded here: {_cause(error)}"

    def _estimator(self) -> Any:
        """Read the estimator as it was fitted."""
        use_code(self.folder, self.manifest["files"])
        told = self.manifest["estimator"]
        data = self.read(told["file"])
        try:
            return restore(told, data, Outputs.from_manifest(self.manifest), self._own())
        except PackageError:
            raise
        except (Exception, SystemExit) as error:
            file = self.folder / told["file"]
            raise PackageError(f"{file} cannot be loaded here: {_cause(error)}{self.differences()}") from error

    def _own(self) -> set[str]:
        """Give the names of the top-level modules that the package carries."""
        places = (name.split("/") for name in self.manifest["files"])
        return {place[1].removesuffix(".py") for place in places if place[0] == CODE and len(place) > 1}

    def _history(self) -> History | None:
        """Read the past rows that the package carries, where its features look at past rows."""
        told = self.manifest.get("history")
        if told is None:
            return None
        data = self.read(told["file"])
        check_archive(data, self.folder / told["file"])
        try:
            return History.load(cast("Path", io.BytesIO(data)), (field.name for field in self.signature.fields), told)
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
        row = first_difference(found, expected, tolerance_of(self.manifest))
        if row is not None:
            told = f"{found[row].tolist()!r} here, {expected[row]!r} where it was packed"
            raise PackageError(f"{self.folder}: row {row} of {SAMPLE} is predicted {told}{self.differences()}")

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
        except PackageError:
            raise
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


def open_package(folder: str | os.PathLike[str], trusted: Sequence[Key] | None = None) -> Package:
    """Read a package's manifest and check every file's digest. Raises PackageError naming the file that is wrong.

    `trusted` are public keys, files or PEM texts; by default those that TRILHO_TRUSTED_KEYS names. With any of them a
    package that none of them signed is refused before anything else of it is read; `()` trusts every package.
    """
    folder = Path(folder)
    keys = trusted_keys(trusted)
    data = read_manifest(folder / MANIFEST)
    signed_by = check_signature(folder, data, keys) if keys else None
    manifest = parse_manifest(data, folder / MANIFEST)
    listed = manifest["files"]
    check_names(folder, listed)
    check_manifest(manifest, folder / MANIFEST)
    try:
        package = Package(folder, manifest, signed_by)
        _ = package.signature, Outputs.from_manifest(manifest), Form.from_manifest(manifest)
        absent = [name for name in _needed(manifest) if name not in listed]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PackageError(f"{folder / MANIFEST}: it says what cannot be: {_cause(error)}") from None
    if absent:
        raise PackageError(f"{folder / MANIFEST}: {absent[0]} is not among its files")
    check_files(folder, listed)
    return package


def _needed(manifest: Mapping[str, Any]) -> list[Any]:
    """Give the files that a manifest speaks of."""
    history, compiled = manifest.get("history"), manifest.get("compiled")
    named = [manifest["estimator"].get("file"), SAMPLE]
    return named + ([history["file"]] if history else []) + (list(compiled.get("files", ())) if compiled else [])


def first_difference(found: Any, expected: Any, tolerance: float = TOLERANCE) -> int | None:
    """Give the first row whose prediction is not the expected one; None where all are, within a tolerance.

    >>> first_difference([0.5, 0.25], [0.5, 0.3]), first_difference([[0.5, 0.5]], [[0.5, 0.5]])
    (1, None)
    """
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if found.shape != expected.shape:
        return 0
    wrong = ~np.isclose(found, expected, rtol=tolerance, atol=least(tolerance, expected))
    rows = np.flatnonzero(wrong.reshape(len(wrong), -1).any(axis=1))
    return int(rows[0]) if len(rows) else None


def folder_digest(folder: Path) -> str:
    """Give a folder's digest as the artifact store names it: of its files' relative names and contents."""
    from trilho_runtime.model.manifest import digest_of

    files = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    text = json.dumps(
        {name: digest_of(path) for name, path in files.items()},
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )
    return hashlib.sha256(text.encode()).hexdigest()


def check_digest(folder: Path, digest: str) -> None:
    """Raise PackageError when a package is not the one that a digest names."""
    try:
        found = folder_digest(folder)
    except OSError as error:
        raise PackageError(f"{folder}: {error.strerror or error}") from None
    if found != digest:
        here, wanted, where = apart(found, digest)
        raise PackageError(
            f"{folder}: its digest is {here}, {wanted} is wanted{where}: it is another package, or was changed"
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


def _unused(rows: Any) -> Any:
    return rows


def _cause(error: BaseException) -> str:
    return str(error) if isinstance(error, StepError) else f"{type(error).__name__}: {error}"


class _Module(types.ModuleType):
    """The module as the function that users know by its name."""

    def __call__(self, model: Any, sample: Any, **options: Any) -> Path:
        from trilho_runtime.model.packing import package

        return package(model, sample, **options)


sys.modules[__name__].__class__ = _Module

if __name__ == "__main__":
    from trilho_runtime.model.verify import main

    sys.exit(main())
