"""A decision's way to users: packed, approved where that is asked for, released at once, rolled back at once.

A decision has no canary: what it changes is known beforehand, since it can be tried on the scores that were served.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trilho.core import records as r
from trilho.core.journal import whoami
from trilho.core.projection import Decision, ModelState
from trilho.errors import NotYet, Refused, UsageError

SHOWN = 6  # different answers that a plan lists


def of_artifact(state: ModelState, artifact: str) -> Decision | None:
    """Give the decision version that some packed code is; None for code that is new."""
    return next((x for x in state.decisions.values() if x.artifact == artifact), None)


def packaged(
    state: ModelState, artifact: str, reference: str, commit: tuple[str | None, str | None], run: str | None = None
) -> list[r.Payload]:
    """Give the record of packed code that is no decision version yet; nothing for code that is one."""
    if of_artifact(state, artifact) is not None:
        return []
    number = max(state.decisions, default=0) + 1
    made = r.DecisionPackaged(
        model=state.name,
        decision=number,
        artifact=artifact,
        reference=reference,
        commit=commit[0],
        commit_time=commit[1],
        run=run,
    )
    return [made]


def known(state: ModelState, number: int) -> Decision:
    """Give a decision version. Raises UsageError for one that is not there."""
    if number not in state.decisions:
        numbers = ", ".join(map(str, state.decisions)) or "none"
        raise UsageError(f"{state.name} has no decision {number}; it has: {numbers}", hint="trilho decisions")
    return state.decisions[number]


def release(state: ModelState, number: int, why: str, evidence: Mapping[str, Any]) -> r.DecisionReleased:
    """Give the record of a release. Raises UsageError where the decision holds already."""
    if state.decision == number:
        raise UsageError(f"decision {number} of {state.name} holds already", hint="trilho decisions")
    return r.DecisionReleased(
        model=state.name, decision=number, replaced=state.decision, why=why, evidence=dict(evidence)
    )


def previous(state: ModelState) -> int | None:
    """Give the decision that held before this one and was not itself rolled back.

    >>> previous(ModelState("m", decision=2, decisions_held=[("t1", 1), ("t2", 2)]))
    1
    """
    line = state.decision_succession
    return line[-2] if len(line) > 1 else None


def rollback(state: ModelState, why: str) -> r.DecisionRestored:
    """Give the record that has the decision before hold again. Raises Refused when there is none."""
    if state.decision is None:
        raise NotYet(f"no decision of {state.name} holds yet", hint="trilho release --decision")
    before = previous(state)
    if before is None:
        raise Refused(
            f"no decision of {state.name} held before decision {state.decision}",
            hint="trilho decisions lists what could be released instead",
        )
    return r.DecisionRestored(
        model=state.name, decision=before, replaced=state.decision, why=why or "a person rolled it back"
    )


def approve(state: ModelState, number: int, why: str, actor: str | None = None) -> r.DecisionApproved:
    """Give the record of an approval. Raises Refused for the one who packed the decision."""
    found, who = known(state, number), actor or whoami()
    if who == found.actor:
        raise Refused(
            f"{who} packed decision {number}, and cannot approve it",
            hint=f"somebody else types: trilho approve --decision {number}",
        )
    return r.DecisionApproved(model=state.name, decision=number, why=why)


def require_approval(state: ModelState, decision: Decision) -> None:
    """Raise NotYet while nobody but the one who packed it has approved a decision."""
    if decision.approved_by in (None, decision.actor):
        raise NotYet(
            f"decision {decision.number} of {state.name} waits for approval by somebody but {decision.actor}",
            hint=f"trilho approve --decision {decision.number}",
        )


def explain(state: ModelState, number: int, reference: str, evidence: Mapping[str, Any]) -> list[str]:
    """Say in plain lines what a release would change."""
    instead = "" if state.decision is None else f" instead of decision {state.decision}"
    first = f"decision {number} ({reference}) decides for {state.name}{instead}"
    lines = [f"{first}, on every version that serves, within a second and without a restart"]
    rows, changed, on = evidence.get("rows", 0), evidence.get("changed", 0), evidence.get("on", "")
    if not rows:
        return [*lines, "there are no scores to try it on yet"]
    lines.append(f"of {rows:,} {on}, {changed:,} ({changed / rows:.1%}) would be decided otherwise")
    if state.decision is not None:
        lines.append(f"before: {_counted(evidence['before'])}")
    lines.append(f"after: {_counted(evidence['after'])}")
    if evidence.get("failed"):
        lines.append(f"it fails on {evidence['failed']:,} of them, which would have no decision: {evidence['why']}")
    return lines


def explain_rollback(payload: r.DecisionRestored) -> list[str]:
    """Say in plain lines what a rollback would do."""
    stays = "the versions of the model stay as they are"
    return [f"decision {payload.decision} holds again instead of decision {payload.replaced}, within a second; {stays}"]


def undo(payloads: Sequence[r.Payload]) -> str | None:
    """Give the command that takes a change of the decision back, where one does."""
    match payloads[-1] if payloads else None:
        case r.DecisionReleased(replaced=replaced) if replaced is not None:
            return "trilho rollback --decision"
        case r.DecisionRestored(replaced=replaced):
            return f"trilho release --decision {replaced}"
    return None


def changed(decision: Decision) -> str:
    """Say in a few words what a decision's release changed, as it was planned.

    >>> changed(Decision(1, "a", "m:f", "t", "ana", None, None, None, evidence={"rows": 200, "changed": 3}))
    '3 of 200 (1.5%)'
    """
    rows = decision.evidence.get("rows", 0)
    return f"{decision.evidence['changed']:,} of {rows:,} ({decision.evidence['changed'] / rows:.1%})" if rows else ""


def _counted(counts: Mapping[str, int]) -> str:
    """Say how often each answer was given.

    >>> _counted({"true": 1200, "null": 3})
    'true 1,200, none 3'
    """
    shown = [f"{'none' if answer == 'null' else answer} {count:,}" for answer, count in list(counts.items())[:SHOWN]]
    return ", ".join([*shown, *(["..."] if len(counts) > SHOWN else [])])
