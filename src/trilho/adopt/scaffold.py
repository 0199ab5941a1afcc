"""A new project in the standard, with a first model and a little made-up data, so that `trilho train` works at once."""

from __future__ import annotations

import csv
import io
import keyword
import math
import os
import random
import re
import subprocess
import sys
import unicodedata
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from pathlib import Path

from trilho.adopt.standard import pins
from trilho.adopt.standard.base import BASE, base_text
from trilho.adopt.standard.render import Task, Values, render, render_folder
from trilho.adopt.standard.tree import require_free, write_tree
from trilho.errors import UsageError

NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
TAKEN = frozenset(sys.stdlib_module_names) | {"trilho", "trilho_runtime", "src", "tests", "tools", "wheels"}
"""Names that a package of ours would hide, or be hidden by."""
HOURS = 24 * 150
SECONDS = 30
FITTED: dict[Task, tuple[str, str]] = {
    "regression": ("Regressor", "np.all(np.isfinite(model.predict(build(rows))))"),
    "classification": ("Classifier", "np.all(model.predict_proba(build(rows)) >= 0)"),
}
STORY = (
    (
        "The model",
        "It is the standard's first one: made-up hours of bike rides, so that everything runs from the first minute.\n"
        "Put your own data into `data/`, let `trilho data contract --force` write what it must satisfy, and write\n"
        "`features.py` and `train.py` for it. Then tell here what the model is for, who decides with its answers,\n"
        "what its data is and leaves out, and how it was judged.",
    ),
)


def write_project(folder: Path, name: str, task: Task, python: str = "") -> list[Path]:
    """Write a project into a new or empty folder and give its files. Raises UsageError."""
    package = package_of(name)
    require_free(folder)
    target = "rides" if task == "regression" else "late"
    estimator, check = FITTED[task]
    values = Values(name=name, package=package, task=task, python=python_version(python), story=STORY)
    given = {"target": target, "estimator": estimator, "check": check, "python": _python_line(python)}
    first = render_folder("first", values, given)
    first["data/baseline.csv"] = _table(target, task)
    return write_tree(folder, standard_files(values) | first)


def standard_files(values: Values) -> dict[str, str]:
    """Give the standard's files and the base that `trilho upgrade` compares with."""
    files = render(values)
    return {**files, BASE: base_text(values, files)}


def package_of(name: str, taken: Collection[str] = ()) -> str:
    """Give the package of a model's name; `taken` are modules that are there too. Raises UsageError."""
    package = name.replace("-", "_")
    if not NAME.fullmatch(name) or keyword.iskeyword(package):
        raise UsageError(
            f"the name is {name!r}; allowed: small letters, digits and hyphens, a letter first, no word of Python's",
            hint=f"trilho init {nearest_name(name)}",
        )
    if package in TAKEN or package in taken:
        raise UsageError(
            f"the name is {name!r}, and there is a module {package} already, which the project's would hide",
            hint=f"name it {nearest_name(name, {package})}",
        )
    return package


def runtime_requirement() -> str:
    """Give what pip is asked for to get trilho-runtime: by name, or from the folder that it was installed from here."""
    return pins.requirement("trilho-runtime")


def python_version(python: str = "") -> str:
    """Give an interpreter's version as "3.12", or this one's."""
    if python:
        ask = "import sys; print('%d.%d' % sys.version_info[:2])"
        try:
            done = subprocess.run([python, "-c", ask], capture_output=True, text=True, timeout=SECONDS, check=True)
            return done.stdout.strip()
        except (OSError, subprocess.SubprocessError):
            pass  # it may be made later: the project says where, and training says that it is not there
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def nearest_name(name: str, taken: Collection[str] = ()) -> str:
    """Make a model's name of any text, one that no module has.

    >>> nearest_name("Late Trains!"), nearest_name("class"), nearest_name("Previsão"), nearest_name("numbers")
    ('late-trains', 'my-model', 'previsao', 'numbers-model')
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    text = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-").lstrip("0123456789-")[:56].rstrip("-")
    if not text or keyword.iskeyword(text):
        return "my-model"
    package = text.replace("-", "_")
    return f"{text}-model" if package in TAKEN or package in taken else text


def _python_line(python: str) -> str:
    return f'python = "{os.path.abspath(Path(python).expanduser())}"\n' if python else ""  # noqa: PTH100  no link followed


def _table(target: str, task: Task) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "time", "temp_c", "rain_mm", "place", target])
    writer.writerows(_rows(task))
    return out.getvalue()


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
