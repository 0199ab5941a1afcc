"""A new project: a few files from templates, and a little data, so that `trilho train` works at once.

Templates are files with `$name` in them; what a project needs no longer looks like ours the moment it is written.
"""

from __future__ import annotations

import csv
import importlib.metadata
import json
import keyword
import math
import os
import random
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from string import Template
from typing import Literal

from trilho.errors import UsageError

Task = Literal["classification", "regression"]
TEMPLATES = Path(__file__).parent / "templates" / "project"
NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
HOURS = 24 * 150
FITTED: dict[Task, tuple[str, str]] = {
    "regression": ("Regressor", "np.all(np.isfinite(model.predict(build(rows))))"),
    "classification": ("Classifier", "np.all((model.predict_proba(build(rows)) >= 0))"),
}


def write_project(folder: Path, name: str, task: Task, python: str = "") -> list[Path]:
    """Write a project into a new or empty folder and give its files. Raises UsageError."""
    package = name.replace("-", "_")
    if not NAME.fullmatch(name) or keyword.iskeyword(package):
        raise UsageError(
            f"the name is {name!r}; allowed: small letters, digits and hyphens, a letter first, no word of Python's",
            hint=f"trilho init {_nearest(name)}",
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already, and not empty", hint="name another folder")
    target = "rides" if task == "regression" else "late"
    estimator, check = FITTED[task]
    values = {"name": name, "package": package, "task": task, "target": target, "estimator": estimator,
              "check": check, "python": _python_line(python), "runtime": runtime_requirement()}  # fmt: skip
    files = []
    for template in sorted(path for path in TEMPLATES.rglob("*") if path.is_file()):
        relative = template.relative_to(TEMPLATES).as_posix().removesuffix(".txt").replace("PACKAGE", package)
        files.append(folder / relative)
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        files[-1].write_text(Template(template.read_text(encoding="utf-8")).substitute(values), encoding="utf-8")
    files.append(folder / "data" / "baseline.csv")
    _write_rows(files[-1], target, task)
    return files


def runtime_requirement() -> str:
    """Give what pip is asked for to get trilho-runtime: by name, or from the folder that it was installed from here."""
    try:
        told = importlib.metadata.distribution("trilho-runtime").read_text("direct_url.json")
        url = json.loads(told)["url"] if told else None
    except (importlib.metadata.PackageNotFoundError, ValueError, KeyError):
        url = None
    return f"trilho-runtime @ {url}" if url else "trilho-runtime"


def _python_line(python: str) -> str:
    return f'python = "{os.path.abspath(Path(python).expanduser())}"\n' if python else ""  # noqa: PTH100  no link followed


def _nearest(name: str) -> str:
    text = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-").lstrip("0123456789-")
    return text[:63] if text and not keyword.iskeyword(text) else "my-model"


def _write_rows(path: Path, target: str, task: Task) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["id", "time", "temp_c", "rain_mm", "place", target])
        writer.writerows(_rows(task))


def _rows(task: Task) -> Iterator[tuple[object, ...]]:
    """Make hours of made-up bike rides, or of late ones: warm, dry rush hours are busy."""
    rng = random.Random(7)
    start = datetime(2025, 1, 1)
    for hour in range(HOURS):
        time = start + timedelta(hours=hour)
        temp = 12 + 9 * math.sin(2 * math.pi * (hour / 24 / 150 - 0.25)) + 4 * math.sin(math.pi * time.hour / 12)
        temp += rng.gauss(0, 2)
        rain = round(max(0.0, rng.gauss(-1.5, 2)), 1)
        place = rng.choice(["harbour", "market", "park"])
        busy = 20 + 2.5 * temp + (40 if time.hour in (7, 8, 17, 18) and time.weekday() < 5 else 0) - 6 * rain
        busy += {"harbour": 0, "market": 15, "park": 5}[place]
        truth: float = max(0, round(busy + rng.gauss(0, 8)))
        if task == "classification":
            truth = int(rng.random() < 1 / (1 + math.exp(-(busy - 70) / 12)))
        yield f"h{hour:05d}", time.isoformat(), round(temp, 1), rain, place, truth
