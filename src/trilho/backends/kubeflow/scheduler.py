"""Kubeflow's recurring runs as a Scheduler. The server keeps time in UTC, so schedules are moved to it.

What was asked for stands in the recurring run's description; each of its runs is named by the server.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from trilho.backends.kubeflow.api import KubeflowApi, Refused, named, segment
from trilho.backends.kubeflow.messages import Json, about, run_of
from trilho.core.cron import Cron
from trilho.core.ports import NotFound, RemoteJob, ScheduleInfo
from trilho.core.retry import Patience
from trilho.errors import UsageError

DAY = 24 * 60
YEARS = 2  # so far ahead clocks are looked at: what they will do later nobody knows


class KubeflowScheduler:
    """The Scheduler port on a Kubeflow Pipelines server."""

    def __init__(self, endpoint: str, patience: Patience | None = None) -> None:
        self.api = KubeflowApi(endpoint, patience)

    def create(self, job: RemoteJob, cron: str, timezone: str) -> str:
        """Keep a schedule and give its id. One of its runs goes on at a time; missed ones are not made up."""
        told = {**dict(job.labels), "cron": cron, "timezone": timezone}
        body = {
            **run_of(job),
            "description": json.dumps({"trilho": told}, sort_keys=True),
            "trigger": {"cron_schedule": {"cron": in_utc(cron, timezone)}},
            "mode": "ENABLE",
            "max_concurrency": "1",
            "no_catchup": True,
        }

        def create() -> Json:
            found = self.api.pages("recurringruns", "recurringRuns", **named("display_name", job.run))
            mine = [one for one in found if one["display_name"] == job.run and about(one) == told]
            return mine[0] if mine else self.api.ask("POST", "recurringruns", body | self.api.experiment())

        made: Json = self.api.call(f"making the schedule {job.run}", create)
        return str(made["recurring_run_id"])

    def list(self) -> Sequence[ScheduleInfo]:
        """Give the schedules, oldest first."""
        found: Sequence[Json] = self.api.call(
            "listing schedules", lambda: [*self.api.pages("recurringruns", "recurringRuns")]
        )
        timed = [one for one in found if (one.get("trigger") or {}).get("cron_schedule")]
        return [info_of(one) for one in sorted(timed, key=lambda one: str(one.get("created_at") or ""))]

    def pause(self, id_: str) -> None:
        """Submit nothing until it is resumed."""
        self._act("pausing", id_, "POST", ":disable")

    def resume(self, id_: str) -> None:
        """Go on from now; what was missed is not made up for."""
        self._act("resuming", id_, "POST", ":enable")

    def delete(self, id_: str) -> None:
        """End a schedule; runs that it has submitted go on."""
        self._act("deleting", id_, "DELETE", "")

    def _act(self, doing: str, id_: str, method: str, verb: str) -> None:
        def act() -> None:
            try:
                self.api.ask(method, f"recurringruns/{segment(id_)}{verb}")
            except Refused as refused:
                if refused.code != 404:
                    raise
                hint = "trilho pipeline schedule --list"
                raise NotFound(f"{self.api.endpoint} has no schedule {id_}", hint=hint) from None

        self.api.call(f"{doing} schedule {id_}", act)


def info_of(schedule: Json) -> ScheduleInfo:
    """Read a schedule; of one that somebody else made, what the server goes by."""
    said = about(schedule) or {}
    kept = schedule["trigger"]["cron_schedule"]["cron"]
    cron, timezone = said.get("cron") or kept.partition(" ")[2], said.get("timezone") or "UTC"
    paused = schedule.get("status") == "DISABLED"
    return ScheduleInfo(
        id=schedule["recurring_run_id"],
        name=schedule["display_name"],
        cron=cron,
        timezone=timezone,
        paused=paused,
        next=None if paused else _next(cron, timezone),
    )


def _next(cron: str, timezone: str) -> str | None:
    try:
        return Cron.read(f"TZ={timezone} {cron}").after(datetime.now(UTC)).isoformat()
    except ValueError:  # of somebody else's making, in another dialect
        return None


def in_utc(cron: str, timezone: str) -> str:
    """Write a schedule as the server keeps it: seconds first, in UTC. Raises UsageError where that can't be said.

    >>> in_utc("30 4 * * 1", "America/Sao_Paulo"), in_utc("0 22 * * 5", "America/Sao_Paulo")
    ('0 30 7 * * 1', '0 0 1 * * 6')
    """
    try:
        read = Cron.read(f"TZ={timezone} {cron}")
    except ValueError as error:
        raise UsageError(f"the schedule is {cron!r} in {timezone}: {error}", hint='as in --cron "0 3 * * 1"') from None
    if timezone in ("UTC", "Etc/UTC"):
        return f"0 {cron}"
    return _moved(read, cron, _ahead_minutes(read, timezone), timezone)


def _ahead_minutes(cron: Cron, timezone: str) -> int:
    """Give by how much a zone's clocks are ahead of UTC. Raises UsageError where they are changed."""
    now = datetime.now(UTC)
    seen = {(now + timedelta(days=day)).astimezone(cron.zone).utcoffset() for day in range(0, 366 * YEARS, 7)}
    ahead = seen.pop() if len(seen) == 1 else None
    if ahead is None or ahead.total_seconds() % 60:
        raise UsageError(
            f"Kubeflow keeps time in UTC, and the clocks of {timezone} are changed in summer",
            hint="--timezone UTC, with the hour there",
        )
    return int(ahead.total_seconds() // 60)


def _moved(read: Cron, cron: str, ahead: int, timezone: str) -> str:
    times = {(hour * 60 + minute - ahead) for hour in read.hours for minute in read.minutes}
    days = {time // DAY for time in times}
    minutes, hours = {time % 60 for time in times}, {time % DAY // 60 for time in times}
    _, _, in_month, months, in_week = cron.split()
    every_day = in_month.startswith("*") and in_week.startswith("*") and months == "*"
    moved = days.pop() if len(days) == 1 else 0 if every_day else None
    can = moved is not None and (moved == 0 or (in_month == "*" and months == "*"))
    if not can or len(minutes) * len(hours) != len(times):
        hint = "--timezone UTC, with the days and hours there"
        raise UsageError(f"{cron!r} in {timezone} is no schedule in UTC, which is what Kubeflow keeps", hint=hint)
    if moved and in_week != "*":
        in_week = _listed({(day + moved) % 7 for day in read.weekdays})
    shown = "*" if len(hours) == 24 else _listed(hours)
    return f"0 {'*' if len(minutes) == 60 else _listed(minutes)} {shown} {in_month} {months} {in_week}"


def _listed(numbers: set[int]) -> str:
    return ",".join(map(str, sorted(numbers)))
