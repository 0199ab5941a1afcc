"""What is worth knowing of a choice: a metric of another fit, a test that was looked at, rows that need others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trilho.adopt.plan import Finding, Lag, Split, Threshold
from trilho.adopt.slice.history import History
from trilho.adopt.slice.holdout import stops_on
from trilho.adopt.slice.metrics import Measured
from trilho.adopt.slice.models import Candidate
from trilho.adopt.slice.moments import Moment


@dataclass(frozen=True)
class Found:
    """What a choice is made of, as far as it can be wrong."""

    history: History
    shipped: Candidate
    head: Measured | None  # the headline metric
    refitted: bool
    split: Split
    moments: list[Moment]
    moment: Moment | None
    threshold: Threshold | None
    lags: tuple[Lag, ...]


def findings_of(found: Found) -> Iterator[Finding]:
    """Give the findings of a choice."""
    yield from _of_metric(found)
    yield from _of_test_rows(found)
    yield from _of_refused(found)
    for lag in found.lags:
        what = lag.column or lag.source
        message = f"{what} looks at other rows ({lag.method}): it cannot be computed from one row alone"
        yield Finding("past-rows", lag.cell, lag.line, message, "warning", "score in batches, with the rows before")
    if found.moment is None and len(found.moments) > 1:
        names = ", ".join(moment.column for moment in found.moments)
        message = f"several columns are times ({names}), and none of them orders the rows"
        yield Finding("time-unclear", None, None, message, "note", "name one: --time COLUMN")


def _of_refused(found: Found) -> Iterator[Finding]:
    """Say what the notebook would have written or sent, and was kept from while it was watched."""
    for save in found.history.trace.saves:
        if not save.allowed:
            where = f" to {save.path}" if save.path else ""
            message = f"{save.function.rpartition('.')[2]}{where} was refused: nothing leaves the run that is watched"
            yield Finding("write-refused", save.cell, save.line, message, "note",
                          "what is done with the predictions belongs to who asks for them")  # fmt: skip


def _of_metric(found: Found) -> Iterator[Finding]:
    one, head, fit = found.shipped, found.head, found.shipped.last
    if head is None:
        message = f"nothing was measured of {one.name}, which is shipped: how good it is is not known"
        yield Finding("no-metric", fit.cell, fit.span[0], message, "warning", "measure it on held-out rows")
        return
    metric = head.metric
    if not head.held_out:
        message = f"{metric.name} is measured on the rows that {one.name} was fitted to: it says nothing of new ones"
        yield Finding("no-holdout", metric.cell, metric.line, message, "warning", "hold rows out, and measure on those")
    elif head.fit is not None and head.fit.id != fit.id:
        more = ", to more rows" if found.refitted else ""
        message = (
            f"{metric.name} = {metric.value:.6g} is of the model as fitted in cell {head.fit.cell}; what is shipped "
            f"was fitted again in cell {fit.cell}{more}, and was not measured since"
        )
        yield Finding("shipped-not-evaluated", fit.cell, fit.span[0], message, "note")


def _of_test_rows(found: Found) -> Iterator[Finding]:
    head, threshold = found.head, found.threshold
    if head is not None and head.fit is not None and stops_on(found.history, head.fit, set(found.split.test)):
        message = "the number of rounds is chosen on the rows that the model is judged by: the metric is too good"
        yield Finding("early-stopping-on-test", head.fit.cell, head.fit.span[0], message, "warning",
                      "stop early on a part of the training rows")  # fmt: skip
    if threshold is not None and threshold.tuned_on == "test":
        message = f"{threshold.source} = {threshold.value:.4g} is chosen on the rows that the model is judged by"
        yield Finding("threshold-tuned-on-test", threshold.cell, threshold.line, message, "warning",
                      "choose it on a part of the training rows")  # fmt: skip
