"""What the case files write packages with; `test_cases.py` gives it to pytest as a plugin in their interpreter."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trilho_runtime.model import packing
from trilho_runtime.model.proof import prove
from trilho_runtime.package import Package, open_package

Write = Callable[..., Package]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a package and open it; the proof runs here, so that it takes no process of its own."""
    monkeypatch.setattr(packing, "prove_apart", lambda folder, own: prove(open_package(folder, ())))

    def make(model: Any, sample: Any, **options: Any) -> Package:
        out = tmp_path / options.pop("out", "made")
        return open_package(packing.package(model, sample, out=out, **{"name": "tried", **options}))

    return make
