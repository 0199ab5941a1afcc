"""The handover: one page from the journal that says what runs, how changes reach users, and who answered for what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from trilho.config import Settings
from trilho.core.projection import Incident, ModelState, Rollout
from trilho.core.readings import EndpointStatus, LabelStatus, Reading
from trilho.govern import wording
from trilho.govern.health import RULE, Health, by_harm, health, measured
from trilho.govern.lead_time import lead_times

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class ModelFacts:
    """All that is known about one model, from the journal, the watch and the endpoint."""

    state: ModelState
    readings: Sequence[Reading] = field(default_factory=list)
    labels: LabelStatus | None = None
    endpoint: EndpointStatus | None = None
    settings: Settings | None = None

    def health(self, now: str) -> Health:
        """Say how the model is."""
        return health(self.state, self.readings, self.labels, self.endpoint, self.settings, now)


def report_data(models: Sequence[ModelFacts], *, now: str, head: str) -> dict[str, Any]:
    """Give the handover as JSON values; `head` is the journal's head, so that a reader can verify what it rests on.

    What was not measured is null.
    """
    levels = {facts.state.name: facts.health(now) for facts in models}
    named = {facts.state.name: facts for facts in models}
    return {
        "schema": 1,
        "made": now,
        "head": head,
        "rule": RULE,
        "models": [_model(named[name], levels[name], now) for name in by_harm(levels)],
    }


def handover(
    data: Mapping[str, Any], figures: Mapping[str, str] | None = None, *, css: str = "", defs: str = ""
) -> str:
    """Give the handover as one HTML file that needs nothing else and prints well.

    `figures` are markup, one for each model that has one; `css` and `defs` are what they need to be drawn.
    """
    template = _environment().get_template("handover.html")
    style = stylesheet("tokens.css", "report.css") + css
    return str(template.render(data=data, css=style, defs=defs, figures=figures or {}))


def stylesheet(*names: str) -> str:
    """Give style sheets of this package, joined."""
    return "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names)


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # costs start-up time only where a page is made

    env = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    env.filters.update(FILTERS)
    return env


FILTERS = {
    "number": wording.number,
    "duration": wording.duration,
    "moment": wording.moment,
    "served": wording.served,
    "metric_name": wording.metric_name,
    "share": lambda part: wording.NOT_MEASURED if part is None else wording.percent(part, 1),
    "count": wording.count,
}


def _model(facts: ModelFacts, level: Health, now: str) -> dict[str, Any]:
    state, settings = facts.state, facts.settings
    return {
        "name": state.name,
        "task": settings.model.task if settings else None,
        "owner": settings.model.owner if settings else None,
        "health": {"level": level.level, "word": level.word, "sentence": level.sentence, "next": level.next},
        "checks": [asdict(check) for check in level.checks],
        "champion": _champion(facts),
        "lead_times": asdict(lead_times(state, now)),
        "failed_share": lead_times(state, now).failures.share,
        "retrainings": _retrainings(state),
        "incidents": [_incident(x) for x in reversed(state.incidents.values())],
        "releases": [_release(state, x) for x in reversed(state.rollouts.values())],
    }


def _champion(facts: ModelFacts) -> dict[str, Any] | None:
    version = facts.state.versions.get(facts.state.champion or 0)
    if version is None:
        return None
    last = measured([x for x in facts.readings if x.version == version.number])
    return {
        "version": version.number,
        "since": version.serving_since,
        "package": version.package,
        "dataset": version.dataset,
        "data_until": version.data_until,
        "commit": version.commit,
        "metric": version.metric,
        "trained": version.metrics.get(version.metric),
        "served": None
        if last is None
        else {
            "value": last.value,
            "low": last.low,
            "high": last.high,
            "window": wording.window(last.window_start, last.window_end),
        },
    }


def _retrainings(state: ModelState) -> dict[str, int]:
    ended = [x.result for x in state.retrainings.values() if x.result]
    return {
        result: ended.count(result) for result in ("promoted", "rejected", "unchanged", "not enough data", "failed")
    }


def _incident(incident: Incident) -> dict[str, Any]:
    return {
        "id": incident.id,
        "kind": incident.kind,
        "severity": incident.severity,
        "title": incident.title,
        "version": incident.version,
        "opened": incident.opened,
        "acknowledged_by": incident.acknowledged_by,
        "closed": incident.closed,
        "seconds": wording.since(incident.opened, incident.closed) if incident.closed else None,
        "reason": incident.reason,
    }


def _release(state: ModelState, rollout: Rollout) -> dict[str, Any]:
    version = state.versions.get(rollout.version)
    run = state.runs.get(version.run) if version else None
    return {
        "version": rollout.version,
        "trained_by": run.actor if run else None,
        "trigger": run.trigger if run else None,
        "gate": version.gate.verdict if version and version.gate else None,
        "approved_by": version.approved_by if version else None,
        "released_by": rollout.actor,
        "why": rollout.why,
        "started": rollout.started,
        "outcome": rollout.outcome or "under way",
        "seconds": wording.since(rollout.started, rollout.ended) if rollout.ended else None,
        "note": rollout.note,
    }
