"""The facts of a model's life: one frozen dataclass for each kind of journal record.

Fields hold JSON values only, so that a payload is its own wire format. Every kind has a version; a record
written by an older trilho is brought up by the functions in `UPCASTS`, never rewritten, since a hash chain
cannot be migrated.
"""

from __future__ import annotations

from trilho.core.records.decisions import (
    DecisionApproved,
    DecisionPackaged,
    DecisionReleased,
    DecisionRestored,
)
from trilho.core.records.payload import (
    PAYLOADS,
    UPCASTS,
    Payload,
    decode,
    encode,
    kind,
)
from trilho.core.records.releases import (
    ChampionRestored,
    Outcome,
    PauseCause,
    RolloutEnded,
    RolloutPaused,
    RolloutStarted,
    RolloutStepped,
    VersionApproved,
    VersionCertified,
    VersionPinned,
    VersionServed,
)
from trilho.core.records.training import (
    ContractChecked,
    DatasetVersioned,
    GateJudged,
    RunEnded,
    RunStarted,
    RunState,
    TaskResult,
    TaskState,
    Verdict,
    VersionPackaged,
)
from trilho.core.records.watching import (
    AlarmKind,
    AlarmRaised,
    AlertSent,
    Cause,
    IncidentClosed,
    IncidentOpened,
    IncidentUpdated,
    RetrainingEnded,
    RowsForgotten,
    TriggerFired,
)

__all__ = [
    "PAYLOADS",
    "UPCASTS",
    "AlarmKind",
    "AlarmRaised",
    "AlertSent",
    "Cause",
    "ChampionRestored",
    "ContractChecked",
    "DatasetVersioned",
    "DecisionApproved",
    "DecisionPackaged",
    "DecisionReleased",
    "DecisionRestored",
    "GateJudged",
    "IncidentClosed",
    "IncidentOpened",
    "IncidentUpdated",
    "Outcome",
    "PauseCause",
    "Payload",
    "RetrainingEnded",
    "RolloutEnded",
    "RolloutPaused",
    "RolloutStarted",
    "RolloutStepped",
    "RowsForgotten",
    "RunEnded",
    "RunStarted",
    "RunState",
    "TaskResult",
    "TaskState",
    "TriggerFired",
    "Verdict",
    "VersionApproved",
    "VersionCertified",
    "VersionPackaged",
    "VersionPinned",
    "VersionServed",
    "decode",
    "encode",
    "kind",
]
