"""What must be kept: what a version that serves or may serve needs, what is being made, and what a person pinned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from trilho.core import records as r
from trilho.core.projection import ModelState, State, Version
from trilho.errors import UsageError

NEVER = 0  # no version has this number


def live_versions(state: ModelState) -> list[Version]:
    """Give the versions that something needs: all that they are made of stays as well.

    These are the champion and the one that `trilho rollback` would put back, the one on its way, those that passed the
    gate and are newer than the champion, so that they may be released yet, the newest, and those that are pinned.
    """
    needed = {*state.succession[-2:], max(state.versions, default=NEVER)}
    if state.rollout is not None:
        needed |= {state.rollout.version, state.rollout.champion or NEVER}
    return [
        version
        for number, version in state.versions.items()
        if number in needed or version.pinned is not None or _may_be_released(version, state)
    ]


def _may_be_released(version: Version, state: ModelState) -> bool:
    passed = version.gate is not None and version.gate.verdict == "pass"
    return passed and version.number > (state.champion or NEVER)


def live_runs(state: ModelState) -> set[str]:
    """Give the runs whose outputs are still worth having: of live versions, those under way, and the newest."""
    newest = list(state.runs)[-1:]  # where it failed, the next one goes on from it
    running = [run.id for run in state.runs.values() if run.state == "running"]
    return {*(version.run for version in live_versions(state)), *running, *newest}


def live_digests(
    state: State, files_of: Callable[[str], Iterable[str]], caches: Iterable[Mapping[str, Any]]
) -> set[str]:
    """Give the digests of all artifacts that must stay, over all models of a home.

    `files_of` gives the digests of a dataset version and its files; `caches` are the manifests of finished tasks, each
    with the `run` that did it and its `outputs`.
    """
    keep: set[str] = set()
    runs: set[str] = set()
    for model in state.models.values():
        live = live_runs(model)
        datasets = {version.dataset for version in live_versions(model)} | {
            run.dataset for run in model.runs.values() if run.id in live and run.dataset
        }
        keep |= {version.package for version in live_versions(model)}
        keep |= {decision.artifact for decision in model.decisions.values()}  # a few files each: any may hold again
        keep |= {digest for dataset in datasets for digest in (dataset, *files_of(dataset))}
        runs |= live
    for cache in caches:
        if cache.get("run") in runs:
            keep |= {str(digest) for digest in cache.get("outputs", {}).values()}
    return keep


def pin(state: ModelState, version: int, pinned: bool, why: str) -> r.VersionPinned:
    """Give the record that keeps a version from being freed, or lets it go. Raises UsageError where it does already."""
    known = state.versions.get(version)
    if known is None:
        numbers = ", ".join(map(str, state.versions)) or "none"
        raise UsageError(f"{state.name} has no version {version}; it has: {numbers}", hint="trilho models")
    if (known.pinned is not None) == pinned:
        raise UsageError(f"version {version} is {'' if pinned else 'not '}pinned{' already' if pinned else ''}")
    return r.VersionPinned(model=state.name, version=version, pinned=pinned, why=why)
