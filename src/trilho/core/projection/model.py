"""One model's state: its parts by name, and what follows from them together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace

from trilho.core import records as r
from trilho.core.projection.parts import Decision, Incident, Retraining, Rollout, Run, Version


@dataclass
class ModelState:
    """Everything the journal says about one model."""

    name: str
    champion: int | None = None
    versions: dict[int, Version] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    datasets: dict[str, r.DatasetVersioned] = field(default_factory=dict)
    dataset_times: dict[str, str] = field(default_factory=dict)
    rollouts: dict[str, Rollout] = field(default_factory=dict)
    incidents: dict[str, Incident] = field(default_factory=dict)
    alarms: dict[str, r.AlarmRaised] = field(default_factory=dict)
    alarm_times: dict[str, str] = field(default_factory=dict)
    alerts: list[tuple[str, r.AlertSent]] = field(default_factory=list)
    retrainings: dict[str, Retraining] = field(default_factory=dict)
    champions: list[tuple[str, int]] = field(default_factory=list)  # journal time, version that took over
    decision: int | None = None  # the one that holds
    decisions: dict[int, Decision] = field(default_factory=dict)
    decisions_held: list[tuple[str, int]] = field(default_factory=list)  # journal time, decision that took over

    def copy(self) -> ModelState:
        """Give a state that can be folded on while somebody still reads this one: its containers are copied."""
        copied = replace(self)
        for name in (f.name for f in fields(self) if isinstance(getattr(self, f.name), dict | list)):
            setattr(copied, name, getattr(self, name).copy())
        return copied

    @property
    def rollout(self) -> Rollout | None:
        """The rollout under way, if there is one."""
        return next((x for x in reversed(self.rollouts.values()) if x.outcome is None), None)

    @property
    def open_incidents(self) -> list[Incident]:
        """The incidents not closed, oldest first."""
        return [x for x in self.incidents.values() if x.closed is None]

    @property
    def retraining(self) -> Retraining | None:
        """The retraining under way, if there is one."""
        return next((x for x in reversed(self.retrainings.values()) if x.result is None), None)

    @property
    def succession(self) -> list[int]:
        """The champions in the order in which they took over, without those that were rolled back.

        >>> ModelState("m", champion=2, champions=[("t1", 1), ("t2", 2), ("t3", 3), ("t4", 2)]).succession
        [1, 2]
        """
        return _line(self.champions)

    @property
    def decision_succession(self) -> list[int]:
        """The decisions in the order in which they took over, without those that were rolled back."""
        return _line(self.decisions_held)

    @property
    def shares(self) -> dict[int, int]:
        """Percent of traffic for each version that should serve now.

        >>> ModelState("m", champion=2).shares
        {2: 100}
        """
        rollout = self.rollout
        if rollout is None or rollout.share == 0:
            return {} if self.champion is None else {self.champion: 100}
        if self.champion is None:
            return {rollout.version: 100}
        rest = {self.champion: 100 - rollout.share} if rollout.share < 100 else {}
        return {**rest, rollout.version: rollout.share}


def _line(taken: Iterable[tuple[str, int]]) -> list[int]:
    line: list[int] = []
    for _, number in taken:
        line = line[: line.index(number) + 1] if number in line else [*line, number]
    return line
