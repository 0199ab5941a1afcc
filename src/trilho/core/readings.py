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
    low: float | None = None  # of the distance, with 95%; None where no interval was kept
    high: float | None = None


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
    estimate: dict[str, Any] | None = None  # of the metric before labels: value, low, high, observable, why
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
    corrected: int = 0  # of those that came again, the ones that say otherwise
    impossible: int = 0  # labels that are none of the model's classes


@dataclass(frozen=True, kw_only=True)
class VersionStats:
    """A version's answers at the endpoint, counted since a moment."""

    requests: int = 0
    errors: int = 0  # 5xx, or no answer
    refused: int = 0  # 422, though the main version took the same rows
    rows: int = 0
    p95_ms: float | None = None
    latency: list[int] = field(default_factory=list)  # answers between the edges of `trilho_runtime.web.measures`
    scores: dict[str, int] = field(default_factory=dict)  # first rows of answers, by the bin of their score
    expected: dict[str, int] = field(default_factory=dict)  # held-out rows, by the bin of what it said of them
    losses: list[int] = field(default_factory=list)  # labelled rows by their loss, in equal bins from 0 to 1


@dataclass(frozen=True, kw_only=True)
class ShadowStats:
    """What a version answered unseen, beside the champion's answers to the same requests."""

    requests: int = 0  # that both versions have been asked
    dropped: int = 0  # not asked: it was too slow, or away
    errors: int = 0  # it failed, the champion answered
    champion_errors: int = 0  # the champion failed, it answered
    refused: int = 0  # 422, though the champion took the rows
    rows: int = 0  # predicted by both
    disagreements: int = 0  # of the rows: another class or decision, or more than a tenth apart
    sum: float = 0.0  # of the differences, its score less the champion's
    squares: float = 0.0
    pairs: int = 0  # first rows of answers, by which the shift is tested
    moved: int = 0  # pairs whose scores are not near each other
    scores: dict[str, int] = field(default_factory=dict)  # of its own, by their bin
    slow: list[int] = field(default_factory=list)  # requests in which it alone was over the time allowed for an edge
    fast: list[int] = field(default_factory=list)  # requests in which the champion alone was
    p95_ms: float | None = None
    champion_p95_ms: float | None = None
    slices: dict[str, dict[str, float]] = field(default_factory=dict)  # "field=value": rows, disagreements, sum
    worst: list[dict[str, Any]] = field(default_factory=list)  # id and difference, the largest first
    losses: list[int] = field(default_factory=list)  # labelled rows by its loss less the champion's, from -1 to 1


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
