"""The evidence that a challenger needs before it gets any traffic.

Measured on 1,000 planted worlds each, at 95%: an equal challenger passes in 3 to 6%, also where days share their luck;
in 12% where that luck lasts (days correlated by .8), and in 19% where the holdout has three such days and no more. One
half again as noisy as the champion never passed on independent rows. Trust a holdout of two weeks or longer.

Guards come after: slices, calibration (each says its own rates), size and signature. Any that fails is a refusal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trilho.core.checks import Check, as_json, compose, short
from trilho.core.metrics import HIGHER_IS_BETTER, resolve
from trilho.core.records import Verdict
from trilho.errors import DataError
from trilho.release.calibration import calibration_check
from trilho.release.compare import RESAMPLES, Comparison, Predictions, compare
from trilho.release.slices import Labels, slice_checks

if TYPE_CHECKING:
    from trilho.config import Gate

__all__ = ["Labels", "Predictions", "judge"]

Task = Literal["classification", "regression"]
USEFUL_GAIN = 0.1  # a tenth of the error that the champion leaves
FIRST_CONFIDENCE = 0.999  # against a constant: no model should be the first because of luck
FEW_ROWS = 10  # times gate.rows: below this an open question is a matter of data, above it the gain is small


def judge(
    challenger: Predictions,
    champion: Predictions | None,
    gate: Gate,
    task: Task,
    candidates: int = 1,
    slices: Sequence[Labels] = (),
) -> tuple[Verdict, dict[str, Any]]:
    """Compare a challenger with the champion on the same held-out rows, over all and by slice; look at its calibration.

    `slices` says which slices each of the challenger's rows is in. Any check that fails is a *fail*, whose reason is
    the first's; see `compare_with` for the comparison itself.
    """
    verdict, evidence = compare_with(challenger, champion, gate, task, candidates)
    checks: list[Check] = []
    more: dict[str, Any] = {}
    if gate.slices and champion is None:
        noted = "nothing serves yet, so that there is no champion to be worse than"
        checks += [Check(f"no worse by {column}", "pass", noted) for column in gate.slices]
    elif slices and champion is not None:
        found, more["slices"] = slice_checks(challenger, champion, slices, evidence["metric"], gate)
        checks += found
    if gate.calibration is not None and task == "classification":
        checks.append(calibration_check(challenger, gate))
    return compose(verdict, evidence, checks, **more)


def compare_with(
    challenger: Predictions, champion: Predictions | None, gate: Gate, task: Task, candidates: int = 1
) -> tuple[Verdict, dict[str, Any]]:
    """Compare a challenger with the champion on the same held-out rows; give the verdict and its evidence.

    *pass*: its metric is no worse than `gate.min`, and with `gate.confidence` it is better than the champion by more
    than `gate.margin`. *not enough data*: fewer rows than `gate.rows`, or one class only; or fewer than ten times
    `gate.rows` while both no gain over the margin and a useful one (a tenth of the champion's error) are still
    possible. *fail*: everything else. Without a champion the opponent is the best constant on these very rows, which
    no constant chosen beforehand can beat, and the confidence is at least 99.9%. A challenger that was the best of
    several `candidates` on these rows had as many chances to be lucky: they share what the confidence leaves to luck.
    """
    metric = resolve(gate.metric, task)
    if champion is not None:
        _same_rows(challenger, champion)
    known = np.isfinite(challenger.value)
    challenger = challenger.where(known)
    opponent = _best_constant(challenger, metric) if champion is None else champion.where(known)
    confidence = gate.confidence if champion is not None else max(gate.confidence, FIRST_CONFIDENCE)
    confidence = 1 - (1 - confidence) / max(candidates, 1)
    about: dict[str, Any] = {
        "metric": metric,
        "rows": len(challenger.row),
        "against": "the best constant" if champion is None else "the champion",
        "margin": gate.margin,
        "min": gate.min,
        "confidence": confidence,
        "candidates": candidates,
    }
    lacking = _lacking(challenger, gate, task)
    if lacking:
        return "not enough data", _evidence(about, None, [Check("enough rows", "not enough data", lacking)], lacking)
    if not np.all(np.isfinite(challenger.prediction)):
        said = f"{int(np.sum(~np.isfinite(challenger.prediction)))} of its predictions are not numbers"
        return "fail", _evidence(about, None, [Check("predictions are numbers", "fail", said)], said)
    if not np.all(np.isfinite(opponent.prediction)):
        raise DataError(f"{about['against']} gave predictions that are not numbers", hint="trilho runs logs")
    return _weigh(compare(challenger, opponent, metric, confidence), gate, about)


def _weigh(found: Comparison, gate: Gate, about: dict[str, Any]) -> tuple[Verdict, dict[str, Any]]:
    metric, against = about["metric"], about["against"]
    smaller_is_better = metric not in HIGHER_IS_BETTER
    within = gate.min is None or (found.challenger <= gate.min if smaller_is_better else found.challenger >= gate.min)
    better = bool(found.low > gate.margin)  # False for NaN
    sure = f"{100 * about['confidence']:g}%"
    gain = f"{metric} {short(found.challenger)}, {against} {short(found.champion)}: " + (
        f"worse by {short(-found.improvement)}; needed: better by more than {short(gate.margin)}"
        if found.improvement < 0
        else f"better by {short(found.improvement)}, at least {short(found.low)} with {sure} confidence; "
        f"needed: more than {short(gate.margin)}"
    )
    said: Verdict = "pass" if better else "not enough data" if _open(found, gate, smaller_is_better) else "fail"
    if said == "not enough data":
        gain = f"{found.rows} rows cannot tell yet: the gain lies between {short(found.low)} and {short(found.high)}"
    checks = [Check("better than " + against, said, gain)]
    if gate.min is not None:
        limit = f"{metric} {short(found.challenger)}, allowed {'up to' if smaller_is_better else 'from'} "
        checks.append(Check("within gate.min", "pass" if within else "fail", limit + short(gate.min)))
    if not within:
        return "fail", _evidence(about, found, checks, checks[-1].note)
    return said, _evidence(about, found, checks, gain)


def _open(found: Comparison, gate: Gate, smaller_is_better: bool) -> bool:
    left = found.champion if smaller_is_better else 1 - found.champion
    useful = gate.margin + USEFUL_GAIN * left
    return not math.isfinite(found.low) or (found.rows < FEW_ROWS * gate.rows and found.high >= useful > gate.margin)


def _lacking(challenger: Predictions, gate: Gate, task: Task) -> str | None:
    rows = len(challenger.row)
    if rows < gate.rows:
        return f"{rows} held-out rows, gate.rows asks for {gate.rows}"
    if task == "classification" and len(np.unique(challenger.value)) < 2:
        return f"all {rows} held-out rows are of class {challenger.value[0]:.0f}"
    return None


def _same_rows(challenger: Predictions, champion: Predictions) -> None:
    same = np.array_equal(challenger.row, champion.row) and np.array_equal(
        challenger.value, champion.value, equal_nan=True
    )
    if not same:
        raise DataError(
            f"challenger and champion were asked about different rows: {len(challenger.row)} and {len(champion.row)}",
            hint="trilho train asks both about the same held-out rows",
        )


def _best_constant(rows: Predictions, metric: str) -> Predictions:
    if len(rows.value) == 0:
        return rows
    best = np.median(rows.value) if metric == "mae" else np.mean(rows.value)
    return Predictions(rows.row, rows.time, np.full(len(rows.value), float(best)), rows.value)


def _evidence(about: dict[str, Any], found: Comparison | None, checks: Sequence[Check], reason: str) -> dict[str, Any]:
    figures: dict[str, Any] = dict.fromkeys(("challenger", "champion", "difference", "low", "high", "blocks"))
    if found is not None:
        figures = {
            "challenger": as_json(found.challenger),
            "champion": as_json(found.champion),
            "difference": as_json(found.improvement),
            "low": as_json(found.low),
            "high": as_json(found.high),
            "blocks": found.blocks,
        }
    return {**about, **figures, "resamples": RESAMPLES, "checks": [x.to_json() for x in checks], "reason": reason}
