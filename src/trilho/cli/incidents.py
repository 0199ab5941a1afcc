"""`trilho incidents`: what is or was wrong, since when, and who has seen it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from trilho.cli.session import Session, Why, group, verb
from trilho.errors import UsageError

if TYPE_CHECKING:
    from trilho.core.projection import Incident, ModelState

Id = Annotated[str, typer.Argument(metavar="INCIDENT", help="An incident's id, or its beginning.")]


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""
    incidents = typer.Typer()
    app.add_typer(incidents, name="incidents")

    @group(incidents)
    def list_(
        here: Session, everything: Annotated[bool, typer.Option("--all", help="Closed ones too.")] = False
    ) -> None:
        """List open incidents; show or acknowledge one."""
        from trilho.govern.wording import moment

        state = here.project.state()
        shown = list(reversed(state.incidents.values())) if everything else state.open_incidents
        if shown:
            rows = [(x.id, x.severity, x.kind, moment(x.opened), _how(x), x.title) for x in shown]
            here.table(("incident", "severity", "kind", "opened", "is", "what"), rows)
        else:
            here.say(
                f"No incident of {state.name} is open." if state.incidents else f"{state.name} had no incident yet."
            )
        unseen = next((x for x in shown if x.closed is None and not x.acknowledged_by), None)
        next_ = f"trilho incidents show {unseen.id}" if unseen else "trilho"
        here.done(next_, model=state.name, incidents=[asdict(x) for x in shown])

    @verb(incidents, "show", examples=["trilho incidents show INCIDENT"])
    def show(here: Session, incident: Id) -> None:
        """Show an incident: alarms, causes, and what was done."""
        from trilho.core.records import encode

        state = here.project.state()
        found = find(here, state, incident)
        here.say(f"{found.title}", f"Incident {found.id} of version {found.version}: {found.severity}, {_how(found)}.")
        for line in _story(state, found):
            here.say(f"  {line}")
        alarms = [encode(state.alarms[x]) for x in found.alarms if x in state.alarms]
        next_ = "trilho" if found.closed or found.acknowledged_by else f"trilho incidents ack {found.id}"
        here.done(next_, model=state.name, **asdict(found), raised=alarms)

    @verb(incidents, "ack", examples=["trilho incidents ack INCIDENT --why 'the sensor at the harbour is broken'"])
    def ack(here: Session, incident: Id, why: Why = "") -> None:
        """Say that you have an incident in hand."""
        state = here.project.state()
        found = find(here, state, incident)
        here.project.acknowledge(found.id, why)
        who = here.project.state().incidents[found.id].acknowledged_by
        here.say(f"Incident {found.id} is acknowledged by {who}.")
        here.done("trilho", model=state.name, incident=found.id, acknowledged_by=who)


def find(here: Session, state: ModelState, beginning: str) -> Incident:
    """Give the one incident whose id begins so. Raises UsageError."""
    found = [x for x in state.incidents.values() if x.id.startswith(beginning)]
    if len(found) != 1:
        said = "no incident begins with" if not found else f"{len(found)} incidents begin with"
        raise UsageError(f"{state.name}: {said} {beginning}", hint=here.command("trilho incidents --all"))
    return found[0]


def _how(incident: Incident) -> str:
    if incident.closed:
        return f"closed: {incident.reason}"
    return f"acknowledged by {incident.acknowledged_by}" if incident.acknowledged_by else "open"


def _story(state: ModelState, incident: Incident) -> list[str]:
    from trilho.govern.wording import moment, percent, window

    lines = [(incident.opened, "opened")]
    for id_ in incident.alarms:
        alarm = state.alarms.get(id_)
        if alarm is None:
            continue
        causes = ", ".join(f"{x['feature']} {percent(x['share'], 1)}" for x in alarm.causes[:3])
        over = window(alarm.window_start, alarm.window_end)
        lines.append((state.alarm_times[id_], f"alarm over {over}: {alarm.summary}{f' ({causes})' if causes else ''}"))
    lines += [(time, f"{change}: {note}".rstrip(": ")) for time, change, note in incident.notes if change != "alarm"]
    lines += [(time, f"alert sent to {x.channel}") for time, x in state.alerts if x.incident == incident.id]
    if incident.closed:
        lines.append((incident.closed, f"closed: {incident.reason}"))
    return [f"{moment(time)}  {text}" for time, text in sorted(lines)]
