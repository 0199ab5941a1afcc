"""A training's compiled pipeline, kept until something that it is made of changes: to write it anew takes longer than
all else of a training of which nothing has changed."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from trilho.config import Settings
from trilho.core.digest import digest_file, digest_json
from trilho.core.files import write_whole
from trilho.data.contract import Contract
from trilho.pipeline.libraries import libraries_of
from trilho_runtime.steps.fingerprint import code_digest, runtime_digest
from trilho_runtime.steps.watch import state

SCHEMA = 2
PIPELINE = "train"
WINDOW = ("fit-window", "predict-window")  # tasks that are those of "all" again while the window is all of it
COMPARISON = ("score", "pair")  # tasks that only a champion brings about
OURS = Path(__file__).parents[1]
WRITERS = ("train", "pipeline")  # the packages that a compiled pipeline is the work of


def compile_training(
    settings: Settings, contract: Contract, source: Path, python: Path, home: Path, image: str | None = None
) -> dict[str, Any]:
    """Compile the pipeline that a training runs. Raises ConfigError or GraphError for one that cannot train."""
    image = image or f"trilho.local/{settings.model.name}"
    kept = home / "cache" / f"plan-{_name(settings, contract, source, python, home, image)}.json"
    found = _kept(kept)
    if found is None:
        from trilho.train.pipeline import write_training  # here: what is kept needs none of it

        found, read = write_training(settings, contract, source, python, home, image)
        with suppress(OSError):  # then it is compiled again
            write_whole(kept, json.dumps({"document": found, "read": read}))
    return found


def _kept(place: Path) -> dict[str, Any] | None:
    """Give what was compiled, unless a file or variable that the project's code read then is another now."""
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
        fresh = not found["read"] or state(found["read"]) == found["read"]
        return dict(found["document"]) if fresh else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _name(settings: Settings, contract: Contract, source: Path, python: Path, home: Path, image: str) -> str:
    files = sorted(file for package in WRITERS for file in (OURS / package).rglob("*.py"))
    ours = [runtime_digest(), [digest_file(file) for file in files]]
    theirs = [code_digest(source, ["*"]), libraries_of(python, home) if settings.pipeline.define else ""]
    asked = [settings.model_dump(mode="json"), contract.model_dump(mode="json"), image]
    return digest_json([SCHEMA, ours, theirs, asked])[:32]
