"""What must be kept: all that a version needs which serves, served or may be released, and what the newest run left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from trilho.core.projection import ModelState, State, Version


def live_versions(state: ModelState) -> list[Version]:
    """Give the versions that serve, have served, are on their way, or passed the gate; and the newest."""
    once = {version for _, version in state.champions}
    ways = {rollout.version for rollout in state.rollouts.values()}
    newest = max(state.versions, default=None)
    return [
        version
        for number, version in state.versions.items()
        if number in once or number in ways or number == newest or (version.gate and version.gate.verdict == "pass")
    ]


def live_runs(state: ModelState) -> set[str]:
    """Give the runs whose outputs are still worth having: of live versions, and the newest."""
    newest = next(reversed(state.runs), None)
    return {version.run for version in live_versions(state)} | ({newest} if newest else set())


def live_digests(
    state: State, files_of: Callable[[str], Iterable[str]], caches: Iterable[Mapping[str, Any]]
) -> set[str]:
    """Give the digests of all artifacts that must stay, over all models of a home.

    `files_of` gives the digests of a dataset version's files; `caches` are the manifests of finished tasks, each with
    the `run` that did it and its `outputs`.
    """
    keep: set[str] = set()
    runs: set[str] = set()
    for model in state.models.values():
        runs |= live_runs(model)
        for version in live_versions(model):
            keep |= {version.package, version.dataset, *files_of(version.dataset)}
    for cache in caches:
        if cache.get("run") in runs:
            keep |= {str(digest) for digest in cache.get("outputs", {}).values()}
    return keep
