"""A version's way to full traffic, as a pure state machine: what the journal and the counters say in, a record out.

    started -> shadow -> share 1 -> ... -> 100% -> full
                 |          |               |
                 +----------+---------------+--> rolled back (by itself, or by a person) or aborted (by a person)

The shadow is there where it is asked for. Wherever it stands, a version without enough answers waits there. The same
machine serves whatever splits the traffic: it never asks where the versions run, and `Capabilities` say beforehand what
of it can be had there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from trilho.core import records as r
from trilho.core.capabilities import ROUTER, Capabilities
from trilho.core.projection import ModelState, Rollout
from trilho.core.readings import ShadowStats, VersionStats
from trilho.errors import NotYet, Refused, UsageError
from trilho.release.telling import tell

if TYPE_CHECKING:
    from trilho.config import Serve
    from trilho.release.comparison import Finding

FAILED_STARTS, FAILED_RESTARTS = 3, 5  # in a row, of a server that has answered nothing yet, or has answered

MOVES = ("next", "pause", "resume", "abort")


def start(
    state: ModelState,
    version: int,
    serve: Serve,
    why: str,
    *,
    shadow: int | None = None,
    sticky: str | None = None,
    hold: int | None = None,
    where: Capabilities = ROUTER,
) -> list[r.Payload]:
    """Begin a version's way: unseen, or with its first share of traffic, or all of it where nothing serves yet.

    `shadow` and `sticky` replace the settings' own; with `hold` it stays at that share until a person, or its labels,
    decide. Raises UsageError for what cannot be had `where` it is to serve.
    """
    champion = state.champion
    mirrored = (serve.shadow if shadow is None else shadow) if champion is not None else 0
    steps = _steps(serve.canary, hold) if champion is not None else [100]
    key = sticky or serve.sticky
    where.require(shadow=mirrored, sticky=key, shares=steps != [100])
    begun = r.RolloutStarted(
        model=state.name,
        rollout=f"rollout-{len(state.rollouts) + 1}",
        version=version,
        champion=champion,
        steps=steps,
        why=why,
        shadow=mirrored,
        sticky=key,
        hold=hold if champion is not None else None,
    )
    common: dict[str, Any] = {"model": state.name, "rollout": begun.rollout, "version": version}
    if champion is None:
        first = "nothing served before it"
        return [begun, r.RolloutEnded(**common, outcome="full", champion=version, why=first)]
    if mirrored:
        return [begun]
    return [begun, r.RolloutStepped(**common, share=steps[0], evidence={})]


def _steps(canary: Sequence[int], hold: int | None) -> list[int]:
    """Give the shares of a rollout, with the one at which it is to stay.

    >>> _steps([10, 50, 100], 30)
    [10, 30, 50, 100]
    """
    if hold is None:
        return list(canary)
    if not 0 < hold < 100:
        raise UsageError(f"hold is {hold}; a share at which both versions answer lies between 1 and 99")
    return sorted({*canary, hold})


def explain(state: ModelState, version: int, serve: Serve, begun: Sequence[r.Payload] = ()) -> list[str]:
    """Say in plain lines what `start` would do, or has begun."""
    if state.champion is None:
        return [f"version {version} of {state.name} gets all traffic at once: nothing serves yet"]
    first = begun[0] if begun else start(state, version, serve, "")[0]
    assert isinstance(first, r.RolloutStarted)
    shares = ", then ".join(f"{share}%" for share in first.steps)
    lines = [f"version {version} of {state.name} takes over from version {state.champion}"]
    if first.shadow:
        lines.append(
            f"first it is asked about {first.shadow}% of the requests unseen, until {serve.shadow_requests} answers "
            f"are compared with those of version {state.champion}"
        )
    lines.append(
        f"it gets {shares} of the requests, each share once it has answered {serve.canary_requests} at the one before"
    )
    if first.hold is not None:
        lines.append(f"it stays at {first.hold}% until its labels show that it loses less, or a person decides")
    if first.sticky is not None:
        lines.append(f"requests with the same {first.sticky} stay with the version that answered them")
    lines.append(
        f"it is rolled back by itself if it fails significantly more often than version {state.champion}, takes over "
        "twice as long, or loses more on labelled rows; it is held for a person if its predictions lie elsewhere"
    )
    return lines


def advance(
    rollout: Rollout,
    stats: Mapping[int, VersionStats],
    serve: Serve,
    now: datetime,
    failed_starts: int = 0,
    last_words: str = "",
    *,
    shadow: ShadowStats | None = None,
) -> r.Payload | None:
    """Say what happens to a rollout under way, from what its versions answered since its present part began.

    It is rolled back when the version fails, or refuses, more often than the champion, takes too long, or loses more on
    labelled rows. All tests are e-processes, so that they may be looked at after every request, and a version no worse
    than the champion is rolled back with at most 1% probability over all parts and looks. Predictions that lie
    elsewhere are no harm by themselves: they hold it until a person has looked, or labels show that it loses less. A
    version whose server failed to start three times in a row before it answered anything at its share, or five times
    after that, is rolled back with the server's `last_words`. A paused rollout does not step, but is still rolled back.
    """
    from trilho.release.comparison import HARMS, compare

    if rollout.outcome is not None:
        return None
    found = {finding.name: finding for finding in compare(rollout, stats, shadow)}
    evidence = partial(tell, rollout, stats, now, list(found.values()), shadow)
    answered = _answered(rollout, stats, shadow)
    if failed_starts >= (FAILED_RESTARTS if answered else FAILED_STARTS):
        what = "answered and ended, or failed to start," if answered else "failed to start"
        said = f"the server of version {rollout.version} {what} {failed_starts} times: {last_words}"
        return _end(rollout, "rolled back", rollout.champion, said, evidence())
    harm = next((found[name] for name in HARMS if name in found and found[name].reached), None)
    if harm is not None:
        return _end(rollout, "rolled back", rollout.champion, harm.said, evidence())
    better = "better" in found and found["better"].reached
    if rollout.paused:
        lifted = rollout.held_by == "shift" and better
        return _pause(rollout, False, found["better"].said, "shift") if lifted else None
    shifted = found["predictions"]
    if shifted.reached and not rollout.shift_seen and not better:
        return _pause(rollout, True, shifted.said, "shift")
    if waits_for(rollout, stats, serve, list(found.values()), shadow, failed_starts):
        return None
    return _next(rollout, evidence(), "every share answered well")


def waits_for(
    rollout: Rollout,
    stats: Mapping[int, VersionStats],
    serve: Serve,
    findings: Sequence[Finding],
    shadow: ShadowStats | None = None,
    failed_starts: int = 0,
) -> list[str]:
    """Say in plain words what a rollout under way still waits for before its next step; nothing when it is due.

    One whose server has just ended does not step before it has run for a while: a crash is one error, and few errors
    are no evidence, but whoever gives it more traffic should not find out.
    """
    from trilho.release.comparison import HARMS

    if rollout.champion is None or (rollout.share == 0 and not rollout.in_shadow):
        return []
    if rollout.in_shadow:
        seen, wanted = (shadow or ShadowStats()), serve.shadow_requests
        done = seen.requests - seen.errors - seen.refused - seen.champion_errors
        waits = [f"{wanted - done} more requests compared in the shadow, of {wanted}"] if done < wanted else []
    else:
        new, wanted = stats.get(rollout.version, VersionStats()), serve.canary_requests
        done = new.requests - new.errors - new.refused
        waits = [f"{wanted - done} more answers at {rollout.share}%, of {wanted}"] if done < wanted else []
    if failed_starts:
        often = "once" if failed_starts == 1 else f"{failed_starts} times"
        waits.append(f"its server to run for a while: it has ended, or failed to start, {often} of late")
    better = next((finding for finding in findings if finding.name == "better"), None)
    decided = better is not None and better.reached
    doubts = HARMS if rollout.shift_seen or decided else (*HARMS, "predictions")
    for finding in findings:
        if finding.name in doubts and finding.doubtful:
            waits.append(f"more answers to be sure of its {finding.name}: {finding.said}")
    if rollout.hold is not None and rollout.share == rollout.hold and not decided:
        known = "no labels have come for both versions yet" if better is None else better.said
        waits.append(f"labels, or a person, to say which version is better: {known}")
    return waits


def standing(
    rollout: Rollout,
    stats: Mapping[int, VersionStats],
    serve: Serve,
    now: datetime,
    shadow: ShadowStats | None = None,
    failed_starts: int = 0,
) -> dict[str, Any]:
    """Give where a rollout under way stands, for whoever asks: what was counted, each test, and what it waits for."""
    from trilho.release.comparison import compare

    findings = compare(rollout, stats, shadow)
    told = tell(rollout, stats, now, findings, shadow)
    del told["seconds"]  # of no interest while it runs, and it would change at every look
    waits = waits_for(rollout, stats, serve, findings, shadow, failed_starts)
    return {"schema": 1, "rollout": rollout.id, "since": rollout.share_since, **told, "waits_for": waits}


def _answered(rollout: Rollout, stats: Mapping[int, VersionStats], shadow: ShadowStats | None) -> bool:
    if rollout.in_shadow:
        return shadow is not None and shadow.requests > shadow.errors
    new = stats.get(rollout.version, VersionStats())
    return new.requests > new.errors


def move(rollout: Rollout, move: str, why: str) -> r.Payload:
    """Do what a person asks of a rollout under way: `next`, `pause`, `resume` or `abort`."""
    if move == "next":
        return _next(rollout, {"asked": why or "by a person"}, why or "a person went on")
    if move == "abort":
        return _end(rollout, "aborted", rollout.champion, why or "a person stopped it")
    if move not in MOVES:
        raise UsageError(f"rollout {move}: there is no such move; allowed: {', '.join(MOVES)}")
    pause = move == "pause"
    if rollout.paused == pause:
        raise UsageError(
            f"the rollout of version {rollout.version} is {'paused already' if pause else 'not paused'}",
            hint="trilho rollout",
        )
    return _pause(rollout, pause, why, "a person")


def rollback(state: ModelState, why: str) -> r.Payload:
    """Undo the rollout under way, or the last one that finished. Raises Refused when there is nothing to go back to."""
    rollout = state.rollout
    if rollout is not None:
        return _end(rollout, "rolled back", rollout.champion, why or "a person rolled it back")
    if state.champion is None:
        raise NotYet(f"nothing of {state.name} serves yet", hint="trilho release VERSION")
    before = previous(state)
    if before is None:
        raise Refused(
            f"no version of {state.name} served before version {state.champion}",
            hint="trilho models lists what could be released instead",
        )
    return r.ChampionRestored(
        model=state.name, version=before, replaced=state.champion, why=why or "a person rolled it back"
    )


def explain_rollback(state: ModelState) -> list[str]:
    """Say in plain lines what `rollback` would do."""
    rollout = state.rollout
    if rollout is None:
        back, now = previous(state), state.champion
        return [f"version {back} of {state.name} serves again instead of version {now}, once its server is ready"]
    stays = f"version {rollout.champion} gets all traffic" if rollout.champion is not None else "nothing serves"
    if rollout.in_shadow:
        return [f"version {rollout.version} of {state.name} is asked no longer; {stays}, as before"]
    return [f"version {rollout.version} of {state.name} loses its {rollout.share}% of traffic, at once; {stays}"]


def previous(state: ModelState) -> int | None:
    """Give the version that served before the champion and was not itself rolled back.

    >>> previous(ModelState("m", champion=1, champions=[("t1", 1), ("t2", 2), ("t3", 1)])) is None
    True
    """
    line = state.succession
    return line[-2] if len(line) > 1 else None


def undo(payloads: Sequence[r.Payload]) -> str | None:
    """Give the command that takes a person's change back, where one does."""
    match payloads[-1] if payloads else None:
        case r.RolloutStarted() | r.RolloutStepped():
            return "trilho rollback"
        case r.RolloutEnded(outcome="full") if len(payloads) == 1:  # not the first release: nothing was before it
            return "trilho rollback"
        case r.RolloutEnded(outcome="rolled back" | "aborted", version=version):
            return f"trilho release {version}"
        case r.ChampionRestored(replaced=replaced):
            return f"trilho release {replaced}"
        case r.RolloutPaused(paused=paused):
            return f"trilho rollout {'resume' if paused else 'pause'}"
    return None


def describe(payload: r.Payload) -> str:
    """Say in one line what a rollout's record means."""
    match payload:
        case r.RolloutStarted(shadow=shadow) if shadow:
            return f"version {payload.version} starts its way to users, asked unseen about {shadow}% of requests"
        case r.RolloutStarted():
            return f"version {payload.version} starts its way to users"
        case r.RolloutStepped():
            return f"version {payload.version} gets {payload.share}% of traffic"
        case r.RolloutPaused():
            return f"the rollout of version {payload.version} {'is held' if payload.paused else 'goes on'}"
        case r.RolloutEnded(outcome="full"):
            return f"version {payload.version} is champion, with all traffic"
        case r.RolloutEnded():
            stays = f"version {payload.champion} has all traffic" if payload.champion else "nothing serves"
            return f"version {payload.version} is {payload.outcome}: {stays}"
        case r.ChampionRestored():
            return f"version {payload.version} is champion again, instead of {payload.replaced}"
    return payload.type


def _next(rollout: Rollout, evidence: dict[str, Any], why: str) -> r.Payload:
    later = [share for share in rollout.steps if share > rollout.share]
    if not later or rollout.champion is None:
        return _end(rollout, "full", rollout.version, why, evidence)
    return r.RolloutStepped(
        model=rollout.model, rollout=rollout.id, version=rollout.version, share=later[0], evidence=evidence
    )


def _pause(rollout: Rollout, paused: bool, why: str, cause: r.PauseCause) -> r.RolloutPaused:
    return r.RolloutPaused(
        model=rollout.model, rollout=rollout.id, version=rollout.version, paused=paused, why=why, cause=cause
    )


def _end(
    rollout: Rollout, outcome: r.Outcome, champion: int | None, why: str, evidence: dict[str, Any] | None = None
) -> r.RolloutEnded:
    return r.RolloutEnded(
        model=rollout.model,
        rollout=rollout.id,
        version=rollout.version,
        outcome=outcome,
        champion=champion,
        why=why,
        evidence=evidence or {},
    )
