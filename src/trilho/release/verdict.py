"""A verdict that was reached before on the same rows by the same rules stands; nothing is read again to reach it."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trilho.core.digest import digest_file, digest_json
from trilho.core.files import write_whole
from trilho.core.records import Verdict

if TYPE_CHECKING:
    from trilho.config import Gate
    from trilho.release.gate import Task

SCHEMA = 1
RULES = ("gate.py", "compare.py")  # where another text may mean another verdict


def verdict_of(
    challenger: Path, champion: Path | None, gate: Gate, task: Task, candidates: int, home: Path
) -> tuple[Verdict, dict[str, Any]]:
    """Judge predictions, given as the store's files, and keep what was found; see `gate.judge`."""
    kept = home / "cache" / f"verdict-{_name(challenger, champion, gate, task, candidates)}.json"
    try:
        known = json.loads(kept.read_text(encoding="utf-8"))
        return known["verdict"], dict(known["evidence"])
    except (OSError, ValueError, KeyError, TypeError):
        verdict, evidence = _judge(challenger, champion, gate, task, candidates)
    with suppress(OSError):  # then it is judged again
        write_whole(kept, json.dumps({"schema": SCHEMA, "verdict": verdict, "evidence": evidence}))
    return verdict, evidence


def _judge(
    challenger: Path, champion: Path | None, gate: Gate, task: Task, candidates: int
) -> tuple[Verdict, dict[str, Any]]:
    from trilho.release.gate import Predictions, judge  # here: it needs numpy, and what is known needs nothing

    other = Predictions.read(champion) if champion is not None else None
    return judge(Predictions.read(challenger), other, gate, task, candidates)


def _name(challenger: Path, champion: Path | None, gate: Gate, task: Task, candidates: int) -> str:
    rules = [digest_file(Path(__file__).with_name(name)) for name in RULES]
    tables = [challenger.name, champion.name if champion is not None else None]  # the store names files by content
    return digest_json([SCHEMA, rules, tables, gate.model_dump(mode="json"), task, candidates])[:32]
