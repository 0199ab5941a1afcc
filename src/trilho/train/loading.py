"""What the project's own `load` makes of its source files: tables, kept until file, code or libraries change."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from trilho.errors import DataError, StepFailed
from trilho.pipeline.libraries import libraries_of
from trilho_runtime.steps.digest import digest_file, digest_json
from trilho_runtime.steps.fingerprint import code_digest

SCHEMA = 1
SECONDS = 3600.0


def load_tables(files: Sequence[Path], load: str, source: Path, python: Path, home: Path) -> list[Path]:
    """Give a Parquet table for each file, in the order of the files.

    A table is named by what made it, so that an unchanged file costs a look at its digest. Raises DataError for a file
    that is not there, StepFailed with what the function said.
    """
    code, libraries = code_digest(source, [load]), libraries_of(python, home)
    return [_load(file, load, [code, libraries], source, python, home) for file in files]


def _load(file: Path, load: str, made_of: list[str], source: Path, python: Path, home: Path) -> Path:
    if not file.is_file():
        raise DataError(f"{file}: no such file", hint="put it there, or change data.source in trilho.toml")
    name = digest_json([SCHEMA, load, digest_file(file), *made_of])[:32]
    out = home / "cache" / "loaded" / name / f"{file.stem}.parquet"
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        draft = out.with_name(f".{os.getpid()}.parquet")
        try:
            _ask(python, source, load, file, draft)
            draft.replace(out)
        finally:
            draft.unlink(missing_ok=True)
    return out


def _ask(python: Path, source: Path, load: str, file: Path, out: Path) -> None:
    command = [str(python), "-m", "trilho_runtime.load", str(source), load, str(file), str(out)]
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, check=False, env=environment, cwd=source.parent
        )
    except subprocess.TimeoutExpired:
        raise StepFailed(f"{load} did not read {file} within an hour", hint="give it a smaller file") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise StepFailed(f"{load} cannot read {file}: {said}", hint=f"correct the function, or the file {file.name}")
