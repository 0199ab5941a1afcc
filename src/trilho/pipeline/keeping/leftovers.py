"""What past runs left in a home beside artifacts: their folders, and the manifests of the tasks that they did."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from trilho.pipeline.keeping.runs import RunFolder


def finished_tasks(home: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Give the manifests of finished tasks, each with its `run` and its `outputs`."""
    for path in sorted((home / "cache").glob("*.json")):
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(found, dict) and "run" in found and "outputs" in found:
            yield path, found


def useless_tasks(home: Path, runs: Collection[str], there: Callable[[str], bool], before: float) -> list[Path]:
    """Give the manifests that nothing can use: an output is not there, or it has none and its run is none of `runs`.

    A run under way may just have written one without outputs: only those from `before` that moment count.
    """
    return [
        path
        for path, task in finished_tasks(home)
        if not all(there(str(digest)) for digest in task["outputs"].values())
        or (not task["outputs"] and task["run"] not in runs and path.stat().st_mtime <= before)
    ]


def old_folders(home: Path, runs: Collection[str], before: float) -> list[Path]:
    """Give the folders of runs that are none of `runs`, that no process holds, and that nothing was added to since."""
    folders = sorted(path for path in (home / "runs").glob("*") if path.is_dir())
    return [
        path
        for path in folders
        if path.name not in runs and path.stat().st_mtime <= before and not RunFolder(path).is_held()
    ]


def held_since(home: Path) -> float | None:
    """Give when the oldest run that is under way began, in seconds since 1970; None where there is none."""
    leases = [path for path in (home / "runs").glob("*/lease") if RunFolder(path.parent).is_held()]
    return min((path.stat().st_mtime for path in leases), default=None)
