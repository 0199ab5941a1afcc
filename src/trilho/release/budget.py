"""What a package may cost its users: megabytes, and requests that were fine before.

Both are read off the packages, so that they are looked at each time a version is judged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trilho.core.checks import Check
from trilho.errors import PackageError

SHOWN = 5


def size_check(package: Path, limit: int) -> Check:
    """Hold the size of a package's files against `gate.size`."""
    files = [package] if package.is_file() else [path for path in package.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    note = f"{megabytes(size)} in {len(files)} files, allowed: up to {megabytes(limit)}"
    return Check("size", "pass" if size <= limit else "fail", note, figures={"bytes": size, "limit": limit})


def callers_check(package: Path, champion: Path, *, answered: bool) -> Check:
    """Hold a package against what the champion's callers send and read; nobody breaks where nobody was answered.

    A field that is new and may not be null, one of another type, and one that may no longer be null refuse requests
    that are fine today; another task, or other classes, change what every caller reads.
    """
    from trilho_runtime.schema.signature import Signature

    ours, theirs = _manifest(package), _manifest(champion)
    found = _answers(ours, theirs)
    found += Signature.from_json(ours["signature"]).breaks(Signature.from_json(theirs["signature"]))
    told = "; ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
    if not found:
        return Check("callers", "pass", "what callers send and read today stays as it is")
    figures = {"breaks": found}
    if not answered:
        return Check("callers", "pass", f"{told}; nobody was answered yet, so that no caller breaks", figures=figures)
    return Check("callers", "fail", f"the champion's callers would break: {told}", figures=figures)


def _answers(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    from trilho_runtime.model.outputs import Outputs

    new, old = Outputs.from_manifest(ours), Outputs.from_manifest(theirs)
    if new.task != old.task:
        return [f"the task was {old.task} and is {new.task}"]
    if new.kind != old.kind:
        return [f"answers were of kind {old.kind} and are of kind {new.kind}"]
    if new.classes != old.classes:
        return [f"classes were {_listed(old.classes)} and are {_listed(new.classes)}"]
    return []


def _listed(classes: tuple[Any, ...]) -> str:
    more = f" and {len(classes) - SHOWN} more" if len(classes) > SHOWN else ""
    return ", ".join(map(str, classes[:SHOWN])) + more


def _manifest(package: Path) -> dict[str, Any]:
    try:
        found = json.loads((package / "manifest.json").read_text(encoding="utf-8"))
        return {"signature": found["signature"], "task": found["task"], **found}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PackageError(
            f"{package} is no model package: its manifest.json cannot be read ({type(error).__name__})",
            hint="trilho train packages the model again",
        ) from None


def megabytes(size: int) -> str:
    """Give a size in powers of ten.

    >>> megabytes(1_500_000), megabytes(900)
    ('1.5 MB', '0.9 kB')
    """
    return f"{size / 1e6:.3g} MB" if size >= 1e6 else f"{size / 1e3:.3g} kB"
