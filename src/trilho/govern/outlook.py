"""What happens next: by itself, or when somebody acts; one sentence, and the command where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from trilho.config import Settings
from trilho.core.projection import Incident, ModelState, Rollout, Version
from trilho.core.readings import EndpointStatus, Reading
from trilho.govern.wording import count, duration, metric_name


@dataclass(frozen=True)
class Outlook:
    """A sentence on the future of a model; `command` is what a person can type now."""

    text: str
    command: str | None = None


def outlook(
    model: ModelState,
    mine: Sequence[Reading],
    endpoint: EndpointStatus | None,
    settings: Settings | None,
    worse: bool = False,
) -> Outlook:
    """Say what happens next by itself, or what waits for whom; `mine` are the champion's readings.

    `worse` says that its newest measured window is worse than allowed, though no incident is open.
    """
    if model.champion is not None and (endpoint is None or not endpoint.running):
        return Outlook("Its endpoint starts with the platform.", "trilho up")
    if model.rollout is not None:
        return _during(model.rollout, settings)
    if model.retraining is not None:
        return _retraining(model)
    if model.open_incidents:
        return _incident(model, model.open_incidents[0], settings)
    waiting = _waiting(model)
    if waiting is not None:
        return _judged(waiting, settings)
    if model.champion is None:
        trained = any(run.trains for run in model.runs.values())
        tried = "When what failed is put right, the next run resumes there." if trained else ""
        return Outlook(tried or "The first version has to be trained.", "trilho train")
    newest = next((run for run in reversed(model.runs.values()) if run.trains), None)
    if newest is not None and newest.state == "failed":
        text = "When what failed is put right, the next run resumes there; the champion keeps serving."
        return Outlook(text, f"trilho runs show {newest.id}")
    if not any(x.labelled for x in mine):
        return Outlook("Quality is measured as labels arrive, drift with every window.", "trilho labels")
    if worse:
        text = "One window is no alarm: if it stays so the detector raises one, and a retraining follows."
        return Outlook(text, "trilho retrain")
    return Outlook("Nothing to do: the next window is measured when it closes.")


def _during(rollout: Rollout, settings: Settings | None) -> Outlook:
    if rollout.paused:
        shifted = rollout.held_by == "shift"
        why = " since its predictions lie elsewhere" if shifted else ""
        text = f"The rollout of version {rollout.version} is held{why}, {rollout.position}; somebody must let it go on."
        return Outlook(text, "trilho rollout" if shifted else "trilho rollout next")
    later = [step for step in rollout.steps if step > rollout.share]
    goal = f"goes to {later[0]}%" if later else "is complete"
    needed = f"after {count(settings.serve.canary_requests, 'request')}" if settings else "after enough requests"
    rival = "the champion" if rollout.champion is None else f"version {rollout.champion}"
    if rollout.in_shadow:
        needed = f"after {count(settings.serve.shadow_requests, 'answer')}" if settings else "after enough answers"
        text = f"Version {rollout.version} is {rollout.position} and {goal} of traffic {needed} without more errors"
        return Outlook(f"{text} than {rival}; otherwise it is rolled back by itself.", "trilho rollout")
    text = f"Version {rollout.version} takes {rollout.share}% of traffic and {goal} {needed} without more errors than"
    return Outlook(f"{text} {rival}; otherwise it is rolled back by itself.", "trilho rollout")


def _retraining(model: ModelState) -> Outlook:
    retraining = model.retraining
    cause = retraining.cause if retraining else ""
    reason = "because a person asked" if cause == "a person" else f"because of {cause}"
    return Outlook(
        f"A retraining is under way {reason}. Its version must beat version {model.champion} on the newest held-out "
        "rows before it gets any traffic; if it does not, nothing changes for users."
    )


def _incident(model: ModelState, incident: Incident, settings: Settings | None) -> Outlook:
    tried = [x for x in model.retrainings.values() if x.incident == incident.id and x.result]
    if tried:
        result = tried[-1].result
        what = f"A retraining for it ended: {result}."
        return Outlook(f"{what} Version {model.champion} keeps serving until one does better.", "trilho retrain")
    automatic = settings is None or (
        settings.retrain.drift if incident.kind in ("drift", "prediction") else settings.retrain.performance
    )
    if incident.kind == "quality" or not automatic:
        return Outlook("Nothing happens by itself: a person decides whether to retrain.", "trilho retrain")
    return Outlook(f"A retraining starts by itself{_not_before(model, settings)}.", "trilho retrain")


def _not_before(model: ModelState, settings: Settings | None) -> str:
    last = next(reversed(model.retrainings.values()), None)
    if last is None or settings is None:
        return ""
    if last.data_time is None:
        return f", {duration(settings.retrain.cooldown.total_seconds())} after the last one at the earliest"
    free = datetime.fromisoformat(last.data_time) + settings.retrain.cooldown
    return f" once the data has reached {free:%d %b %Y} (cooldown after the last one)"


def _waiting(model: ModelState) -> Version | None:
    newest = max(model.versions.values(), key=lambda x: x.number, default=None)
    if newest is None or newest.number <= (model.champion or 0):
        return None
    was_out = any(x.version == newest.number for x in model.rollouts.values())
    return None if was_out or newest.gate is None or (newest.gate.verdict == "fail" and model.champion) else newest


def _judged(version: Version, settings: Settings | None) -> Outlook:
    name = f"Version {version.number}"
    verdict = version.gate.verdict if version.gate else "not enough data"
    if verdict == "fail":
        return Outlook(
            f"{name} did not pass the gate on {metric_name(version.metric)}; another must be trained.", "trilho train"
        )
    if verdict == "not enough data":
        return Outlook(f"{name} could not be judged: not enough held-out rows yet.", "trilho train")
    if settings is not None and settings.gate.approval and version.approved_by is None:
        return Outlook(
            f"{name} passed the gate and waits for an approval by somebody other than its author.",
            f"trilho approve {version.number}",
        )
    return Outlook(f"{name} passed the gate and waits for its release.", f"trilho release {version.number}")
