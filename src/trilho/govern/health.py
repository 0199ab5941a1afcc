"""How a model is: four levels, each with its evidence. Green needs measurements; without them a model is grey.

The rule is short enough to stand on the page (`RULE`), and every level comes with the checks that led to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from trilho.config import Settings
from trilho.core.journal import now as journal_now
from trilho.core.metrics import HIGHER_IS_BETTER
from trilho.core.projection import ModelState
from trilho.core.readings import EndpointStatus, LabelStatus, Reading
from trilho.govern.outlook import Outlook, outlook
from trilho.govern.wording import count, duration, metric_name, number, percent, since, window

Level = Literal["bad", "warn", "ok", "unknown"]
WORDS: dict[Level, str] = {"bad": "In trouble", "warn": "Needs a look", "ok": "Healthy", "unknown": "Not known"}
RANK: dict[Level, int] = {"bad": 3, "warn": 2, "unknown": 1, "ok": 0}
FRESH_WINDOWS = 35  # a month of days: older evidence no longer makes a model green
SEEN_SECONDS = 120.0  # a supervisor that was not heard of for longer may be gone
ERROR_SHARE = 0.01
RULE = (
    "Healthy: a version is released and its endpoint answers, no incident is open, and the newest labelled window of "
    f"that version, at most {FRESH_WINDOWS} windows back, is no worse than allowed. "
    "In trouble: the endpoint is down, or an incident of high severity is open. "
    "Needs a look: anything else that is open, worse than allowed or failing. "
    "Not known: no such evidence yet, which is never shown as healthy."
)


@dataclass(frozen=True)
class Check:
    """One fact that a level rests on."""

    name: str
    level: Level
    text: str


@dataclass(frozen=True)
class Health:
    """A model's level, in words too; `next` says what happens by itself or what to do, `harm` sorts."""

    level: Level
    sentence: str
    next: str
    command: str | None
    harm: float
    checks: tuple[Check, ...]

    @property
    def word(self) -> str:
        """Give the level in words."""
        return WORDS[self.level]


def health(
    model: ModelState,
    readings: Sequence[Reading],
    labels: LabelStatus | None,
    endpoint: EndpointStatus | None,
    settings: Settings | None = None,
    now: str | None = None,
) -> Health:
    """Say how a model is, from what the journal, the readings, the labels and the endpoint say."""
    now = now or journal_now()
    mine = [x for x in readings if x.version == model.champion]
    checks = (
        _released(model),
        _endpoint(model, endpoint, now),
        _incidents(model, mine),
        _measured(model, mine, labels, settings),
        _drift(mine),
        *_training(model),
    )
    level = _level(checks)
    newest = measured(mine)
    path: Outlook = outlook(model, mine, endpoint, settings, newest is not None and worse(newest, settings))
    return Health(level, _sentence(model, checks, level), path.text, path.command, _harm(level, model, mine), checks)


def measured(readings: Sequence[Reading]) -> Reading | None:
    """Give the newest reading whose metric was computed from labels, of enough of them to say how sure it is."""
    known = (x for x in reversed(readings) if x.value is not None and x.low is not None and x.labelled)
    return next(known, None)


def allowed(reading: Reading, settings: Settings | None) -> float | None:
    """Give the worst value that is no worse than allowed; None where nothing was expected.

    What is lost may grow by the settings' share: the error itself, or what a score lacks of 1.
    """
    if reading.expected is None:
        return None
    growth = 1 + (settings.watch.degradation if settings else 0.1)
    return 1 - (1 - reading.expected) * growth if _rises(reading) else reading.expected * growth


def worse(reading: Reading, settings: Settings | None) -> bool:
    """Say whether the whole interval of a reading is worse than allowed."""
    limit = allowed(reading, settings)
    if limit is None or reading.low is None or reading.high is None:
        return False
    return reading.high < limit if _rises(reading) else reading.low > limit


def _rises(reading: Reading) -> bool:
    return reading.metric in HIGHER_IS_BETTER


def by_harm(levels: dict[str, Health]) -> list[str]:
    """Order model names, the most harmed first, then by name."""
    return sorted(levels, key=lambda name: (-levels[name].harm, name))


def measurement(reading: Reading) -> str:
    """Give a reading's metric with its interval, in words."""
    interval = "" if reading.low is None else f" ({number(reading.low)} to {number(reading.high)})"
    return f"{metric_name(reading.metric)} {number(reading.value)}{interval}"


def _released(model: ModelState) -> Check:
    if model.champion is None:
        return Check("Release", "unknown", "no version is released")
    return Check("Release", "ok", f"version {model.champion} is released")


def _endpoint(model: ModelState, endpoint: EndpointStatus | None, now: str) -> Check:
    if model.champion is None or endpoint is None:
        return Check("Endpoint", "unknown", "no endpoint has been seen")
    if not endpoint.running:
        return Check("Endpoint", "bad", "the endpoint is down")
    if endpoint.updated and since(endpoint.updated, now) > SEEN_SECONDS:
        return Check(
            "Endpoint", "unknown", f"its supervisor was last heard of {duration(since(endpoint.updated, now))} ago"
        )
    if endpoint.versions.get(model.champion, "down") == "down":
        return Check("Endpoint", "bad", f"version {model.champion} is down")
    requests = sum(x.requests for x in endpoint.stats.values())
    errors = sum(x.errors for x in endpoint.stats.values())
    text = f"answers; {count(errors, 'error')} in {count(requests, 'request')}"
    return Check("Endpoint", "warn" if requests and errors / requests > ERROR_SHARE else "ok", text)


def _incidents(model: ModelState, mine: Sequence[Reading]) -> Check:
    still = model.open_incidents
    if still:
        worst: Level = "bad" if any(x.severity == "high" for x in still) else "warn"
        return Check("Incidents", worst, f"{count(len(still), 'incident')} open")
    if not mine:
        return Check("Incidents", "unknown", "no window of this version was watched yet")
    return Check("Incidents", "ok", "none open")


def _measured(
    model: ModelState, mine: Sequence[Reading], labels: LabelStatus | None, settings: Settings | None
) -> Check:
    last = measured(mine)
    if last is None:
        some = ""
        if labels and labels.served:
            some = f"; {percent(labels.labelled, labels.served)} of all served rows are labelled"
        few = "too few" if any(x.labelled for x in mine) else "no"
        return Check("Quality", "unknown", f"{few} labels for this version yet{some}")
    text = f"{measurement(last)} over {window(last.window_start, last.window_end)}"
    behind = len(mine) - 1 - mine.index(last)
    if behind > FRESH_WINDOWS:
        return Check("Quality", "unknown", f"{text}; no labels for the {behind} windows since")
    if worse(last, settings):
        return Check("Quality", "warn", f"{text}, worse than the {number(allowed(last, settings))} allowed")
    expected = "" if last.expected is None else f", {number(last.expected)} expected"
    return Check("Quality", "ok", text + expected)


def _drift(mine: Sequence[Reading]) -> Check:
    if not mine:
        return Check("Drift", "unknown", "nothing was watched yet")
    last = mine[-1]
    if last.evidence >= last.threshold:
        return Check("Drift", "warn", f"evidence reached its threshold in {window(last.window_start, last.window_end)}")
    return Check("Drift", "ok", f"no alarm in {window(last.window_start, last.window_end)}")


def _training(model: ModelState) -> list[Check]:
    last = next((run for run in reversed(model.runs.values()) if run.trains), None)
    failed = last is not None and last.state == "failed"
    return [Check("Training", "warn", f"the newest run, {last.id}, failed")] if last is not None and failed else []


def _level(checks: Sequence[Check]) -> Level:
    levels: set[Level] = {check.level for check in checks}
    return max(levels, key=lambda level: RANK[level])


def _sentence(model: ModelState, checks: Sequence[Check], level: Level) -> str:
    if model.champion is None:
        failed = _training(model)
        return f"Nothing serves yet: {failed[0].text if failed else 'no version is released'}."
    told = {check.name: check for check in checks}
    serves = f"Version {model.champion} serves"
    if told["Endpoint"].level == "bad":
        return f"Nothing answers: version {model.champion} is released, but {told['Endpoint'].text}."
    worst = max(model.open_incidents, key=lambda x: ("low", "medium", "high").index(x.severity), default=None)
    if worst is not None:
        return f"{worst.title}. {serves} meanwhile."
    if level == "ok":
        return f"{serves}, no worse than allowed: {told['Quality'].text}."
    troubled = next(check for check in checks if check.level == level)
    if level == "unknown" and troubled.name in ("Incidents", "Quality", "Drift"):
        return f"{serves}; how well is not known: {told['Quality'].text}."
    return f"{serves}; {troubled.name.lower()}: {troubled.text}."


def _harm(level: Level, model: ModelState, mine: Sequence[Reading]) -> float:
    last = measured(mine)
    excess = 0.0
    if last is not None and last.value and last.expected:
        ratio = last.value / last.expected
        excess = max(0.0, (1 / ratio if _rises(last) else ratio) - 1)
    return 100 * RANK[level] + 10 * min(len(model.open_incidents), 5) + min(excess, 9.0)
