"""Notebooks of a few cells, for the doctor's tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trilho.adopt.doctor import examine_notebook
from trilho.adopt.notebook import Notebook, read_notebook
from trilho.adopt.plan import Finding

HEAD = """import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, roc_auc_score, precision_recall_curve
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelEncoder, OneHotEncoder, StandardScaler
df = pd.read_csv("data.csv")"""
SPLIT = """X = df[["a", "b"]]
y = df["y"]
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=1)"""
FIT = """model = LogisticRegression().fit(X_train, y_train)
p = model.predict_proba(X_test)[:, 1]
print(roc_auc_score(y_test, p))"""
QUIET = {"unpinned-import", "unused-import", "tests-missing"}
"""What a notebook of a few cells has anyway."""


def write(folder: Path, *cells: str, outputs: Mapping[int, Sequence[Any]] | None = None, name: str = "poc") -> Path:
    """Write a notebook of code cells; a cell that begins with "## " is prose."""
    made: list[dict[str, Any]] = []
    for at, source in enumerate(cells):
        lines = source.splitlines(keepends=True)
        if source.startswith("## "):
            made.append({"cell_type": "markdown", "metadata": {}, "source": lines})
        else:
            shown = [
                {"output_type": "stream", "name": "stdout", "text": one} if isinstance(one, str) else one
                for one in (outputs or {}).get(at, [])
            ]
            made.append(
                {"cell_type": "code", "execution_count": at + 1, "metadata": {}, "outputs": shown, "source": lines}
            )
    path = folder / f"{name}.ipynb"
    data = {"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return path


def notebook(folder: Path, *cells: str, **more: Any) -> Notebook:
    """Write and read a notebook."""
    return read_notebook(write(folder, *cells, **more))


def examined(folder: Path, *cells: str, **more: Any) -> list[Finding]:
    """Give what is found in a notebook, without what every notebook of a few cells has."""
    return [one for one in examine_notebook(notebook(folder, *cells, **more)) if one.rule not in QUIET]


def places(findings: Sequence[Finding]) -> list[tuple[str, int | None, int | None]]:
    """Give rule, cell and line of each finding."""
    return [(one.rule, one.cell, one.line) for one in findings]
