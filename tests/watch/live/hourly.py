"""A model with a daily season, and its profile files as servers write them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from trilho.watch.live.ledger import Profile
from trilho.watch.live.watch import LiveWatch
from trilho.watch.promise import Promise
from trilho_runtime.profile import PREDICTION, Reference

HOUR, DAY = 3600.0, 86400.0
FIRST = 1_767_225_600.0  # 1 January 2026, a Thursday
PER_HOUR = 300
DAYS = 25
LATER = FIRST + 40 * DAY


class Shop:
    """x and the prediction follow the hour of the day, and so does the share of a color."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)

    def rows(self, hours: Any, shift: float = 0.0) -> dict[str, Any]:
        """Rows of the given hours, which are seconds since 1970."""
        angle = (hours / HOUR % 24) / 24 * 2 * np.pi
        x = self.rng.normal(size=len(hours)) + 1.5 * np.sin(angle) + shift
        color = np.where(self.rng.random(len(hours)) < 0.4 + 0.35 * np.sin(angle), "red", "blue").astype(object)
        return {"x": x, "color": color, PREDICTION: x + self.rng.normal(size=len(hours))}

    def reference(self, days: int = DAYS, window: float = HOUR) -> Reference:
        """What the model was trained on."""
        hours = FIRST + np.repeat(np.arange(days * 24) * HOUR, PER_HOUR)
        return Reference.fit(self.rows(hours), hours, window)

    def part(self, reference: Reference, hour: float, rows: int, shift: float = 0.0, **about: Any) -> Profile:
        """A part of an hour."""
        counts = reference.profile(self.rows(np.full(rows, hour), shift))
        return Profile(about.get("model", "shop"), about.get("version", 1), hour, False, rows, counts)


def watch(reference: Reference, promise: str = "1 per year", **options: Any) -> LiveWatch:
    return LiveWatch("shop", 1, reference, Promise.of(promise, HOUR), **options)


def text(part: Profile) -> bytes:
    """The file that a server writes."""
    hour = datetime.fromtimestamp(part.hour, UTC).strftime("%Y-%m-%dT%H")
    about = {"schema": 1, "model": part.model, "version": part.version, "hour": hour, "event_time": part.event_time}
    return json.dumps({**about, "rows": part.rows, "counts": {k: v.tolist() for k, v in part.counts.items()}}).encode()


def write(folder: Path, name: str, part: Profile) -> None:
    """Write a file as servers do, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{name}.part"
    draft.write_bytes(text(part))
    draft.replace(folder / name)
