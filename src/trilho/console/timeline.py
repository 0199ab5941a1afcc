"""What happened to a model, newest first, in sentences; each with the page that says more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trilho.core.projection import Incident, ModelState, Rollout
from trilho.govern.wording import metric_name, number
from trilho.watch.alerts.telling import reason
from trilho.watch.incidents.lead import lead_words
from trilho.watch.incidents.words import SHOWN, alarm_steps
from trilho.watch.wording import Language, say


@dataclass(frozen=True)
class Event:
    """One line of a model's story; `kind` picks its sign."""

    time: str
    kind: str
    text: str
    link: str | None = None


def timeline(model: ModelState, most: int = 60) -> list[Event]:
    """Tell the newest events of a model."""
    events = [*_training(model), *_releases(model), *_incidents(model), *_retrainings(model)]
    return sorted(events, key=lambda event: event.time, reverse=True)[:most]


def _training(model: ModelState) -> Iterator[Event]:
    for run in model.runs.values():
        called = f"Run {run.id}" if run.trains else f"Run {run.id} of {run.pipeline}"
        if run.state == "failed" and run.ended:
            yield Event(run.ended, "failed", f"{called} failed: {_first_line(run.error)}", f"/runs/{run.id}")
        elif run.state == "running":
            yield Event(run.started, "run", f"{called} started", f"/runs/{run.id}")
    for version in model.versions.values():
        value = version.metrics.get(version.metric)
        known = "" if value is None else f": {metric_name(version.metric)} {number(value)} on held-out rows"
        verdict = f"; the gate said {version.gate.verdict}" if version.gate else ""
        text = f"Version {version.number} packaged{known}{verdict}"
        yield Event(version.created, "version", text, f"/models/{model.name}#version-{version.number}")


def _releases(model: ModelState) -> Iterator[Event]:
    link = f"/models/{model.name}#rollouts"
    ended = {rollout.ended for rollout in model.rollouts.values()}
    for rollout in model.rollouts.values():
        yield Event(rollout.started, "rollout", f"Rollout of version {rollout.version} began, by {rollout.actor}", link)
        if rollout.outcome and rollout.ended:
            yield Event(rollout.ended, "release" if rollout.outcome == "full" else "failed", _outcome(rollout), link)
    for time, version in model.champions:
        if time not in ended:
            yield Event(time, "failed", f"Version {version} was restored", link)


def _outcome(rollout: Rollout) -> str:
    if rollout.outcome == "full":
        return f"Version {rollout.version} took over all traffic"
    return f"Version {rollout.version} was {rollout.outcome}: {rollout.note}"


def _incidents(model: ModelState) -> Iterator[Event]:
    for incident in model.incidents.values():
        link = f"/incidents/{incident.id}"
        yield Event(incident.opened, "incident", f"Incident opened: {incident.title}", link)
        if incident.closed:
            yield Event(incident.closed, "closed", f"Incident closed: {incident.reason}", link)


def _retrainings(model: ModelState) -> Iterator[Event]:
    for retraining in model.retrainings.values():
        link = f"/runs/{retraining.run}" if retraining.run else None
        yield Event(retraining.started, "retraining", f"Retraining {_because(retraining.cause)}", link)
        if retraining.result == "rejected" and retraining.ended:
            yield Event(retraining.ended, "closed", f"Version {retraining.version} was rejected by the gate", link)


def incident_story(model: ModelState, incident: Incident, language: Language = "en") -> list[Event]:
    """Tell one incident, oldest first: alarms, the many folded into one line, alerts, what people did, its end."""
    events = [Event(incident.opened, "incident", say(language, "story.opened"))]
    for i, step in enumerate(alarm_steps(model, incident, language)):
        text = say(language, "story.alarm", text=step.text) if i < SHOWN else step.text
        events.append(Event(step.time, step.kind, text))
    for time, alert in model.alerts:
        if alert.incident == incident.id:
            key = "story.alert" if alert.attempts == 1 else "story.tries"
            events.append(Event(time, "alert", say(language, key, channel=alert.channel, attempts=alert.attempts)))
    events += [_note(*note, incident, language) for note in incident.notes if note[1] != "alarm"]
    for retraining in model.retrainings.values():
        if retraining.incident == incident.id:
            link = f"/runs/{retraining.run}" if retraining.run else None
            events.append(Event(retraining.started, "retraining", say(language, "story.retraining"), link))
            if retraining.ended:
                text = say(language, "story.retrained", result=retraining.result)
                events.append(Event(retraining.ended, "closed", text, link))
    if incident.closed:
        text = say(language, "story.ended", reason=reason(incident.reason or "", language))
        events.append(Event(incident.closed, "closed", text))
    return sorted(events, key=lambda event: event.time)


def _note(time: str, change: str, note: str, incident: Incident, language: Language) -> Event:
    name = say(language, "story.retraining.note" if change == "retraining" else f"story.{change}")
    if note == say("en", "note.confirmed"):
        note = say(language, "note.confirmed")
    elif incident.lead is not None and note == lead_words(incident.lead):
        note = lead_words(incident.lead, language)
    return Event(time, change, f"{name}: {note}" if note else name)


def _because(cause: str) -> str:
    return "asked for by a person" if cause == "a person" else f"because of {cause}"


def _first_line(text: str | None) -> str:
    return (text or "no reason was kept").strip().splitlines()[-1][:140]
