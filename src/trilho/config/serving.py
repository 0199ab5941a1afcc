"""[gate] and [serve]: what a version must show, and how it answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trilho.config.values import Duration, Peak, Size, Table, Wait


class Gate(Table):
    """What a challenger must show before it gets any traffic."""

    metric: Literal["auto", "mae", "rmse", "roc_auc", "brier", "log_loss", "accuracy"] = "auto"
    """What is compared; "auto" is mae for regression and roc_auc for classification."""
    min: float | None = None
    """The worst value allowed, whatever the champion does (for errors: the largest)."""
    margin: Annotated[float, Field(ge=0)] = 0.0
    """By how much the challenger must be better than the champion."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """How sure the comparison must be."""
    rows: Annotated[int, Field(ge=2)] = 100
    """Fewer held-out rows than this and the verdict is "not enough data"."""
    approval: bool = False
    """Whether a person, not the author, must approve before a release."""
    slices: list[str] = []
    """Columns by whose values the challenger must be no worse either, such as ["origin"]."""
    calibration: Annotated[float, Field(gt=0, lt=1)] | None = None
    """For a classification: the largest calibration error allowed, 0.05 for five points; by default none is."""
    latency: Wait | None = None
    """The longest a one-row request may take, 99 in 100, such as "50 ms"; by default only a rollout looks."""
    size: Size | None = None
    """The largest package allowed, such as "200 MB"."""


class Serve(Table):
    """How the model answers."""

    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """The endpoint's port on this machine; 0 takes a free one and keeps it."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that answer for each version; each holds the model."""
    shadow: Annotated[int, Field(ge=0, le=100)] = 0
    """The share of requests, in percent, that a new version is asked too before it gets any: nobody sees its answers,
    they are compared with the champion's. 0 leaves the shadow out."""
    shadow_requests: Annotated[int, Field(ge=1)] = 200
    """Requests that are compared in the shadow before the first share of traffic."""
    sticky: str | None = None
    """The field of a row whose value decides which version answers, so that a customer stays with one; by default the
    x-trilho-key header, where a caller sends one."""
    peak: Peak | None = None
    """The load that a version must bear before it gets traffic, such as "200 rows/s"; by default it is only asked."""
    max_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """Rows that one request may hold."""
    max_body: Size = 1_500_000
    """The size that one request's body may have; Vertex AI takes 1.5 MB."""
    api_keys: list[str] = []
    """References to the keys that callers must send one of as x-api-key, such as ["secret://bike-demand-key"]."""
    audience: str | None = None
    """The audience that a caller's Google ID token must be for, where callers have one."""
    callers: list[str] = []
    """The accounts (emails) whose Google ID tokens are taken; by default every one for the audience."""
    entries: Literal["plain", "full"] = "plain"
    """What a prediction is answered as: the value, or the probability of each class; or an object that also holds id,
    score, decision and versions. With steps.decide it is always full."""
    mask: dict[str, Literal["hash", "drop"]] = {}
    """Columns that the log of predictions holds as a keyed hash, or not at all."""
    retention: Duration | None = None
    """How long served rows are kept; by default for ever."""
    topic: str | None = None
    """A topic of Pub/Sub that every prediction is published to before it is answered, where the disk does not last."""
    canary: list[int] = [10, 50, 100]
    """The shares of traffic, in percent, on a new version's way to users."""
    canary_requests: Annotated[int, Field(ge=1)] = 50
    """Requests the new version must have answered at each share before the next."""
    fsync: bool = False
    """Whether a prediction's log line survives a power cut, at 11 to 47% of throughput."""
    extra_fields: Literal["count", "refuse"] = "count"
    """What happens to a field the model does not know: ignored and counted, or refused with 422."""
    batch_only: bool = False
    """Whether the model answers whole tables only, since its features look at other rows in a way that [history] cannot
    give them; it gets no endpoint."""

    @model_validator(mode="after")
    def _rising_to_100(self) -> Serve:
        if not self.canary or self.canary[-1] != 100 or self.canary[0] < 1 or sorted(set(self.canary)) != self.canary:
            raise ValueError("canary: rising percentages that end in 100, such as [10, 50, 100]")
        return self
