"""Pipelines that a service submits at set times: kept there whole, so that this machine may be off."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from trilho.core.cron import Cron
from trilho.core.ports import RemoteJob
from trilho.errors import UsageError
from trilho.pipeline.ir import reader as ir
from trilho.remote.environment import Target
from trilho.remote.run import require_images


def create_schedule(
    target: Target, spec: ir.Spec, parameters: Mapping[str, Any], *, name: str, cron: str, timezone: str
) -> str:
    """Have a pipeline submitted at set times, and give the schedule's id.

    Raises UsageError for a time that is none, and for a name that is taken: two schedules of one pipeline are two
    names, and never an accident.
    """
    require_times(cron, timezone)
    require_images(spec, target)
    taken = next((one for one in target.scheduler.list() if one.name == name), None)
    if taken is not None:
        raise UsageError(
            f"there is a schedule {name} already, {taken.id}: {taken.cron} ({taken.timezone})",
            hint=f"trilho pipeline schedule --delete {taken.id}, or --name for another",
        )
    job = RemoteJob(
        run=name,
        model=target.model,
        document=spec.document,
        parameters={**spec.given, **parameters},
        root=target.root,
        labels={"trilho-model": target.model, "trilho-schedule": label(name)},
        service_account=target.environment.service_account,
    )
    return target.scheduler.create(job, " ".join(cron.split()), timezone)


def label(text: str) -> str:
    """Give a name as a label's value may be.

    >>> label("Taxi_Pipeline v2")
    'taxi_pipeline-v2'
    """
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower())[:63]


def require_times(cron: str, timezone: str) -> None:
    """Hold a schedule to what every service takes. Raises UsageError.

    >>> require_times("30 4 * * 1-5", "America/Sao_Paulo")
    """
    try:
        Cron.read(f"TZ={timezone} {cron}")
    except ValueError as error:
        raise UsageError(
            f"the schedule is {cron!r} in {timezone}: {error}",
            hint='minute, hour, day, month, weekday, as in "0 3 * * 1" for Mondays at 03:00',
        ) from None
