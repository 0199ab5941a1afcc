"""A fitted model as array code: what serving runs instead of pandas and scikit-learn.

`compile.compile_model` writes it at packaging, where the model's libraries are; `load` reads it back where they are
not. Each stage that cannot be said in array code calls the original object instead, and says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trilho_runtime.compiled.plan import Compiled

BIT_EQUAL = "bit-equal"
CLOSE = "1e-12"
SINGLE = "2e-06"  # a few of single precision's own steps
USUAL = "1e-09"  # of whole answers: what stages within their bounds may add up to


class NotCompiled(Exception):
    """A fitted object has no array code; its text says why, in words for `GET /`."""


def load(folder: Path, spec: Mapping[str, Any], *, original: Callable[[], Any]) -> Compiled:
    """Read a compiled model out of a package's folder; `spec` is the manifest's "compiled".

    `original` gives the whole fitted model and is called only by a stage that fell back, so that a fully compiled
    model loads without the libraries that fitted it.
    """
    from trilho_runtime.compiled.plan import load_compiled

    return load_compiled(folder, spec, original=original)
