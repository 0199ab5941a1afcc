"""A version's way to full traffic, as a pure state machine: what the journal and the counters say in, a record out.

    started -> share 1 -> ... -> 100% -> full
                 |         |        |
                 +---------+--------+--> rolled back (by itself, or by a person) or aborted (by a person)

The same machine serves whatever splits the traffic: it never asks where the versions run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from trilho.core import records as r
from trilho.core.projection import ModelState, Rollout
from trilho.core.readings import VersionStats
from trilho.errors import NotYet, Refused, UsageError
from trilho.release.evidence import over_allowed, over_champion

if TYPE_CHECKING:
    from trilho.config import Serve

RISK = 0.01  # that a version no worse than the champion is rolled back, over the whole rollout
ALLOWED_ERRORS = 0.05  # where no champion answers beside it, this share of errors is too much
DOUBT = 3.0  # evidence at which a version waits for more answers instead of stepping on
SLOWER_TIMES, SLOWER_MS = 3.0, 200.0  # both must be exceeded
FAILED_STARTS, FAILED_RESTARTS = 3, 10  # in a row, of a server that has answered nothing yet, or has answered
FEWEST_FOR_LATENCY = 20  # the p95 of fewer requests is about their slowest

MOVES = ("next", "pause", "resume", "abort")


def start(state: ModelState, version: int, serve: Serve, why: str) -> list[r.Payload]:
    """Begin a version's way: its first share of traffic, or all of it where nothing serves that could be harmed."""
    champion = state.champion
    begun = r.RolloutStarted(
        model=state.name,
        rollout=f"rollout-{len(state.rollouts) + 1}",
        version=version,
        champion=champion,
        steps=list(serve.canary) if champion is not None else [100],
        why=why,
    )
    common: dict[str, Any] = {"model": state.name, "rollout": begun.rollout, "version": version}
    if champion is None:
        first = "nothing served before it"
        return [begun, r.RolloutEnded(**common, outcome="full", champion=version, why=first)]
    return [begun, r.RolloutStepped(**common, share=begun.steps[0], evidence={})]


def explain(state: ModelState, version: int, serve: Serve) -> list[str]:
    """Say in plain lines what `start` would do."""
    if state.champion is None:
        return [f"version {version} of {state.name} gets all traffic at once: nothing serves yet"]
    shares = ", then ".join(f"{share}%" for share in serve.canary)
    return [
        f"version {version} of {state.name} takes over from version {state.champion}",
        f"it gets {shares} of the requests, each share once it has answered {serve.canary_requests} at the one before",
        f"it is rolled back by itself if it fails significantly more often than version {state.champion}, or is "
        f"more than {SLOWER_TIMES:g} times slower",
    ]


def advance(
    rollout: Rollout,
    stats: Mapping[int, VersionStats],
    serve: Serve,
    now: datetime,
    failed_starts: int = 0,
    last_words: str = "",
) -> r.Payload | None:
    """Say what happens to a rollout under way, from what its versions answered since its share began.

    It is rolled back when the version fails, or refuses, more often than the champion: the test is an e-process, so
    that it may be looked at after every request, and a version no worse than the champion is rolled back with at most
    1% probability over all shares and looks. Latency is looked at once for each share, when the version has answered
    enough to go on. A version whose server failed to start three times in a row before it answered anything at its
    share, or ten times after that, is rolled back with the server's `last_words`. A paused rollout does not step, but
    is still rolled back.
    """
    if rollout.outcome is not None:
        return None
    new = stats.get(rollout.version, VersionStats())
    old = stats.get(rollout.champion, VersionStats()) if rollout.champion is not None else VersionStats()
    against = _against(new, old)
    evidence = _evidence(rollout, new, old, against, now)
    if failed_starts >= (FAILED_STARTS if new.requests == new.errors else FAILED_RESTARTS):
        said = f"the server of version {rollout.version} failed to start {failed_starts} times: {last_words}"
        return _end(rollout, "rolled back", rollout.champion, said)
    if against >= 2 * len(rollout.steps) / RISK:  # two kinds of test, one for each share
        return _end(rollout, "rolled back", rollout.champion, _errors(rollout, new, old))
    if rollout.paused:
        return None
    if rollout.share > 0 and rollout.champion is not None:
        if new.requests - new.errors - new.refused < serve.canary_requests:
            return None
        if _slower(new, old):
            return _end(rollout, "rolled back", rollout.champion, _latency(rollout, new, old))
        if against >= DOUBT:
            return None
    return _next(rollout, evidence, "every share answered well")


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
    return r.RolloutPaused(model=rollout.model, rollout=rollout.id, version=rollout.version, paused=pause, why=why)


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
        case r.RolloutStepped():
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
        return _end(rollout, "full", rollout.version, why)
    return r.RolloutStepped(
        model=rollout.model, rollout=rollout.id, version=rollout.version, share=later[0], evidence=evidence
    )


def _end(rollout: Rollout, outcome: r.Outcome, champion: int | None, why: str) -> r.RolloutEnded:
    return r.RolloutEnded(
        model=rollout.model, rollout=rollout.id, version=rollout.version, outcome=outcome, champion=champion, why=why
    )


def _against(new: VersionStats, old: VersionStats) -> float:
    if old.requests == 0:
        return over_allowed(new.errors, new.requests, ALLOWED_ERRORS)
    # A caller's mistakes meet both versions alike: what only the new one refuses, it broke.
    return over_champion(new.errors + new.refused, new.requests, old.errors + old.refused, old.requests)


def _slower(new: VersionStats, old: VersionStats) -> bool:
    if min(new.requests, old.requests) < FEWEST_FOR_LATENCY or new.p95_ms is None or old.p95_ms is None:
        return False
    return new.p95_ms > SLOWER_TIMES * old.p95_ms and new.p95_ms > old.p95_ms + SLOWER_MS


def _evidence(rollout: Rollout, new: VersionStats, old: VersionStats, against: float, now: datetime) -> dict[str, Any]:
    since = rollout.share_since
    seconds = (now - datetime.fromisoformat(since)).total_seconds() if since else 0.0
    return {
        "share": rollout.share,
        "seconds": round(seconds, 3),
        "requests": new.requests,
        "errors": new.errors,
        "refused": new.refused,
        "p95_ms": new.p95_ms,
        "champion_requests": old.requests,
        "champion_errors": old.errors,
        "champion_refused": old.refused,
        "champion_p95_ms": old.p95_ms,
        "evidence_of_more_errors": round(against, 3),
    }


def _errors(rollout: Rollout, new: VersionStats, old: VersionStats) -> str:
    if old.requests == 0:
        share = f"{rollout.share}% of traffic, allowed {ALLOWED_ERRORS:.0%}"
        return f"version {rollout.version} failed {new.errors} of {new.requests} requests at {share}"
    failed, before = new.errors + new.refused, old.errors + old.refused
    return (
        f"version {rollout.version} failed or refused {failed} of {new.requests} requests at {rollout.share}% of "
        f"traffic, version {rollout.champion} {before} of {old.requests}"
    )


def _latency(rollout: Rollout, new: VersionStats, old: VersionStats) -> str:
    return (
        f"version {rollout.version} answers 95% of requests within {new.p95_ms:.0f} ms, "
        f"version {rollout.champion} within {old.p95_ms:.0f} ms"
    )
