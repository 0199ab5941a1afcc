"""`trilho` alone: what serves, how well, what is open, what waits for whom, and what to do next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from trilho.cli.session import Session

if TYPE_CHECKING:
    from trilho.core.projection import ModelState, Rollout
    from trilho.core.readings import EndpointStatus, LabelStatus, Reading
    from trilho.project import Project

WELCOME = (
    "Trilho takes a validated model to production, and keeps it healthy there.",
    "There is no trilho.toml here. `trilho init NAME` makes a small working project, `trilho demo` shows the whole",
    "line on two real ones, and `trilho --help` lists the verbs.",
)


def show(here: Session) -> None:
    """Say how the project's model is; elsewhere, how to begin."""
    folder = here.folder or Path()
    if here.folder is None and not (folder / "trilho.toml").exists():
        here.say(*WELCOME)
        here.done("trilho demo", model=None)
        return
    from trilho.govern.health import health

    project = here.project
    state, readings = project.state(), project.readings()
    labels, endpoint = project.labels(), project.endpoint()
    found = health(state, readings, labels, endpoint, project.settings)
    here.say(f"{project.name}: {found.word.lower()}. {found.sentence}")
    here.facts(_facts(project, state, readings, labels, endpoint))
    here.say(found.next)
    here.done(found.command or _next(project), model=project.name, health=found.level, sentence=found.sentence,
              **_data(project, state, readings, labels, endpoint))  # fmt: skip


def _facts(
    project: Project,
    state: ModelState,
    readings: list[Reading],
    labels: LabelStatus,
    endpoint: EndpointStatus | None,
) -> list[tuple[str, str | None]]:
    from trilho.govern.wording import moment
    from trilho.project.renewal import UNSEEN, outdated

    champion = state.versions.get(state.champion) if state.champion is not None else None
    waits = outdated(project)
    since = f"version {champion.number}, champion since {moment(champion.serving_since)}" if champion else None
    running = endpoint is not None and endpoint.running
    return [
        ("serves", since or "no version is released"),
        (
            "traffic",
            ", ".join(f"version {v}: {share}%" for v, share in state.shares.items() if share)
            if state.rollout
            else None,
        ),
        (
            "rollout",
            f"version {state.rollout.version}, {_held(state.rollout)}{state.rollout.position}"
            if state.rollout
            else None,
        ),
        ("endpoint", (endpoint.address if endpoint and running else "not running") if champion else None),
        ("quality", _quality([x for x in readings if x.version == state.champion])),
        ("labels", _labels(labels) if labels.served else None),
        *(("open", f"{x.id}: {x.title}") for x in state.open_incidents),
        ("retraining", f"under way, for {state.retraining.cause}" if state.retraining else None),
        ("settings", f"older than trilho.toml: {waits}; restart trilho up" if waits and waits != UNSEEN else None),
    ]


def _held(rollout: Rollout) -> str:
    by = "its predictions lie elsewhere" if rollout.held_by == "shift" else "a person"
    return f"held ({by}), " if rollout.paused else ""


def _quality(readings: list[Reading]) -> str | None:
    from trilho.govern.wording import metric_name, number, window

    last = next((x for x in reversed(readings) if x.value is not None), None)
    if last is None:
        return None
    span = f" ({number(last.low)} to {number(last.high)})" if last.low is not None and last.high is not None else ""
    over = window(last.window_start, last.window_end)
    expected = f"; {number(last.expected)} expected" if last.expected is not None else ""
    return f"{metric_name(last.metric)} {number(last.value)}{span} over {over}{expected}"


def _labels(labels: LabelStatus) -> str:
    from trilho.govern.wording import moment, percent

    until = f"; every row up to {moment(labels.until)} has one" if labels.until else ""
    return f"{labels.labelled:,} of {labels.served:,} served rows ({percent(labels.labelled, labels.served)}){until}"


def _data(
    project: Project,
    state: ModelState,
    readings: list[Reading],
    labels: LabelStatus,
    endpoint: EndpointStatus | None,
) -> dict[str, Any]:
    from dataclasses import asdict

    last = next((x for x in reversed(readings) if x.version == state.champion and x.value is not None), None)
    return {
        "champion": state.champion,
        "shares": state.shares,
        "endpoint": asdict(endpoint) if endpoint else None,
        "quality": asdict(last) if last else None,
        "labels": asdict(labels),
        "incidents": [asdict(x) for x in state.open_incidents],
        "rollout": asdict(state.rollout) if state.rollout else None,
        "retraining": asdict(state.retraining) if state.retraining else None,
        "home": str(project.home),
    }


def _next(project: Project) -> str:
    state = project.state()
    return "trilho train" if not state.versions else "trilho models" if state.champion is None else "trilho watch"
