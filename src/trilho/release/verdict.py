"""A verdict that was reached before on the same rows by the same rules stands; nothing is read again to reach it."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trilho.core.checks import Check, compose
from trilho.core.digest import digest_file, digest_json
from trilho.core.files import write_whole
from trilho.core.records import Verdict

if TYPE_CHECKING:
    from trilho.config import Gate
    from trilho.release.gate import Task

SCHEMA = 1
RULES = ("gate.py", "compare.py", "slices.py", "calibration.py")  # where another text may mean another verdict


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """What is looked at besides predictions: the package itself, and the champion's, whose callers read its answers."""

    package: Path
    champion: Path | None = None
    answered: bool = True
    """Whether anybody was ever answered by the model."""
    holdout: Path | None = None
    """The held-out rows as a table, by whose columns they are sliced."""


def verdict_of(
    challenger: Path,
    champion: Path | None,
    gate: Gate,
    task: Task,
    candidates: int,
    home: Path,
    shipped: Shipped | None = None,
) -> tuple[Verdict, dict[str, Any]]:
    """Judge predictions, given as the store's files, and keep what was found; see `gate.judge`.

    What the package weighs, and whether the champion's callers can live with it, is looked at each time.
    """
    holdout = shipped.holdout if shipped is not None and gate.slices else None
    kept = home / "cache" / f"verdict-{_name(challenger, champion, gate, task, candidates, holdout)}.json"
    try:
        known = json.loads(kept.read_text(encoding="utf-8"))
        verdict, evidence = known["verdict"], dict(known["evidence"])
    except (OSError, ValueError, KeyError, TypeError):
        verdict, evidence = _judge(challenger, champion, gate, task, candidates, holdout)
        with suppress(OSError):  # then it is judged again
            write_whole(kept, json.dumps({"schema": SCHEMA, "verdict": verdict, "evidence": evidence}))
    return compose(verdict, evidence, _guards(gate, champion, shipped)) if shipped is not None else (verdict, evidence)


def _judge(
    challenger: Path, champion: Path | None, gate: Gate, task: Task, candidates: int, holdout: Path | None = None
) -> tuple[Verdict, dict[str, Any]]:
    from trilho.release.gate import Predictions, judge  # here: it needs numpy, and what is known needs nothing
    from trilho.release.slices import read_labels

    ours, other = Predictions.read(challenger), Predictions.read(champion) if champion is not None else None
    labels = read_labels(holdout, gate.slices, ours.row) if holdout is not None and other is not None else ()
    return judge(ours, other, gate, task, candidates, labels)


def _guards(gate: Gate, champion: Path | None, shipped: Shipped) -> list[Check]:
    from trilho.release.budget import callers_check, size_check

    checks = []
    if gate.slices and champion is not None and shipped.holdout is None:
        lost = "the run left no table split.holdout, by whose columns gate.slices cuts the rows"
        checks.append(Check("no worse by slice", "not enough data", lost))
    if gate.size is not None:
        checks.append(size_check(shipped.package, gate.size))
    if shipped.champion is not None:
        checks.append(callers_check(shipped.package, shipped.champion, answered=shipped.answered))
    return checks


def _name(
    challenger: Path, champion: Path | None, gate: Gate, task: Task, candidates: int, holdout: Path | None
) -> str:
    rules = [digest_file(Path(__file__).with_name(name)) for name in RULES]
    # the store names files by content
    tables = [challenger.name, *(table.name if table is not None else None for table in (champion, holdout))]
    return digest_json([SCHEMA, rules, tables, gate.model_dump(mode="json"), task, candidates])[:32]
