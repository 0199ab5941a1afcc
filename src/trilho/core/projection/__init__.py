"""What the journal says now: champion, versions, runs, rollouts, incidents, folded from its records.

A projection is never a second truth: it can be thrown away and folded again, and a checkpoint is only a fold that was
kept. Everything shown anywhere about a model's life comes from here.

What a state holds is replaced, never changed: a reader may keep it while a copy of its containers is folded on. A
record of a kind that is newer than this trilho, or that refers to what such a record made, is passed over.
"""

from __future__ import annotations

from trilho.core.projection.fold import State, fold
from trilho.core.projection.model import ModelState
from trilho.core.projection.parts import Decision, Incident, IncidentState, Retraining, Rollout, Run, Version

__all__ = [
    "Decision",
    "Incident",
    "IncidentState",
    "ModelState",
    "Retraining",
    "Rollout",
    "Run",
    "State",
    "Version",
    "fold",
]
