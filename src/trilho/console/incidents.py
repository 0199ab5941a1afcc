"""What the pages about incidents show, in a language; the templates only lay it out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup

from trilho.console.charts import Chart, metric_chart
from trilho.console.history import history
from trilho.console.views import ModelView, around
from trilho.core.projection import Incident, State
from trilho.core.records import AlarmRaised, Cause
from trilho.govern import wording
from trilho.watch.alerts.telling import reason, title
from trilho.watch.incidents import Terms, measured_effect
from trilho.watch.incidents.lead import figure, lead_of, length
from trilho.watch.incidents.words import dated, effect_words, evidence_words, lead_told, runbook
from trilho.watch.wording import Language, say
from trilho_runtime.profile import PREDICTION

CAP = 8.0  # tolerances; a bar ends there
FILTERS = ("show", "model", "kind", "severity")
SHOWS = ("open", "ended", "all")


@dataclass(frozen=True)
class CauseBar:
    """One cause as a row: its bar, and its figures in words."""

    name: str
    share: str
    distance: str
    tolerance: str
    times: str
    words: str
    bar: Markup


class IncidentView:
    """One incident as its page shows it."""

    def __init__(self, view: ModelView, incident: Incident, now: str, language: Language) -> None:
        self.model, self.incident, self.now, self.language = view, incident, now, language
        known = view.state.alarms
        self.alarms: list[AlarmRaised] = [known[x] for x in incident.alarms if x in known]
        settings = view.facts.settings
        self.terms = Terms.of(settings.watch) if settings else Terms()
        self.runbook_link = settings.watch.runbook if settings else None

    def say(self, key: str, **values: Any) -> str:
        """Say a text of the page."""
        return say(self.language, key, **values)

    def when(self, time: str) -> str:
        """Give a journal's time."""
        return dated(wording.moment(time, self.model.zone), self.language)

    @property
    def title(self) -> str:
        """Give its title."""
        return title(self.model.state, self.incident, self.language)

    @property
    def standing(self) -> str:
        """Give the state it is in now."""
        return self.incident.standing(self.now)

    @property
    def level(self) -> str:
        """Give the level that its badge shows."""
        if self.incident.closed:
            return "ok"
        return "bad" if self.incident.severity == "high" else "warn"

    @property
    def ended(self) -> str:
        """Say how long it lasted and how it ended."""
        incident = self.incident
        lasted = length(self.language, wording.since(incident.opened, incident.closed or self.now))
        return self.say("page.ago", length=lasted, reason=reason(incident.reason or "", self.language))

    @property
    def effect(self) -> str:
        """Say what it does to the metric."""
        readings = self.model.facts.readings
        measured = (measured_effect(x, readings) for x in reversed(self.alarms) if x.kind == "performance")
        known = self.incident.effect or next((x for x in measured if x is not None), None)
        return effect_words(known, self.terms, self.language)

    @property
    def lead(self) -> str:
        """Say its warning lead."""
        lead = lead_of(self.incident, self.model.facts.readings, self.terms)
        return lead_told(replace(self.incident, lead=lead), self.language)

    @property
    def cooldown(self) -> str:
        """Say within which time of its end it would be opened again."""
        return length(self.language, self.terms.cooldown.total_seconds())

    @property
    def newest(self) -> AlarmRaised | None:
        """Give its newest alarm."""
        return self.alarms[-1] if self.alarms else None

    @property
    def evidence(self) -> str:
        """Say how strong the newest alarm's evidence was."""
        if self.newest is None:
            return ""
        told = {"evidence": self.newest.evidence, "threshold": self.newest.threshold}
        return self.say("page.evidence", **{k: evidence_words(v, self.language) for k, v in told.items()})

    def span(self, alarm: AlarmRaised) -> str:
        """Give an alarm's window."""
        return dated(wording.window(alarm.window_start, alarm.window_end), self.language)

    @property
    def bars(self) -> list[CauseBar]:
        """Give the causes of the newest alarm that names any, each with its bar."""
        causes = next((x.causes for x in reversed(self.alarms) if x.causes), self.incident.causes)
        return cause_bars(causes, self.language)

    @property
    def course(self) -> list[tuple[str, str, str, str]]:
        """Give its states so far: the state, its name, when, and who brought it about where a person did."""
        steps = self.incident.course or [(self.incident.opened, self.incident.state, "trilho")]
        return [(s, self.say(f"state.{s}"), self.when(at), "" if who == "trilho" else who) for at, s, who in steps]

    @property
    def runbook(self) -> list[str]:
        """Say what to look at first."""
        return runbook(self.incident, self.language)

    @cached_property
    def chart(self) -> Chart | None:
        """Draw the metric around its alarms."""
        if not self.alarms:
            return None
        first, last = min(a.window_start for a in self.alarms), max(a.window_end for a in self.alarms)
        past = history(self.model.state, around(self.model.facts.readings, first, last))
        if past is None:
            return None
        floor = self.terms.minimum
        told = None if floor is None else (floor, self.say("page.minimum", value=figure(self.language, floor)))
        return metric_chart(past, name="metric-incident", height=150, floor=told)


def cause_bars(causes: Sequence[Cause], language: Language) -> list[CauseBar]:
    """Give causes as rows; bars are in units of what each may move, with the interval where one was kept."""
    most = min(max([2.0, *(max(_times(c), c.get("high", 0.0) / _room(c)) * 1.05 for c in causes)]), CAP)
    rows = []
    for cause in causes:
        distance = figure(language, cause["distance"])
        if "low" in cause and "high" in cause:
            distance += say(
                language, "effect.interval", low=figure(language, cause["low"]), high=figure(language, cause["high"])
            )
        times = _times(cause)
        rows.append(
            CauseBar(
                name=say(language, "predictions") if cause["feature"] == PREDICTION else cause["feature"],
                share=wording.percent(cause["share"], 1), distance=distance,
                tolerance=figure(language, cause["tolerance"]),
                times=f"{times:.1f}×" if times < 100 else ">99×", words=cause.get("words", ""), bar=_bar(cause, most),
            )
        )  # fmt: skip
    return rows


def _room(cause: Cause) -> float:
    return max(cause["tolerance"], 1e-9)


def _times(cause: Cause) -> float:
    return cause["distance"] / _room(cause)


def _bar(cause: Cause, most: float) -> Markup:
    def place(value: float) -> float:
        return min(value / _room(cause) / most, 1.0) * 100

    low, high = cause.get("low", cause["distance"]), cause.get("high", cause["distance"])
    css = "over" if low > cause["tolerance"] else "within"
    whisker = ""
    if high > low:
        a, b = place(low), place(high)
        whisker = f'<line class="whisker" x1="{a:.1f}%" x2="{b:.1f}%" y1="6" y2="6"/>' + "".join(
            f'<line class="whisker" x1="{x:.1f}%" x2="{x:.1f}%" y1="3" y2="9"/>' for x in (a, b)
        )
    limit = 100 / most
    return Markup(  # noqa: S704  numbers only
        '<svg class="cause-bar" width="100%" height="12" aria-hidden="true">'
        '<rect class="track" width="100%" y="2" height="8" rx="1"/>'
        f'<rect class="{css}" width="{place(cause["distance"]):.1f}%" y="2" height="8" rx="1"/>{whisker}'
        f'<line class="limit" x1="{limit:.1f}%" x2="{limit:.1f}%" y1="-1" y2="13"/></svg>'
    )


@dataclass(frozen=True)
class Choice:
    """One filter's value as a link."""

    text: str
    link: str
    chosen: bool


class IncidentList:
    """All incidents of a platform that a filter lets through, newest first, the open ones before."""

    def __init__(self, state: State, asked: Mapping[str, str], now: str, language: Language) -> None:
        self.language, self.now = language, now
        self.asked = {name: asked[name] for name in FILTERS if asked.get(name)}
        self.asked.setdefault("show", "open")
        self._lang = {"lang": asked["lang"]} if asked.get("lang") else {}
        self._state = state
        self.any = any(m.incidents for m in state.models.values())

    def say(self, key: str, **values: Any) -> str:
        """Say a text of the page."""
        return say(self.language, key, **values)

    def when(self, time: str) -> str:
        """Give a journal's time."""
        return dated(wording.moment(time), self.language)

    @cached_property
    def rows(self) -> list[tuple[str, Incident, str, str, str]]:
        """Give model, incident, title, state and lead of what is shown."""
        found = [
            (name, x, title(model, x, self.language), self.say(f"state.{x.standing(self.now)}"), self._lead(x))
            for name, model in self._state.models.items()
            for x in model.incidents.values()
            if self._lets(name, x)
        ]
        return sorted(sorted(found, key=lambda row: row[1].opened, reverse=True), key=lambda row: bool(row[1].closed))

    def _lead(self, incident: Incident) -> str:
        return lead_told(incident, self.language)

    def _lets(self, model: str, incident: Incident) -> bool:
        asked = self.asked
        shown = asked["show"]
        if (shown == "open" and incident.closed) or (shown == "ended" and not incident.closed):
            return False
        values = {"model": model, "kind": incident.kind, "severity": incident.severity}
        return all(asked.get(name, value) == value for name, value in values.items())

    @property
    def filters(self) -> list[tuple[str, list[Choice]]]:
        """Give each filter's name with its choices; a filter with one choice is none."""
        every = [(name, x) for name, model in self._state.models.items() for x in model.incidents.values()]
        kinds, models = sorted({x.kind for _, x in every}), sorted({name for name, _ in every})
        shows = [Choice(self.say(f"page.{x}"), self._to("show", x), self.asked["show"] == x) for x in SHOWS]
        told = [(self.say("page.show"), shows)]
        grades = [x for x in ("high", "medium", "low") if any(i.severity == x for _, i in every)]
        told.append((self.say("page.severity"), self._choices("severity", grades, "severity.")))
        told.append((self.say("page.kind"), self._choices("kind", kinds, "kind.")))
        told.append((self.say("page.model"), self._choices("model", models)))
        return [(name, choices) for name, choices in told if len(choices) > 2]

    def _choices(self, name: str, values: Iterable[str], key: str = "") -> list[Choice]:
        asked = self.asked.get(name)
        every = Choice(self.say("page.all"), self._to(name, None), asked is None)
        return [every, *(Choice(self.say(key + x) if key else x, self._to(name, x), asked == x) for x in values)]

    def _to(self, name: str, value: str | None) -> str:
        asked = {**self.asked, **({name: value} if value else {}), **self._lang}
        if value is None:
            asked.pop(name, None)
        return f"/incidents?{urlencode(asked)}"
