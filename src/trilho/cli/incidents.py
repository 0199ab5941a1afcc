"""`trilho incidents`: what is or was wrong, since when, who has seen it, and what a person does about it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from trilho.cli.session import Session, Why, group, verb
from trilho.errors import UsageError

if TYPE_CHECKING:
    from trilho.core.projection import Incident, ModelState
    from trilho.core.records import Payload

Id = Annotated[str, typer.Argument(metavar="INCIDENT", help="An incident's id, or its beginning.")]
For = Annotated[str, typer.Option("--for", metavar="TIME", help='How long, such as "3 days" or "12 hours".')]
To = Annotated[str, typer.Argument(metavar="NAME", help="Whoever has it in hand.")]


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""
    incidents = typer.Typer()
    app.add_typer(incidents, name="incidents")
    _add_shows(incidents)
    _add_acknowledging(incidents)
    _add_acts(incidents)


def _add_shows(incidents: typer.Typer) -> None:
    @group(incidents)
    def list_(
        here: Session, everything: Annotated[bool, typer.Option("--all", help="Closed ones too.")] = False
    ) -> None:
        """List open incidents; show, mute or close one."""
        from trilho.govern.wording import moment

        state, now = here.project.state(), _now().isoformat()
        shown = list(reversed(state.incidents.values())) if everything else state.open_incidents
        if shown:
            rows = [
                (x.id, x.severity, x.kind, moment(x.opened), _how(x, now), f"{x.alarm_count}", x.title) for x in shown
            ]
            here.table(("incident", "severity", "kind", "opened", "is", "alarms", "what"), rows)
        else:
            here.say(
                f"No incident of {state.name} is open." if state.incidents else f"{state.name} had no incident yet."
            )
        unseen = next((x for x in shown if x.standing(now) in ("suspected", "confirmed")), None)
        next_ = f"trilho incidents show {unseen.id}" if unseen else "trilho"
        here.done(next_, model=state.name, incidents=[asdict(x) for x in shown])

    @verb(incidents, "show", examples=["trilho incidents show INCIDENT"])
    def show(here: Session, incident: Id) -> None:
        """Show an incident: causes, effect, warning lead, and what was done."""
        from trilho.core.records import encode
        from trilho.watch.incidents import Terms
        from trilho.watch.incidents.words import effect_words, lead_told, runbook

        state, now = here.project.state(), _now().isoformat()
        found = find(here, state, incident)
        here.say(
            f"{found.title}", f"Incident {found.id} of version {found.version}: {found.severity}, {_how(found, now)}."
        )
        terms = Terms.of(here.project.settings.watch)
        effect, lead = effect_words(found.effect, terms), lead_told(found)
        here.facts([
            ("effect", effect), ("lead", lead), ("slices", ", ".join(found.slices)), ("in hand", found.assigned_to),
            ("evidence", _evidence(state, found)),
        ])  # fmt: skip
        for line in _story(state, found):
            here.say(f"  {line}")
        if found.closed is None:
            here.say("First:", *(f"  {i}. {line}" for i, line in enumerate(runbook(found), 1)))
        alarms = [encode(state.alarms[x]) for x in found.alarms if x in state.alarms]
        next_ = "trilho" if found.closed or found.acknowledged_by else f"trilho incidents acknowledge {found.id}"
        here.done(next_, model=state.name, **asdict(found), standing=found.standing(now), effect_words=effect,
                  lead_words=lead, raised=alarms)  # fmt: skip


def _add_acknowledging(incidents: typer.Typer) -> None:
    example = "trilho incidents acknowledge INCIDENT --why 'the sensor at the harbour is broken'"

    @verb(incidents, "acknowledge", examples=[example])
    def acknowledge(here: Session, incident: Id, why: Why = "") -> None:
        """Say that you have an incident in hand."""
        from trilho.watch.incidents import acts

        state = here.project.state()
        found = find(here, state, incident)
        done = _do(here, found, acts.acknowledge(state.name, found, why))
        here.say(f"Incident {found.id} is acknowledged by {done.acknowledged_by}.")
        here.done("trilho", model=state.name, incident=found.id, acknowledged_by=done.acknowledged_by)

    verb(incidents, "ack", examples=["trilho incidents ack INCIDENT"])(acknowledge)

    @verb(incidents, "assign", examples=["trilho incidents assign INCIDENT ana --why 'she knows the sensors'"])
    def assign(here: Session, incident: Id, to: To, why: Why = "") -> None:
        """Say in whose hands an incident is."""
        from trilho.watch.incidents import acts

        state = here.project.state()
        found = find(here, state, incident)
        done = _do(here, found, acts.assign(state.name, found, to, why))
        here.say(f"Incident {found.id} is assigned to {done.assigned_to}.")
        here.done("trilho", model=state.name, incident=found.id, assigned_to=done.assigned_to)


def _add_acts(incidents: typer.Typer) -> None:
    @verb(incidents, "mute", examples=["trilho incidents mute INCIDENT --for '3 days' --why 'the fair is in town'"])
    def mute(here: Session, incident: Id, for_: For, why: Why = "") -> None:
        """Send no alerts about an incident for a while."""
        from trilho.govern.wording import moment
        from trilho.watch.incidents import acts

        state = here.project.state()
        found = find(here, state, incident)
        done = _do(here, found, acts.mute(state.name, found, _length(for_), why, _now()))
        here.say(f"Incident {found.id} is muted until {moment(done.muted_until)} by {done.muted_by}.")
        here.done(f"trilho incidents unmute {found.id}", model=state.name, incident=found.id,
                  muted_until=done.muted_until, muted_by=done.muted_by)  # fmt: skip

    @verb(incidents, "unmute", examples=["trilho incidents unmute INCIDENT"])
    def unmute(here: Session, incident: Id, why: Why = "") -> None:
        """Let alerts about an incident be sent again."""
        from trilho.watch.incidents import acts

        state = here.project.state()
        found = find(here, state, incident)
        _do(here, found, acts.unmute(state.name, found, why, _now()))
        here.say(f"Incident {found.id} is told again.")
        here.done("trilho incidents", model=state.name, incident=found.id, muted_until=None)

    @verb(
        incidents, "close", examples=["trilho incidents close INCIDENT --why 'the price list was changed on purpose'"]
    )
    def close(here: Session, incident: Id, why: Why = "") -> None:
        """End an incident by hand; it is opened again if its cause alarms within [watch] cooldown."""
        from trilho.watch.incidents import acts

        state = here.project.state()
        found = find(here, state, incident)
        done = _do(here, found, acts.close(state.name, found, why))
        here.say(f"Incident {found.id} is closed: {done.reason}")
        here.done("trilho incidents", model=state.name, incident=found.id, closed=done.closed, reason=done.reason)


def find(here: Session, state: ModelState, beginning: str) -> Incident:
    """Give the one incident whose id begins so, or is so. Raises UsageError."""
    found = [x for x in state.incidents.values() if x.id.startswith(beginning)]
    found = [x for x in found if x.id == beginning] or found
    if len(found) != 1:
        said = "no incident begins with" if not found else f"{len(found)} incidents begin with"
        raise UsageError(f"{state.name}: {said} {beginning}", hint=here.command("trilho incidents --all"))
    return found[0]


def _do(here: Session, incident: Incident, payload: Payload) -> Incident:
    here.project.record(payload)
    return here.project.state().incidents[incident.id]


def _now() -> datetime:
    return datetime.now(UTC)


def _length(text: str) -> timedelta:
    from trilho.config.values import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--for is {text!r}; allowed: {error}", hint='--for "3 days"') from None


def _how(incident: Incident, now: str) -> str:
    from trilho.govern.wording import moment

    if incident.closed:
        return f"closed: {incident.reason}"
    again = f", opened again {incident.reopened} times" if incident.reopened > 1 else ""
    again = ", opened again" if incident.reopened == 1 else again
    if incident.is_muted(now):
        return f"muted until {moment(incident.muted_until)} by {incident.muted_by}{again}"
    by = f", acknowledged by {incident.acknowledged_by}" if incident.acknowledged_by else ""
    return f"{incident.state}{by}{again}"


def _evidence(state: ModelState, incident: Incident) -> str | None:
    from trilho.watch.incidents.words import evidence_words

    last = next((state.alarms[x] for x in reversed(incident.alarms) if x in state.alarms), None)
    return f"{evidence_words(last.evidence)}, alarms at {evidence_words(last.threshold)}" if last else None


def _story(state: ModelState, incident: Incident) -> list[str]:
    from trilho.govern.wording import moment, percent
    from trilho.watch.incidents.words import alarm_steps

    lines = [(incident.opened, "opened")]
    lines += [(step.time, f"alarm: {step.text}" if i < 2 else step.text)
              for i, step in enumerate(alarm_steps(state, incident))]  # fmt: skip
    if incident.causes:
        told = ", ".join(f"{x['feature']} {percent(x['share'], 1)}" for x in incident.causes[:3])
        lines.append((incident.opened, f"cause: {told}"))
    lines += [(time, f"{change}: {note}".rstrip(": ")) for time, change, note in incident.notes if change != "alarm"]
    lines += [(time, f"alert sent to {x.channel}") for time, x in state.alerts if x.incident == incident.id]
    if incident.closed:
        lines.append((incident.closed, f"closed: {incident.reason}"))
    return [f"{moment(time)}  {text}" for time, text in sorted(lines, key=lambda line: line[0])]
