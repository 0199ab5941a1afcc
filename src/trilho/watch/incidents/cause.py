"""What an incident is about: the leading features of an alarm, and when two alarms are of the same cause."""

from __future__ import annotations

from collections.abc import Sequence

from trilho.core.records import Cause

NAMED = 3  # a cause of more features than these has no leading ones: it is the whole that moved
ENOUGH = 0.8  # of the evidence: no more features lead than hold this together
LEAST = 0.7  # of the evidence: where three features hold less, none leads
TAIL = 0.1  # of the evidence: a feature with less does not lead


def leading(causes: Sequence[Cause]) -> frozenset[str]:
    """Name the fewest features that hold most of the evidence; none where it is spread over many.

    >>> def of(**shares):
    ...     return [Cause(feature=name, share=share, distance=0.0, tolerance=0.1) for name, share in shares.items()]
    >>> sorted(leading(of(temp=0.6, dewp=0.3, wind=0.1)))
    ['dewp', 'temp']
    >>> sorted(leading(of(a=0.2, b=0.2, c=0.2, d=0.2, e=0.2)))
    []
    """
    held, named = 0.0, list[str]()
    for cause in sorted(causes, key=lambda x: -x["share"])[:NAMED]:
        if named and cause["share"] < TAIL:
            break
        named.append(cause["feature"])
        held += cause["share"]
        if held >= ENOUGH:
            break
    return frozenset(named) if held >= LEAST else frozenset()


def same_cause(known: Sequence[Cause], new: Sequence[Cause]) -> bool:
    """Say whether two alarms of one kind have the same cause: the largest of one is among the leading of the other.

    Two features that move together change places from window to window; that must not open a second incident. Where
    neither has leading features, it is the whole that moves, and the same cause.
    """
    if not known or not new:
        return not known and not new
    if not leading(known) or not leading(new):
        return not leading(known) and (not leading(new) or _largest(new) in {x["feature"] for x in known})
    return _largest(new) in leading(known) or _largest(known) in leading(new)


def _largest(causes: Sequence[Cause]) -> str:
    return max(causes, key=lambda x: x["share"])["feature"]
