"""What a rollback changes of tables of scores: what they serve, and no row of theirs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date as Date  # noqa: N812
from datetime import timedelta
from pathlib import Path

from trilho.core.files import write_whole
from trilho.core.lease import Lease
from trilho.core.projection import ModelState
from trilho.errors import TrilhoError
from trilho.project import Project
from trilho.scoring.places import BIGQUERY, open_table
from trilho.serve.batch.table import ScoreTable, shares_after_rollback
from trilho.serve.endpoint import read_json

MOST_COMMANDS = 3
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
            commands = "; ".join(commands_for(project, place, dates))
            yield f"{place}: nobody but version {bad} scored {_listed(dates)}. To score them: {commands}"


def rolled_back(state: ModelState) -> set[int]:
    """Give the versions that were taken from their users again and do not serve now.

    >>> rolled_back(ModelState("m", champion=2, champions=[("t1", 1), ("t2", 2), ("t3", 3), ("t4", 2)]))
    {3}
    """
    ended = {one.version for one in state.rollouts.values() if one.outcome in ("rolled back", "aborted")}
    return (ended | {version for _, version in state.champions}) - {*state.succession, *state.shares}


def leave_rolled_back(project: Project, place: str, table: ScoreTable, say: Say) -> None:
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
            commands = "; ".join(commands_for(project, place, missing))
            say(f"Version {bad} was rolled back, and nobody else scored {_listed(missing)}. To score them: {commands}")


def _listed(dates: Sequence[str]) -> str:
    return ", ".join(dates[:3]) + (f" and {len(dates) - 3} more dates" if len(dates) > 3 else "")


def commands_for(project: Project, place: str, dates: Sequence[str]) -> list[str]:
    """Give the commands that score dates of a table again, from where their rows came: one for each stretch of days."""
    known = _known(project).get(place)
    found: list[tuple[Origin | None, str, str]] = []
    for date in dates:
        origin = known.origin(date) if known is not None else None
        if found and found[-1][0] == origin and _next_day(found[-1][2]) == date:
            found[-1] = (origin, found[-1][1], date)
        else:
            found.append((origin, date, date))
    environment = known.environment if known is not None else None
    made = [_command(place, environment, *one) for one in found]
    return made[:MOST_COMMANDS] + (
        [f"and so on, {len(made) - MOST_COMMANDS} more"] if len(made) > MOST_COMMANDS else []
    )


def _command(place: str, environment: str | None, origin: Origin | None, first: str, last: str) -> str:
    parts = ["trilho", "score", "--from", origin.source if origin is not None else "TABLE", "--to", place]
    parts += ["--at", first] if first == last else ["--since", first, "--until", last]
    parts += ["--whole"] if origin is not None and origin.whole else []
    parts += ["--no-contract"] if origin is not None and origin.warn else []
    return shlex.join([*parts, *(["--env", environment] if environment is not None else [])])


def _next_day(date: str) -> str:
    return (Date.fromisoformat(date) + timedelta(days=1)).isoformat()


# ---- what was written ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Origin:
    """What a date was scored from, as `trilho score` was told it."""

    source: str
    whole: bool = False
    warn: bool = False


@dataclass
class Known:
    """A table that this machine has written: how it is reached, and what its dates were scored from."""

    environment: str | None
    origins: list[Origin] = field(default_factory=list)
    dates: dict[str, int] = field(default_factory=dict)

    def origin(self, date: str) -> Origin | None:
        """Give what a date was scored from; of one that nobody told, what the others were last."""
        place = self.dates.get(date, len(self.origins) - 1)
        return self.origins[place] if 0 <= place < len(self.origins) else None

    def note(self, date: str, origin: Origin) -> None:
        """Keep what a date was scored from."""
        if origin not in self.origins:
            self.origins.append(origin)
        self.dates[date] = self.origins.index(origin)


def tables(project: Project) -> dict[str, str | None]:
    """Give the tables of scores that this machine has written for a project, and that are still there, each with the
    environment that it is reached with."""
    return {to: one.environment for to, one in _known(project).items()}


def _known(project: Project) -> dict[str, Known]:
    told = (read_json(_register(project)) or {}).get("tables", [])
    found = {
        str(one["to"]): Known(one["environment"], [Origin(**x) for x in one.get("origins", [])], one.get("dates", {}))
        for one in told
        if isinstance(one, dict)
    }
    return {to: one for to, one in found.items() if to.startswith(BIGQUERY) or Path(to).is_dir()}


def _register(project: Project) -> Path:
    return project.home / "scores" / f"{project.name}.json"


def remember(project: Project, to: str, environment: str | None, origin: Origin, date: str | None = None) -> None:
    """Keep which tables were written, and what a date of them was scored from, for the rollback that may come."""
    lease = Lease(_register(project).with_suffix(".lease"), f"what {project.name} scores into is being noted")
    lease.take()
    try:
        known = _known(project)
        table = known.setdefault(to, Known(environment))
        table.environment = environment
        if date is not None:
            table.note(date, origin)
        listed = [{"to": to, **asdict(one)} for to, one in known.items()]
        write_whole(_register(project), json.dumps({"schema": 1, "tables": listed}))
    finally:
        lease.release()
