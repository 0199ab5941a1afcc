"""A platform held in memory, told record by record: what pages and reports are tested and looked at with."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from trilho.config import Settings
from trilho.core import records as r
from trilho.core.journal import GENESIS, Head, Record, seal, unseal
from trilho.core.projection import State, fold
from trilho.core.readings import EndpointStatus, LabelStatus, Reading

NOW = datetime(2026, 3, 4, 16, 20, tzinfo=UTC)
TASKS: list[tuple[str, list[str], float]] = [
    ("extract", [], 0.8),
    ("check", ["extract"], 0.3),
    ("split", ["extract", "check"], 0.2),
    ("fit-all", ["split"], 6.4),
    ("fit-window", ["split"], 2.9),
    ("predict-all", ["fit-all", "split"], 0.4),
    ("predict-window", ["fit-window", "split"], 0.4),
    ("score", ["split"], 0.5),
    ("evaluate", ["predict-all", "predict-window"], 0.1),
    ("pack", ["evaluate", "fit-all", "fit-window"], 1.7),
]


def settings(name: str, task: str, **model: Any) -> Settings:
    """Give a project's settings with defaults for all but the model."""
    return Settings.model_validate(
        {
            "model": {"name": name, "task": task, "target": "y", "time": "ts", **model},
            "data": {"source": "data/*.csv"},
            "steps": {"features": "shop.features:features", "train": "shop.train:train"},
        }
    )


@dataclass
class MemorySource:
    """A platform held in memory; its journal is a list of sealed texts."""

    texts: list[tuple[str, str]] = field(default_factory=list)
    _fold: State = field(default_factory=State)
    measured: dict[str, list[Reading]] = field(default_factory=dict)
    progress: dict[str, LabelStatus] = field(default_factory=dict)
    endpoints: dict[str, EndpointStatus] = field(default_factory=dict)
    known: dict[str, Settings] = field(default_factory=dict)
    logs: dict[tuple[str, str], str] = field(default_factory=dict)
    acknowledged: list[tuple[str, str, str, str]] = field(default_factory=list)

    def write(self, at: datetime, *payloads: r.Payload, actor: str = "trilho") -> None:
        """Append records at a moment."""
        for payload in payloads:
            previous = self.texts[-1][1] if self.texts else GENESIS
            self.texts.append(seal(payload, previous=previous, actor=actor, time=at.isoformat(timespec="microseconds")))

    def records(self) -> list[Record]:
        """Give the journal's records."""
        return [unseal(i, text, hash_) for i, (text, hash_) in enumerate(self.texts, start=1)]

    def state(self) -> State:
        """Give the journal's fold."""
        if self._fold.seq != len(self.texts):
            self._fold = fold(self.records())
        return self._fold

    def head(self) -> str:
        """Give the journal's head."""
        newest = self.records()[-1:]
        return str(Head(newest[0].seq, newest[0].hash)) if newest else str(Head(0, GENESIS))

    def models(self) -> list[str]:
        """Name the models."""
        return list(self.known)

    def readings(self, model: str) -> list[Reading]:
        """Give a model's readings."""
        return self.measured.get(model, [])

    def labels(self, model: str) -> LabelStatus | None:
        """Say how far labels have arrived."""
        return self.progress.get(model)

    def endpoint(self, model: str) -> EndpointStatus | None:
        """Give a model's endpoint."""
        return self.endpoints.get(model)

    def settings(self, model: str) -> Settings | None:
        """Give a model's settings."""
        return self.known.get(model)

    def package(self, model: str, version: int) -> dict[str, Any] | None:
        """Give the manifest of a version's package."""
        return {
            "features": "shop.features:features",
            "estimator": {"class": "sklearn.ensemble.HistGradientBoostingRegressor", "format": "pickle"},
            "signature": [
                {"name": "ts", "type": "timestamp", "nullable": False},
                {"name": "temp_max_c", "type": "number", "nullable": True},
            ],
            "libraries": {"python": "3.11.7", "pandas": "3.0.0", "scikit-learn": "1.8.0"},
            "lineage": {"history": "window", "train_until": "2019-06-01T00:00:00"},
        }

    def tail_log(self, run: str, task: str) -> str:
        """Give the output of a run's task."""
        return self.logs.get((run, task), "")

    def acknowledge(self, model: str, incident: str, actor: str, why: str) -> None:
        """Record that somebody has taken an incident up."""
        self.acknowledged.append((model, incident, actor, why))
        self.write(NOW, r.IncidentUpdated(model=model, incident=incident, change="acknowledged", note=why), actor=actor)

    def act(self, model: str, payload: r.Payload, actor: str) -> None:
        """Record what a person did about an incident."""
        self.write(NOW, payload, actor=actor)


def tasks(cached: int = 0, failed: str = "") -> list[r.TaskResult]:
    """Give the tasks of a training run as they ended."""
    found: list[r.TaskResult] = []
    for i, (name, needs, seconds) in enumerate(TASKS):
        state: r.TaskState = "cached" if i < cached else "ran"
        if name == failed:
            state = "failed"
        elif failed and any(t["state"] in ("failed", "skipped") for t in found if t["name"] in needs):
            state = "skipped"
        reason = {"cached": "nothing it reads has changed", "skipped": "a task it needs failed"}.get(state, "")
        spent = seconds if state in ("ran", "failed") else 0.0
        found.append(r.TaskResult(name=name, state=state, seconds=spent, needs=needs, reason=reason))
    return found


def trained(
    source: MemorySource,
    at: datetime,
    model: str,
    number: int,
    metric: str,
    value: float,
    *,
    verdict: r.Verdict = "pass",
    trigger: str = "a person",
    until: str = "2011-12-31T23:00:00",
) -> None:
    """Write a run, its version and the gate's verdict."""
    run, data = f"{model[:4]}-{number:03d}a7", f"{number:02d}" + "c0ffee" * 10 + "ab"
    commit = f"{'9f' if number < 3 else 'e4'}31d07ab{'0' * 31}"
    source.write(
        at,
        r.DatasetVersioned(
            model=model,
            dataset=data,
            rows=8000 + 700 * number,
            columns=["ts", "y"],
            source="data/*.csv",
            first="2011-01-01T00:00:00",
            last=until,
            served_rows=700 * (number - 1),
        ),
        r.ContractChecked(model=model, dataset=data, verdict="pass", findings=[]),
        r.RunStarted(
            model=model,
            run=run,
            pipeline="train",
            trigger=trigger,
            dataset=data,
            commit=commit,
            commit_time=(at - timedelta(hours=5)).isoformat(),
        ),
        actor="maria" if trigger == "a person" else "trilho",
    )
    better = 1 if metric == "mae" else -1
    champion = None if number == 1 else number - 1
    gain = 0.35 * value if metric == "mae" else 0.018
    gain = gain if verdict == "pass" else -0.2 * gain
    evidence = {
        "metric": metric,
        "rows": 1440,
        "against": "the champion" if champion else "the best constant",
        "challenger": value,
        "champion": value + better * gain,
        "difference": gain,
        "low": gain * 0.7 if gain > 0 else gain * 1.6,
        "high": gain * (1.3 if gain > 0 else 0.4),
        "margin": 0.0,
        "confidence": 0.95,
        "reason": "compared on the same held-out rows",
        "checks": [{"name": "better than the champion", "ok": verdict == "pass", "note": f"gain {gain:.3g}"}],
    }
    source.write(
        at + timedelta(seconds=14),
        r.RunEnded(
            model=model, run=run, state="succeeded", tasks=tasks(2 if number > 1 else 0), error=None, seconds=12.4
        ),
        r.VersionPackaged(
            model=model,
            version=number,
            run=run,
            dataset=data,
            package=f"{number:02d}" + "feed" * 15 + "00",
            metric=metric,
            metrics={metric: value, "rmse" if metric == "mae" else "brier": value * 1.4 if metric == "mae" else 0.165},
            commit=commit,
            commit_time=(at - timedelta(hours=5)).isoformat(),
            data_until=until,
        ),
        r.GateJudged(model=model, version=number, champion=champion, verdict=verdict, evidence=evidence),
    )


def released(
    source: MemorySource, at: datetime, model: str, number: int, *, actor: str = "trilho", upto: int = 100
) -> None:
    """Write a rollout up to a share of traffic."""
    rollout, champion = f"{model[:4]}-r{number}", None if number == 1 else number - 1
    source.write(
        at,
        r.RolloutStarted(
            model=model, rollout=rollout, version=number, champion=champion, steps=[10, 50, 100], why="the gate passed"
        ),
        actor=actor,
    )
    for i, share in enumerate(x for x in (10, 50, 100) if x <= upto):
        later = at + timedelta(seconds=4 * (i + 1))
        source.write(
            later,
            r.RolloutStepped(
                model=model, rollout=rollout, version=number, share=share, evidence={"requests": 50, "errors": 0}
            ),
        )
        if i == 0:
            source.write(later, r.VersionServed(model=model, version=number, rollout=rollout, endpoint="local"))
    if upto == 100:
        source.write(
            at + timedelta(seconds=14),
            r.RolloutEnded(
                model=model, rollout=rollout, version=number, outcome="full", champion=number, why="every step held"
            ),
        )


def alarmed(
    source: MemorySource,
    at: datetime,
    reading: Reading,
    kind: r.AlarmKind,
    title: str,
    *,
    severity: Any = "medium",
    close: str | None = None,
    retraining: str | None = None,
) -> str:
    """Write an alarm, its incident, the alerts about it and what came of it."""
    key = f"{reading.model[:4]}-{reading.window_start[:10]}-{kind[:4]}"
    top = sorted(reading.features, key=lambda f: -f.distance / f.tolerance)[:3]
    causes = (
        [
            r.Cause(feature=f.feature, share=s, distance=f.distance, tolerance=f.tolerance)
            for f, s in zip(top, (0.71, 0.2, 0.06), strict=True)
        ]
        if kind == "drift"
        else []
    )
    source.write(
        at,
        r.AlarmRaised(
            model=reading.model,
            alarm=f"a-{key}",
            kind=kind,
            version=reading.version,
            window_start=reading.window_start,
            window_end=reading.window_end,
            evidence=reading.threshold * 3.1,
            threshold=reading.threshold,
            causes=causes,
            summary=title,
        ),
        r.IncidentOpened(
            model=reading.model,
            incident=f"i-{key}",
            kind=kind,
            alarm=f"a-{key}",
            version=reading.version,
            severity=severity,
            title=title,
        ),
    )
    source.write(
        at + timedelta(seconds=1),
        r.AlertSent(model=reading.model, alert=f"m-{key}", incident=f"i-{key}", channel="slack", attempts=1),
    )
    source.write(
        at + timedelta(seconds=2),
        r.TriggerFired(
            model=reading.model, trigger=f"t-{key}", cause=kind, incident=f"i-{key}", data_time=reading.window_end
        ),
    )
    if retraining:
        number = reading.version + 1
        source.write(
            at + timedelta(seconds=30),
            r.RetrainingEnded(
                model=reading.model,
                trigger=f"t-{key}",
                run=f"{reading.model[:4]}-{number:03d}a7",
                version=number,
                result="promoted" if retraining == "promoted" else "rejected",
                note="judged on held-out rows",
            ),
        )
    if close:
        source.write(
            at + timedelta(seconds=50),
            r.IncidentClosed(model=reading.model, incident=f"i-{key}", reason=close, end="outlived"),
        )
    return f"i-{key}"
