"""What a rollback changes of tables of scores: what they serve, and no row of theirs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from trilho.core.files import write_whole
from trilho.core.projection import ModelState
from trilho.errors import TrilhoError
from trilho.project import Project
from trilho.scoring.places import BIGQUERY, open_table
from trilho.serve.batch.table import ScoreTable, shares_after_rollback
from trilho.serve.endpoint import read_json

Say = Callable[[str], None]


def repoint(
    project: Project, bad: int, good: int, say: Say = lambda _line: None
) -> tuple[list[tuple[str, int]], list[tuple[str, list[str]]]]:
    """After a rollback, serve the good version's rows again wherever there are some.

    Gives the tables that changed with how many dates, and those with dates that nobody but the bad version scored.
    A table that cannot be reached now is told, and repointed when it is next scored into.
    """
    changed, lacking = [], []
    for place, environment in tables(project).items():
        try:
            table = open_table(project, place, environment, say)
        except TrilhoError as error:
            say(f"{place} is not changed yet, the next `trilho score` into it does that: {error.fact}")
            continue
        try:
            back, missing = shares_after_rollback(table.dates, bad, good)
            if back:
                table.serve(back)
                changed.append((place, len(back)))
            if missing:
                lacking.append((place, missing))
        finally:
            table.close()
    return changed, lacking


def repoint_all(project: Project, say: Say = lambda _line: None) -> Iterator[str]:
    """Repoint all tables of scores after a rollback, and say so in plain lines."""
    state = project.state()
    for bad in sorted(rolled_back(state)) if state.champion is not None and tables(project) else ():
        changed, lacking = repoint(project, bad, int(state.champion or 0), say)
        for place, count in changed:
            yield f"{place}: {count} dates are served from version {state.champion} again, instead of version {bad}."
        for place, dates in lacking:
            command = f"trilho score --from TABLE --to {shlex.quote(place)} --since {dates[0]} --until {dates[-1]}"
            yield f"{place}: nobody but version {bad} scored {_listed(dates)}. To score them: {command}"


def rolled_back(state: ModelState) -> set[int]:
    """Give the versions that were taken from their users again and do not serve now.

    >>> rolled_back(ModelState("m", champion=2, champions=[("t1", 1), ("t2", 2), ("t3", 3), ("t4", 2)]))
    {3}
    """
    ended = {one.version for one in state.rollouts.values() if one.outcome in ("rolled back", "aborted")}
    return (ended | {version for _, version in state.champions}) - {*state.succession, *state.shares}


def leave_rolled_back(project: Project, table: ScoreTable, say: Say) -> None:
    """Serve no date from a version that was rolled back since, by whom or what it was, where another one scored it."""
    state = project.state()
    if state.champion is None:
        return
    for bad in sorted(rolled_back(state)):
        back, missing = shares_after_rollback(table.dates, bad, state.champion)
        if back:
            table.serve(back)
            say(f"Version {bad} was rolled back: {len(back)} dates are served from version {state.champion} again.")
        if missing:
            say(f"Version {bad} was rolled back, and nobody else scored {_listed(missing)}: score them again.")


def _listed(dates: Sequence[str]) -> str:
    return ", ".join(dates[:3]) + (f" and {len(dates) - 3} more dates" if len(dates) > 3 else "")


def tables(project: Project) -> dict[str, str | None]:
    """Give the tables of scores that this machine has written for a project, and that are still there, each with the
    environment that it is reached with."""
    known = (read_json(_register(project)) or {}).get("tables", [])
    found = {str(one["to"]): one["environment"] for one in known if isinstance(one, dict)}
    return {to: name for to, name in found.items() if to.startswith(BIGQUERY) or Path(to).is_dir()}


def _register(project: Project) -> Path:
    return project.home / "scores" / f"{project.name}.json"


def remember(project: Project, to: str, environment: str | None) -> None:
    """Keep which tables were written, for the rollback that may come."""
    known = {**tables(project), to: environment}
    listed = [{"to": to, "environment": name} for to, name in known.items()]
    write_whole(_register(project), json.dumps({"schema": 1, "tables": listed}))
