"""`trilho watch`: one pass of the watcher, and the readings so far."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from trilho.cli.session import Session, verb

if TYPE_CHECKING:
    from trilho.core.readings import Reading


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""

    @verb(app, "watch", examples=["trilho watch", "trilho watch -n 50 --json"])
    def watch(
        here: Session,
        limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many windows at most.")] = 12,
    ) -> None:
        """Measure what was served since the last look.

        Then show the newest windows: the metric where labels have come, the drift, the alarms.
        """
        from trilho.core.records import encode
        from trilho.errors import Unreachable
        from trilho.loops import WatchLoop

        project = here.project
        alarms = []
        if project.state().champion is not None:
            loop = WatchLoop(project)
            try:
                alarms = loop.once()
                loop.deliver()
            except Unreachable:
                here.say("The platform that is up watches; these are its readings.")
            finally:
                loop.stop()
        readings = project.readings()[-limit:]
        _show(here, readings)
        for alarm in alarms:
            here.say(f"New alarm ({alarm.kind}): {alarm.summary}")
        state = project.state()
        next_ = "trilho incidents" if state.open_incidents else "trilho up" if not readings else "trilho"
        here.done(next_, model=project.name, readings=[asdict(x) for x in readings], alarms=[encode(x) for x in alarms])


def _show(here: Session, readings: list[Reading]) -> None:
    from trilho.govern.wording import metric_name, number, window

    if not readings:
        here.say(f"{here.project.name}: no window of served rows is complete yet.")
        return
    rows = []
    for x in readings:
        worst = max(x.features, key=lambda f: f.distance - f.tolerance, default=None)
        moved = f"{worst.feature} {number(worst.distance)}" if worst and worst.distance > worst.tolerance else ""
        interval = f" ({number(x.low)} to {number(x.high)})" if x.low is not None and x.high is not None else ""
        quality = f"{number(x.value)}{interval}" if x.value is not None else "no labels yet"
        rows.append((window(x.window_start, x.window_end), f"v{x.version}", f"{x.rows:,}", quality, number(x.expected),
                     f"{number(x.evidence)} of {number(x.threshold)}", moved, "ALARM" if x.alarms else ""))  # fmt: skip
    metric = metric_name(readings[-1].metric)
    here.table(("window", "by", "rows", metric, "expected", "drift evidence", "moved", ""), rows)
