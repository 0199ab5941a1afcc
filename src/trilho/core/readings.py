"""What is measured often: one window's readings, label progress, traffic. Kept in tables, not in the journal."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class FeatureReading:
    """One feature in one window: its distance (total variation) from the reference, and how far it may move."""

    feature: str
    distance: float
    tolerance: float
    share: float  # of the alarm's evidence, 0 to 1


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One window of what was served, ISO 8601 times; `value` is None until labels have come."""

    model: str
    version: int  # the champion that the window was measured for
    window_start: str
    window_end: str
    rows: int
    evidence: float  # of the drift detector after this window
    threshold: float  # at which it alarms
    features: list[FeatureReading] = field(default_factory=list)
    metric: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    expected: float | None = None  # the metric on the rows that were held out when the version was trained
    own: int = 0  # of the rows, answered by this version
    labelled: int = 0  # of its own rows
    late: int = 0  # rows of earlier windows that came after those were read; drift counts them here
    alarms: list[str] = field(default_factory=list)  # alarm ids
    schema: int = SCHEMA


def encode_reading(reading: Reading) -> dict[str, Any]:
    """Give a reading as JSON values."""
    return asdict(reading)


def decode_reading(data: dict[str, Any]) -> Reading:
    """Rebuild a reading from JSON values.

    >>> r = Reading(model="m", version=1, window_start="a", window_end="b", rows=3, evidence=0.0, threshold=9.0,
    ...             metric="mae", features=[FeatureReading(feature="x", distance=0.1, tolerance=0.02, share=1.0)])
    >>> decode_reading(encode_reading(r)) == r
    True
    """
    return Reading(**{**data, "features": [FeatureReading(**item) for item in data["features"]]})


@dataclass(frozen=True, kw_only=True)
class LabelStatus:
    """How far the truth has arrived."""

    served: int  # predictions in the log
    labelled: int  # of these, with a label
    unknown: int  # labels whose prediction was never served here
    repeated: int  # labels that came again for the same prediction
    until: str | None  # every served row up to this event time is labelled


@dataclass(frozen=True, kw_only=True)
class VersionStats:
    """A version's answers at the endpoint, counted since a moment."""

    requests: int = 0
    errors: int = 0  # 5xx, or no answer
    refused: int = 0  # 422, though the main version took the same rows
    rows: int = 0
    p95_ms: float | None = None


@dataclass(frozen=True, kw_only=True)
class EndpointStatus:
    """An endpoint on this machine, as its supervisor last saw it."""

    model: str
    address: str | None
    running: bool
    pid: int | None
    versions: dict[int, str] = field(default_factory=dict)  # version -> "ready" | "starting" | "down"
    stats: dict[int, VersionStats] = field(default_factory=dict)
    updated: str | None = None
