"""Incidents in words, in a language: evidence, effects, times, what to look at first, and what happened, folded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trilho.core.projection import Incident, ModelState
from trilho.core.records import AlarmRaised, Effect
from trilho.watch.incidents.harm import harm
from trilho.watch.incidents.lead import figure, lead_words
from trilho.watch.incidents.terms import Terms
from trilho.watch.window import words
from trilho.watch.wording import Language, number, say

MILLION = 1e6
METRICS = {"mae": "MAE", "rmse": "RMSE", "roc_auc": "AUC", "brier": "Brier score", "log_loss": "log loss"}
SHOWN = 2  # alarms told one by one before the rest is folded
RUNBOOK = 3  # lines


@dataclass(frozen=True)
class Step:
    """Something that happened to an incident: when, what sort of thing, in words."""

    time: str
    kind: str
    text: str


def evidence_words(value: float, language: Language = "en") -> str:
    """Say evidence so that it can be read: beyond a million its size says nothing.

    >>> evidence_words(351804534498.0), evidence_words(2263.4), evidence_words(12.34)
    ('>1 million', '2,263', '12.3')
    """
    if value > MILLION:
        return say(language, "evidence.over", count=1)
    return number(language, value, 0 if value >= 100 else 1)


def runbook(incident: Incident, language: Language = "en") -> list[str]:
    """Say what to look at first, by kind."""
    return [say(language, f"runbook.{incident.kind}.{i}") for i in range(1, RUNBOOK + 1)]


def effect_words(effect: Effect | None, terms: Terms | None = None, language: Language = "en") -> str:
    """Say what an incident does to the metric, and how far that is on the way to the minimum.

    >>> effect_words({"metric": "mae", "change": 12.5, "expected": 40.0, "source": "estimated"}, Terms(minimum=60.0))
    'MAE worse by 12.5, estimated before labels; 62% of the way from what was expected (40.0) to the minimum (60.0)'
    """
    if effect is None:
        return say(language, "effect.none")
    key = "effect.change" if effect["change"] >= 0 else "effect.better"
    text = say(
        language,
        key,
        metric=METRICS.get(effect["metric"], effect["metric"]),
        change=figure(language, abs(effect["change"])),
    )
    if "low" in effect and "high" in effect:
        ends = sorted((effect["low"], effect["high"]))
        text += say(language, "effect.interval", low=figure(language, ends[0]), high=figure(language, ends[1]))
    text += f", {say(language, 'effect.' + effect['source'])}"
    share = harm(effect, terms) if terms is not None else None
    if share is None or terms is None or terms.minimum is None or effect["change"] <= 0 or share == float("inf"):
        return text
    told = {"expected": figure(language, effect["expected"]), "minimum": figure(language, terms.minimum)}
    return f"{text}; {say(language, 'effect.share', share=f'{100 * share:.0f}', **told)}"


def lead_told(incident: Incident, language: Language = "en") -> str:
    """Say an incident's warning lead."""
    if incident.lead is None:
        return say(language, "lead.never" if incident.closed else "lead.yet")
    return lead_words(incident.lead, language)


def dated(text: str, language: Language) -> str:
    """Put the months of a text and the "to" between its days into a language.

    >>> dated("18 to 24 Feb 2012", "pt-BR")
    '18 a 24 fev 2012'
    """
    if language == "en":
        return text
    for english, own in zip(say("en", "month").split(), say(language, "month").split(), strict=True):
        text = text.replace(f" {english} ", f" {own} ")
    return text.replace(" to ", " a ")


def alarm_steps(model: ModelState, incident: Incident, language: Language = "en") -> Iterator[Step]:
    """Tell an incident's alarms, the first ones each, then the others folded into one line at the last's time."""
    known = [(model.alarm_times.get(x, ""), model.alarms[x]) for x in incident.alarms if x in model.alarms]
    for time, alarm in known[:SHOWN]:
        yield Step(time, alarm.kind, _told(alarm))
    rest = incident.alarm_count - min(len(known), SHOWN)
    if rest > 0 and len(known) > SHOWN:
        time, last = known[-1]
        over = dated(words(last.window_start, last.window_end), language)
        yield Step(time, last.kind, say(language, "alarms.one" if rest == 1 else "alarms.more", count=rest, time=over))


def _told(alarm: AlarmRaised) -> str:
    if alarm.kind == "performance":
        return alarm.summary
    return f"{alarm.summary}, {words(alarm.window_start, alarm.window_end)}"
