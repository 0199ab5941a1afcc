"""trilho.toml: what differs from the defaults, with a word on where it is from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from trilho.adopt.emit.contract import text
from trilho.adopt.plan import Choice, Lookback, Plan

GATES = {"mae": "mae", "mean_absolute_error": "mae", "rmse": "rmse", "root_mean_squared_error": "rmse",
         "roc_auc": "roc_auc", "roc_auc_score": "roc_auc", "auc": "roc_auc", "brier": "brier",
         "brier_score_loss": "brier", "log_loss": "log_loss", "accuracy": "accuracy",
         "accuracy_score": "accuracy"}  # fmt: skip
FITTING = {"regression": ("mae", "rmse"), "classification": ("roc_auc", "brier", "log_loss", "accuracy")}
SHARE = 0.2
SERVED = "a retraining learns from rows that were served and labelled since, too"
WINDOW_ROWS = 500  # of which a metric of a window says something: an AUC to about 0.05
WINDOWS = 10  # that the data's time has at least


def settings_text(
    name: str, plan: Plan, choice: Choice, source: str, facts: Mapping[str, Any], personal: Sequence[str],
    python: str = "",
) -> str:  # fmt: skip
    """Write trilho.toml."""
    lines = ["# What differs from the defaults: `trilho config` shows every setting, and what it means."]
    lines += [f"python = {text(python)}"] if python else []
    lines += [
        "",
        "[model]",
        f"name = {text(name)}",
        f"task = {text(choice.task)}",
        f"target = {text(choice.target.column)}",
    ]
    there = {column["name"]: column for column in facts["columns"]}
    known = there.get(choice.time, {})
    time = choice.time if known.get("kind") == "timestamp" or known.get("time") else ""
    lines += [f"time = {text(time)}"] if time else []
    lines += [f"key = {text(choice.key)}"] if there.get(choice.key, {}).get("unique") else []
    kept = [column for column in personal if column in there]
    lines += [f"personal = [{', '.join(map(text, kept))}]"] if kept else []
    lines += ["", "[data]", f"source = {text(source)}"]
    lines += [f"served = true  # {SERVED}"] if learns_from_served(plan, choice) else []
    lines += ["", "[steps]", f"load = {text(f'{plan.package}.load:load')}"]
    if plan.form == "features":
        lines.append(f"features = {text(f'{plan.package}.features:build')}")
    lines.append(f"train = {text(f'{plan.package}.fit:fit')}")
    if choice.threshold is not None and choice.task == "classification":
        lines.append(f"decide = {text(f'{plan.package}.decide:decide')}")
    lines += _labels(facts, choice)
    held = holdout(choice, there[time]) if time else ""
    lines += ["", "[train]", f"holdout = {text(held)}  # {_why(choice)}"] if held else []
    gate = GATES.get(choice.metrics[0].name) if choice.metrics else None
    if gate in FITTING[choice.task]:
        lines += ["", "[gate]", f"metric = {text(gate)}  # the notebook's own, in cell {choice.metrics[0].cell}"]
    lines += _watch(int(facts["rows"]), there[time]) if time else []
    if plan.past is not None:
        lines += ["", *_history(plan.past, facts["past"]["rows"], choice)]
    elif choice.lags:
        lines += ["", "[serve]", f"batch_only = true  # {choice.lags[0].method} looks at past rows, in cell "
                  f"{choice.lags[0].cell}"]  # fmt: skip
    return "\n".join(lines) + "\n"


def _labels(facts: Mapping[str, Any], choice: Choice) -> list[str]:
    """Write how tables of true values have them, where that is not how the model has them."""
    found = facts.get("labels") or {}
    column, classes = found.get("column", ""), found.get("classes", {})
    classes = classes if choice.task == "classification" else {}
    same = column == choice.target.column and not classes
    if not column or same or (found["classes"] and not classes):
        return []
    lines = ["", "[labels]", f"value = {text(column)}  # where a table of true values has them, as the data does"]
    words = ", ".join(f"{text(word)} = {number:g}" for word, number in classes.items())
    return [*lines, f"classes = {{ {words} }}  # as load maps them"] if words else lines


def _history(past: Lookback, rows: int, choice: Choice) -> list[str]:
    """Write which past rows each row is answered after."""
    lag = choice.lags[0]
    entity = [f"entity = [{', '.join(map(text, past.entity))}]"] if past.entity else []
    why = f"as far as the features look back: {lag.method} in cell {lag.cell}"
    return ["[history]", *entity, f"rows = {rows}  # {why}{', and others' if len(choice.lags) > 1 else ''}"]


def learns_from_served(plan: Plan, choice: Choice) -> bool:
    """Say whether served rows are such as the project learns from: raw ones, each answered by itself."""
    return plan.form != "whole" and (plan.past is not None or not choice.lags)


def _watch(rows: int, time: Mapping[str, Any]) -> list[str]:
    """Write how much time a window of the watch covers, where a day has too few rows to say anything."""
    days, why = window(rows, _span_days(time))
    return ["", "[watch]", f'window = "{days} days"  # {why}'] if days > 1 else []


def window(rows: int, span_days: float) -> tuple[int, str]:
    """Give the days of a window that has enough rows, at the pace of the data, and why so many.

    >>> window(12000, 272.0)
    (12, '44 rows come in a day: so long takes about 500, and a metric of fewer says little')
    >>> window(90, 90.0)
    (9, '1 row comes in a day: a tenth of the time that the data has, about 9 rows, of which a metric says little')
    >>> window(12000, 3.0), window(12000, 0.0)
    ((1, ''), (1, ''))
    """
    if span_days < WINDOWS or not rows:
        return 1, ""
    pace, most = rows / span_days, int(span_days / WINDOWS)
    wanted = math.ceil(WINDOW_ROWS / pace)
    days = min(wanted, most)
    comes = "1 row comes" if round(pace) == 1 else f"{pace:.2g} rows come" if pace < 10 else f"{pace:.0f} rows come"
    if days == 1:
        return 1, ""
    if wanted <= most:
        return days, f"{comes} in a day: so long takes about {WINDOW_ROWS}, and a metric of fewer says little"
    held = f"about {round(pace * days)} rows, of which a metric says little"
    return days, f"{comes} in a day: a tenth of the time that the data has, {held}"


def _span_days(time: Mapping[str, Any]) -> float:
    if time["min"] is None:
        return 0.0
    span = datetime.fromisoformat(time["max"][:26]) - datetime.fromisoformat(time["min"][:26])
    return span.total_seconds() / 86400


def holdout(choice: Choice, time: Mapping[str, Any]) -> str:
    """Say how much time is held out: what the notebook cut off, or else as large a share as it did."""
    if choice.holdout:
        return choice.holdout
    if time["min"] is None:
        return ""
    days = _span_days(time) * (choice.split.share or SHARE)
    if days >= 1:
        return f"last {round(days)} days"
    return f"last {max(1, round(days * 24))} hours"


def _why(choice: Choice) -> str:
    cut = choice.split
    if choice.holdout and cut.cut:
        return f"the notebook cut at {cut.cut}; this moves with the data"
    if cut.kind == "random":
        return f"the notebook held out {cut.share or SHARE:.0%} at random; here the newest rows judge"
    return f"the newest {cut.share or SHARE:.0%} of the time, as the notebook held out"
