"""The C libraries of the boosters, called without their Python packages.

Those packages import pandas, scikit-learn and pyarrow by themselves: most of a second and 150 MB that a prediction
does not need. The C interfaces have been the same for years, and a library that has not what is needed is refused.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from trilho_runtime.compiled import NotCompiled

FILES = {
    "xgboost": ("libxgboost.so", "libxgboost.dylib", "xgboost.dll", "cygxgboost.dll"),
    "lightgbm": ("lib_lightgbm.so", "lib_lightgbm.dylib", "lib_lightgbm.dll"),
}
ERROR = {"xgboost": "XGBGetLastError", "lightgbm": "LGBM_GetLastError"}


class BoosterError(ValueError):
    """A booster's library refused a call."""


class Library:
    """A loaded C library. A quick call keeps Python's lock, which for one row costs less than to give it away."""

    def __init__(self, package: str, path: Path) -> None:
        self.package = package
        self._free, self._quick = ctypes.CDLL(str(path)), ctypes.PyDLL(str(path))
        self._error = getattr(self._free, ERROR[package])
        self._error.restype = ctypes.c_char_p

    def find(self, names: Sequence[str], quick: bool = False) -> list[Any]:
        """Give functions by their names. Raises NotCompiled where the library has not all of them."""
        library = self._quick if quick else self._free
        absent = [name for name in names if not hasattr(library, name)]
        if absent:
            raise NotCompiled(f"the C library of {self.package} here has no {', '.join(absent)}: it is too old")
        return [getattr(library, name) for name in names]

    def check(self, code: int) -> None:
        """Raise BoosterError for another return code than 0."""
        if code:
            said = (self._error() or b"").decode(errors="replace").strip().splitlines()
            raise BoosterError(f"{self.package}: {said[0] if said else f'error {code}'}")


@cache
def open_library(package: str) -> Library:
    """Load a booster's C library without importing its package. Raises NotCompiled where it is not found."""
    places = [place for place in _places(package) if place.is_file()]
    if not places:
        raise NotCompiled(f"no C library of {package} is installed here")
    try:
        return Library(package, places[0])
    except (OSError, AttributeError) as error:
        raise NotCompiled(f"the C library of {package} cannot be loaded here: {error}") from None


def _places(package: str) -> Iterator[Path]:
    spec = importlib.util.find_spec(package)
    roots = [Path(root) for root in (spec.submodule_search_locations or ())] if spec is not None else []
    system = Path(sys.base_prefix)
    folders = [root / part for root in roots for part in ("lib", "bin", ".", "../../lib")]
    folders += [system / "lib", system / "bin", system / "Library" / "bin"] if roots else []
    return (folder / name for folder in folders for name in FILES[package])


def import_package(package: str) -> Any:
    """Import a booster's package with all that it imports. Raises NotCompiled where that fails.

    Hiding pandas from it would be faster, but the process would be left with a package that refuses tables.
    """
    try:
        return importlib.import_module(package)
    except Exception as error:  # noqa: BLE001  a package may fail in any way
        raise NotCompiled(f"{package} cannot be imported here: {type(error).__name__}: {error}") from None
