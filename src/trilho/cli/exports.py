"""`trilho models export`: a version's package, copied, as an ONNX file, or as a model of MLflow."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trilho.errors import ConfigError, PackageError, Refused, TrilhoError, UsageError

if TYPE_CHECKING:
    from trilho.cli.session import Session

ONNX = "trilho_runtime.formats.onnx_export"
DIFFERS = 3  # the exit code of a conversion whose answers are not the package's


def export_package(here: Session, version: int, way: str, out: Path, python: Path | None) -> None:
    """Write a version's package in one of the ways, and say what was written."""
    package = here.project.package(version)
    digest = here.project.state().versions[version].package
    if python is not None and way != "onnx":
        raise UsageError(f"--python is for --onnx, and --{way} converts nothing", hint="leave --python out")
    told = {"onnx": _onnx, "mlflow": _mlflow, "to": _copy}[way](here, package, version, out, python)
    here.done(told.pop("next"), version=version, digest=digest, **told)


def _copy(here: Session, package: Path, version: int, out: Path, _: Path | None) -> dict[str, Any]:
    _whole(out, lambda to: shutil.copytree(package, to), package)
    here.say(f"Version {version} is in {out}: {_size(out)}, its digests checked.")
    return {"next": f"trilho serve {out}", "package": str(out)}


def _mlflow(here: Session, package: Path, version: int, out: Path, _: Path | None) -> dict[str, Any]:
    from trilho_runtime.mlflow_flavor import write_model

    def write(to: Path) -> None:
        to.mkdir()
        write_model(package, to, {"trilho_version": version})

    _whole(out, write, package)
    here.say(f"Version {version} is in {out}, a model of MLflow: {_size(out)}, its digests checked.")
    here.say(f"Opened with mlflow.pyfunc.load_model({str(out)!r}), where mlflow and trilho-runtime are installed.")
    return {"next": "trilho models", "mlflow": str(out)}


def _onnx(here: Session, package: Path, version: int, out: Path, python: Path | None) -> dict[str, Any]:
    told = _converted(python or here.project.python, package, out.expanduser().absolute())
    parity = told["parity"]
    asked = f"{parity['sample_rows']} stored, {parity['edge_rows']} at the edges, {parity['threshold_rows']} at"
    here.say(
        f"Version {version} is in {told['model']}: {told['size_bytes'] / 1e6:.1f} MB, told in {told['about']}.",
        f"{parity['rows']} rows ({asked} thresholds) are answered as by the package, "
        f"the largest difference {parity['largest_difference']:.1e}, {parity['largest_share']:.1e} of the answer.",
        *told["notes"],
    )
    return {"next": f"trilho models show {version}", "onnx": told["model"], "about": told["about"], "parity": parity}


def _converted(python: Path, package: Path, out: Path) -> dict[str, Any]:
    """Convert in the interpreter that has the model's libraries. Raises Refused where the answers differ."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [str(python), "-m", ONNX, str(package), str(out)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    except OSError as error:
        raise ConfigError(f"{python} does not run: {error.strerror}", hint="--python PATH of an interpreter") from None
    lines = done.stderr.strip().splitlines()
    if done.returncode == 0:
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return told
    hints = [place for place, line in enumerate(lines) if line.startswith("Hint: ") and place]
    if not hints:
        last = lines[-1] if lines else f"it ended with exit code {done.returncode}"
        raise TrilhoError(f"{python} cannot convert it: {last}", hint=f"{python} -m pip install trilho-runtime")
    kind = Refused if done.returncode == DIFFERS else PackageError
    raise kind(lines[hints[-1] - 1], hint=lines[hints[-1]].removeprefix("Hint: "))


def _whole(out: Path, write: Callable[[Path], object], package: Path) -> None:
    """Write a folder whole or not at all, after its package was checked. Raises UsageError where something is."""
    from trilho_runtime.model.manifest import PackageError as NotAPackage
    from trilho_runtime.package import open_package

    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise UsageError(f"{out} is there already; nothing in it is replaced", hint="name a folder that is not there")
    beside = out.absolute().with_name(f".{out.name}.{os.getpid()}.part")
    try:
        open_package(package)
        beside.parent.mkdir(parents=True, exist_ok=True)
        write(beside)
        if out.exists():
            out.rmdir()
        beside.rename(out)
    except NotAPackage as error:
        raise PackageError(error.fact, hint=error.hint or "trilho train, or take the package from a backup") from None
    except OSError as error:
        raise UsageError(f"{out}: {error.strerror or error}", hint="name a folder that can be written") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _size(folder: Path) -> str:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return f"{len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.1f} MB"
