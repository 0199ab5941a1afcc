"""A person's leave for a release: by somebody who did not make the version."""

from __future__ import annotations

import json
from pathlib import Path

from trilho.core import records as r
from trilho.core.journal import whoami
from trilho.core.projection import ModelState, Version
from trilho.errors import NotYet, Refused, UsageError


def author(state: ModelState, version: Version) -> str | None:
    """Name who started the run that left the version; None when the journal does not know the run."""
    run = state.runs.get(version.run)
    return run.actor if run is not None else None


def approve(state: ModelState, version: int, why: str, actor: str | None = None) -> r.VersionApproved:
    """Give the record of an approval. Raises Refused for the version's author, and for what the gate refused."""
    target = state.versions.get(version)
    if target is None:
        known = ", ".join(map(str, state.versions)) or "none"
        raise UsageError(f"{state.name} has no version {version}; it has: {known}", hint="trilho models")
    who = actor or whoami()
    if who == author(state, target):
        raise Refused(
            f"{who} started the run that made version {version}, and cannot approve it",
            hint="somebody else types: trilho approve " + str(version),
        )
    if target.gate is not None and target.gate.verdict == "fail":
        raise Refused(f"the gate refused version {version}", hint=f"trilho models show {version}")
    return r.VersionApproved(model=state.name, version=version, why=why)


def require(state: ModelState, version: Version) -> None:
    """Raise NotYet while nobody but the author has approved the version."""
    if version.approved_by is None or version.approved_by == author(state, version):
        who = author(state, version)
        raise NotYet(
            f"version {version.number} of {state.name} waits for approval" + (f" by somebody but {who}" if who else ""),
            hint=f"trilho approve {version.number}",
        )


def require_pass(version: Version) -> None:
    """Raise Refused for what the gate failed, NotYet for what it could not judge."""
    gate = version.gate
    if gate is None or gate.verdict == "not enough data":
        said = "was not judged" if gate is None else f"was not judged: {gate.evidence.get('reason', 'not enough data')}"
        raise NotYet(f"version {version.number} {said}", hint="trilho train judges again once there is more data")
    if gate.verdict == "fail":
        raise Refused(
            f"the gate refused version {version.number}: {gate.evidence.get('reason', 'not better than the champion')}",
            hint=f"trilho models show {version.number}",
        )


def require_online(package: Path) -> None:
    """Raise Refused for a model that answers whole tables only: an endpoint is asked for rows."""
    file = package / "manifest.json"
    manifest = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}  # the server says what lacks
    if manifest.get("batch_only"):
        raise Refused(
            f"{manifest['name']} answers whole tables only, since its features look at past rows: it gets no endpoint",
            hint="name its past in [history], or predict tables with the project's own predict module",
        )
