"""A rollout elsewhere: the endpoint of an environment is made to be what the journal says should serve.

The decision is on record before anything moves, and what is asked for follows from all records, not from the last one:
whoever was cut off in between, or comes second, calls again. A version is deployed before it gets traffic; one that no
longer gets any stays deployed for a while, so that to go back to it takes one update of the traffic split.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from trilho.core import records as r
from trilho.core.ports import Endpoint, Served, ServedPackage, Split
from trilho.core.projection import ModelState
from trilho.errors import UsageError
from trilho.remote.environment import EMULATED_IMAGE, Target, image_of
from trilho.remote.run import Say, target_of

if TYPE_CHECKING:
    from trilho.backends.gcp.models import Machine
    from trilho.project import Project

MOVING = (r.RolloutStarted, r.RolloutStepped, r.RolloutEnded, r.ChampionRestored)
"""The records that change who answers."""
WARM = timedelta(hours=24)
"""How long the version that served before stays deployed."""


def carry_out(
    project: Project,
    environment: str,
    payload: r.Payload | None = None,
    *,
    endpoint: Endpoint | None = None,
    say: Say = lambda _line: None,
) -> Served:
    """Apply a rollout record, which is in the journal, to an environment's endpoint; give what is there then.

    Without a record everything that the journal says is applied, as with one that changes who answers; others change
    nothing. Raises what the endpoint does: then what served goes on serving, and the same may be called again.
    """
    chosen = endpoint or endpoint_of(project, environment, say=say)
    if payload is not None and not isinstance(payload, MOVING):
        return chosen.status()
    state = project.reader.state()
    return follow(
        chosen,
        state.model(project.name),
        project.package,
        sticky=project.settings.serve.sticky,
        position=state.seq,
        say=say,
    )


def endpoint_of(
    project: Project, environment: str, *, machine: Machine | None = None, say: Say = lambda _line: None
) -> Endpoint:
    """Give a model's endpoint in an environment. Raises ConfigError or UsageError where there cannot be one."""
    from trilho.backends.gcp.endpoint import VertexEndpoint
    from trilho.backends.gcp.store import GcsStore

    target = target_of(project, "vertex", environment, say)
    store = target.store
    if not isinstance(store, GcsStore):
        raise UsageError(f"{target.environment.bucket} is not in Cloud Storage", hint='bucket = "gs://NAME"')
    return VertexEndpoint(
        store.files.cloud,
        store,
        model=project.name,
        image=_image(target, project.name),
        settings=project.settings.serve,
        machine=machine or _machine(target),
        log=_log(target, project, say),
        inside=target.environment.service_account is not None,
        kept=project.home / "endpoints" / project.name / f"vertex-{target.name}.json",
    )


def _machine(target: Target) -> Machine:
    from trilho.backends.gcp.models import Machine

    least, most = target.environment.replicas
    return Machine(type=target.environment.machine, least_replicas=least, most_replicas=most)


def _log(target: Target, project: Project, say: Say) -> str | None:
    """Say where Vertex AI logs requests: nowhere where the servers publish them, or where columns are to be masked."""
    serve = project.settings.serve
    if serve.topic:
        return None
    if serve.mask:
        say(
            "predictions are not logged: Vertex AI's own log masks no column (serve.mask); "
            "what is published to serve.topic is masked"
        )
        return None
    return f"bq://{target.environment.project}"


def _image(target: Target, model: str) -> str:
    return image_of(target) or f"{EMULATED_IMAGE}{model}"


def follow(
    endpoint: Endpoint,
    model: ModelState,
    package: Callable[[int], Path],
    *,
    sticky: str | None = None,
    position: int | None = None,
    now: datetime | None = None,
    say: Say = lambda _line: None,
) -> Served:
    """Deploy what is to answer, move the traffic, take away what nobody needs any longer; give what is there then."""
    split = split_of(model, sticky, position)
    if split is None:
        return endpoint.status()
    there = endpoint.status()
    for version in dict.fromkeys([*split.versions, *_under_way(model)]):
        if there.versions.get(version) != "ready":
            say(f"version {version} of {model.name} is being deployed")
            endpoint.deploy(ServedPackage(version=version, package=package(version)))
    if there.split != split:
        endpoint.route(split)
    needed = {*split.versions, *_under_way(model), *_warm(model, now or datetime.now(UTC))}
    for version in sorted(there.versions.keys() - needed):
        endpoint.undeploy(version)
        say(f"version {version} of {model.name} is no longer deployed")
    return endpoint.status()


def split_of(model: ModelState, sticky: str | None = None, position: int | None = None) -> Split | None:
    """Say who should answer now, and who is asked unseen; None while nothing serves.

    >>> split_of(ModelState("m", champion=2), position=9)
    Split(shares={2: 100}, shadow=None, shadow_share=100, sticky=None, position=9)
    """
    shares, rollout = model.shares, model.rollout
    if not shares:
        return None
    unseen = rollout if rollout is not None and rollout.in_shadow else None
    return Split(
        shares=shares,
        shadow=unseen.version if unseen is not None else None,
        shadow_share=unseen.shadow if unseen is not None else 100,
        sticky=((rollout.sticky if rollout is not None else None) or sticky) if len(shares) > 1 else None,
        position=position,
    )


def _under_way(model: ModelState) -> list[int]:
    """Give the version on its way, deployed before its first share, and the one that a rollback goes back to."""
    rollout = model.rollout
    return [] if rollout is None else [rollout.version, *([] if rollout.champion is None else [rollout.champion])]


def _warm(model: ModelState, now: datetime) -> set[int]:
    """Give the version that a rollback would go back to, for a while."""
    line = model.succession
    if len(line) < 2:
        return set()
    since = datetime.fromisoformat(model.champions[-1][0])
    return {line[-2]} if now - since < WARM else set()
