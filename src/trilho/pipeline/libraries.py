"""What an interpreter has installed, as one digest: asked of it once, until its folders change."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from trilho.core.files import write_whole
from trilho.errors import ConfigError
from trilho_runtime.steps.digest import digest_json
from trilho_runtime.steps.fingerprint import SCHEMA

ASK = (
    "import json,sys,site,trilho_runtime.describe as d;"
    "print(json.dumps([[d.libraries(),d.local_builds()],[p for p in sys.path if p]]))"
)


def libraries_of(python: Path, home: Path) -> str:
    """Give the digest of what an interpreter has installed, asked of it only when its folders have changed."""
    kept = home / "cache" / f"python-{digest_json(str(python))[:16]}.json"
    try:
        known = json.loads(kept.read_text(encoding="utf-8"))
        if known["schema"] == SCHEMA and known["folders"] == _modified(known["folders"]):
            return str(known["libraries"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    found, folders = _ask(python)
    known = {"schema": SCHEMA, "libraries": digest_json(found), "folders": _modified(folders), "found": found}
    write_whole(kept, json.dumps(known))
    return str(known["libraries"])


def _modified(folders: Iterable[str]) -> dict[str, int]:
    return {folder: os.stat(folder).st_mtime_ns for folder in folders if os.path.isdir(folder)}  # noqa: PTH112, PTH116


def _ask(python: Path) -> tuple[list[dict[str, str]], list[str]]:
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    try:
        done = subprocess.run(
            [str(python), "-c", ASK], capture_output=True, text=True, timeout=120, check=True, env=environment
        )
    except (OSError, subprocess.SubprocessError) as error:
        told = getattr(error, "stderr", None) or str(error)
        raise ConfigError(
            f"{python} cannot run trilho-runtime: {told.strip().splitlines()[-1]}",
            hint=f"{python} -m pip install trilho-runtime, or set python in trilho.toml",
        ) from None
    found, folders = json.loads(done.stdout)
    return found, folders
