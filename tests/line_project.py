"""A small project whose truth is a line, written where a test wants it: a row every six hours, y = slope * x + 1."""

from __future__ import annotations

from pathlib import Path

import duckdb

TOML = """
[model]
name = "line"
task = "regression"
target = "y"
time = "ts"
key = "id"
[data]
source = "data.csv"
[steps]
features = "line.features:build"
train = "line.train:fit"
"""
FEATURES = "def build(frame):\n    return frame[['x']]\n"
TRAIN = """
from sklearn.linear_model import LinearRegression

def fit(X, y):
    return LinearRegression().fit(X, y)
"""


def rows(first: int, count: int, slope: float) -> str:
    """Give the query of some of its rows."""
    return (
        f"SELECT 'r' || i AS id, TIMESTAMP '2020-01-01' + INTERVAL (i * 6) HOUR AS ts, (i % 17)::DOUBLE AS x, "
        f"{slope} * (i % 17) + 1.0 AS y FROM range({first}, {first + count}) t(i)"
    )


def write_rows(folder: Path, query: str) -> None:
    """Write its data file anew."""
    duckdb.sql(f"COPY ({query}) TO '{folder / 'data.csv'}' (HEADER)")


def write_project(folder: Path, settings: str, query: str, *, features: str = FEATURES, train: str = TRAIN) -> Path:
    """Write the project; `settings` are what its trilho.toml holds after the sections that it always has."""
    package = folder / "src" / "line"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "features.py").write_text(features)
    (package / "train.py").write_text(train)
    (folder / "trilho.toml").write_text(TOML + settings)
    write_rows(folder, query)
    return folder
