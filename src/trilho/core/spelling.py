"""What somebody meant who wrote a name that is not there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def near(given: str, allowed: Iterable[str]) -> str:
    """Say which name was probably meant, or else what there is; a hint for an error.

    >>> near("lod", ["load", "fit"]), near("x", ["load", "fit"]), near("x", [])
    ("did you mean 'load'?", 'there are: fit, load', 'there are: none')
    """
    names = sorted(allowed)
    close = difflib.get_close_matches(given, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names) or 'none'}"
