"""What there is to tell of a model: a message for each change of an incident's state, from the journal's state."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trilho.core.projection import Incident, ModelState
from trilho.core.records import AlarmRaised, Cause
from trilho.watch.alerts.message import Message, Stage, named
from trilho.watch.incidents.lead import lead_words
from trilho.watch.incidents.words import dated, effect_words, runbook
from trilho.watch.window import words
from trilho.watch.wording import Language, number, say
from trilho_runtime.profile import PREDICTION

TOLD: Mapping[str, Stage] = {
    "confirmed": "confirmed", "worse": "worse", "crossed": "crossed", "acknowledged": "acknowledged",
    "reopened": "reopened",
}  # fmt: skip
ENDS = frozenset({"resolved", "outlived", "closed"})
METRICS = {"mae": "MAE", "rmse": "RMSE", "roc_auc": "AUC", "brier": "Brier loss", "log_loss": "log loss"}
REASONS = (
    (re.compile(r"version (?P<version>\d+) took over"), "reason.version"),
    (re.compile(r"no alarm in the (?P<count>\d+) windows since"), "reason.calm"),
    (re.compile(r"what it was about has gone"), "reason.gone"),
    (re.compile(r"(?P<features>.+) (?:is|are) back (?:where training had them|to what training saw)"), "reason.back"),
)


@dataclass(frozen=True)
class Voice:
    """How a project's messages sound, and where they lead."""

    language: Language = "en"
    console: str = ""
    runbook: str = ""


@dataclass(frozen=True)
class Change:
    """A change of an incident's state, that each channel is told once; `name` is unique within the incident."""

    name: str
    stage: Stage
    time: str
    note: str = ""
    actor: str = ""


def changes(incident: Incident) -> Iterator[Change]:
    """Give an incident's changes of state, oldest first: not each alarm, of which a day can have many."""
    found: list[tuple[str, Stage, str]] = [
        (t, TOLD[change], note) for t, change, note in incident.notes if change in TOLD
    ]
    ends: list[tuple[str, Stage, str]] = [(t, "closed", "") for t, state, _ in incident.course if state in ENDS]
    if not ends and incident.closed is not None:
        ends = [(incident.closed, "closed", "")]
    actors = {time: actor for time, _, actor in incident.course}
    yield Change("opened", "opened", incident.opened)
    seen: dict[str, int] = {}
    for time, stage, note in sorted([*found, *ends], key=lambda x: x[0]):
        seen[stage] = seen.get(stage, 0) + 1
        name = stage if seen[stage] == 1 else f"{stage}-{seen[stage]}"
        yield Change(name, stage, time, note, actors.get(time, ""))


def tell(state: ModelState, incident: Incident, change: Change, alert: str, voice: Voice) -> Message:
    """Put a change of an incident into words."""
    language, ended = voice.language, change.stage == "closed"
    blanks = {
        "model": state.name,
        "version": incident.version,
        "kind": say(language, f"kind.{incident.kind}"),
        "who": change.actor or incident.acknowledged_by or "?",
        "reason": reason(incident.reason or incident.state, language),
    }
    facts = _end(state, incident, language) if ended else _facts(state, incident, change, voice)
    return Message(
        alert=alert,
        incident=incident.id,
        model=state.name,
        stage=change.stage,
        grade="closed" if ended else incident.severity,
        headline=say(language, f"headline.{change.stage}", **blanks),
        facts=named(language, list(facts)),
        time=change.time,
        link=f"{voice.console.rstrip('/')}/incidents/{incident.id}" if voice.console else "",
        language=language,
        chart=chart_of(state, incident),
    )


def _end(state: ModelState, incident: Incident, language: Language) -> Iterator[tuple[str, str]]:
    yield "was", title(state, incident, language)
    if incident.lead is not None:
        yield "lead", lead_words(incident.lead, language)
    yield "incident", incident.id


def _facts(state: ModelState, incident: Incident, change: Change, voice: Voice) -> Iterator[tuple[str, str]]:
    language = voice.language
    yield "what", title(state, incident, language)
    if change.note and change.stage == "acknowledged":
        yield "note", change.note
    yield "cause", _cause(state, incident, language)
    if incident.slices:
        yield "slices", ", ".join(incident.slices)
    yield "effect", _effect(incident, language)
    if incident.lead is not None:
        yield "lead", lead_words(incident.lead, language)
    yield "next", say(language, "next.nothing" if state.retraining is None else "next.retraining")
    yield "runbook", " ".join([*runbook(incident, language)[:1], voice.runbook]).strip()
    severity = say(language, f"severity.{incident.severity}")
    yield "incident", say(language, "incident.severity", incident=incident.id, severity=severity)


def _effect(incident: Incident, language: Language) -> str:
    if incident.effect is not None:
        return effect_words(incident.effect, None, language)
    return say(language, "effect.performance" if incident.kind == "performance" else "effect.unknown")


def title(state: ModelState, incident: Incident, language: Language) -> str:
    """Give an incident's title in a language; the one in the journal is English."""
    alarm = _alarm(state, incident)
    if language == "en" or alarm is None:
        return incident.title
    names = [_name(cause["feature"], language) for cause in alarm.causes[:3]] or [say(language, "cause.unknown")]
    features = names[0]
    if len(names) > 1:
        features = say(language, "features.and", first=", ".join(names[:-1]), last=names[-1])
    window = dated(words(alarm.window_start, alarm.window_end), language)
    return say(language, f"what.{incident.kind}", features=features, window=window)


def reason(text: str, language: Language) -> str:
    """Give why an incident ended in a language; what a person wrote stays as it is.

    >>> reason("version 2 took over", "pt-BR")
    'a versão 2 assumiu'
    """
    for pattern, key in REASONS if language != "en" else ():
        if match := pattern.fullmatch(text):
            return say(language, key, **match.groupdict())
    return text


def chart_of(state: ModelState, incident: Incident) -> dict[str, Any] | None:
    """Say what a chart of an incident shows: its first cause."""
    alarm = _alarm(state, incident)
    if alarm is None or not alarm.causes:
        return None
    first = alarm.causes[0]
    if incident.kind == "performance":
        return {"kind": "metric", "feature": first["feature"], "allowed": first["tolerance"]}
    return {"kind": "distance", "feature": first["feature"]}


def _alarm(state: ModelState, incident: Incident) -> AlarmRaised | None:
    return next((state.alarms[name] for name in incident.alarms[:1] if name in state.alarms), None)


def _cause(state: ModelState, incident: Incident, language: Language) -> str:
    alarm = _alarm(state, incident)
    if alarm is None or not alarm.causes:
        return say(language, "cause.unknown")
    if incident.kind == "performance":
        drifting = any(x.kind == "drift" for x in state.open_incidents)
        return say(language, "cause.inputs-drift" if drifting else "cause.inputs-hold")
    return "; ".join(_share(cause, language) for cause in alarm.causes[:3])


def _share(cause: Cause, language: Language) -> str:
    distance, tolerance = number(language, cause["distance"]), number(language, cause["tolerance"])
    name = _name(cause["feature"], language)
    return say(language, "cause.distance", feature=name, distance=distance, tolerance=tolerance)


def _name(feature: str, language: Language) -> str:
    return say(language, "predictions") if feature == PREDICTION else METRICS.get(feature, feature)
