"""What came of a soak: the callers' answers beside the log of predictions and the journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from trilho.serve.segments import LocalPredictionLog

CLOSE = 1e-9


@dataclass(frozen=True)
class Rolled:
    """A version that was rolled back, when the journal said so, and when it was released again, if ever."""

    version: int
    at: float
    again: float = float("inf")

    def until(self, when: float) -> Rolled:
        """Give it with the moment of the next release."""
        return replace(self, again=min(self.again, when))


@dataclass
class Answer:
    """One line of the callers'."""

    asked: float
    answered: float
    status: int
    row: int
    version: int
    id: str
    value: float


@dataclass
class Account:
    """Sums of everything that was asked."""

    requests: int = 0
    failed: int = 0
    answered: int = 0
    twice: int = 0
    wrong: int = 0
    logged: int = 0
    repeated: int = 0
    unlogged: int = 0
    unanswered: int = 0
    otherwise: int = 0
    shadow: int = 0
    shadow_of_nobody: int = 0
    span: float = 0.0
    gap: float = 0.0
    gap_at: float = 0.0
    longest: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    versions: Counter[int] = field(default_factory=Counter)
    rollbacks: list[tuple[float, Rolled]] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Say it in lines."""
        slowest = sorted(self.rollbacks, key=lambda item: -item[0])[:3]
        took = ", ".join(f"{took:.3f} s (version {x.version} at {_clock(x.at)})" for took, x in slowest)
        gap = f"longest gap without any answer {self.gap:.3f} s (from {_clock(self.gap_at)})"
        return [
            f"{self.requests} requests in {self.span:.0f} s ({self.requests / self.span:.0f}/s); {self.failed} failed",
            f"{self.answered} rows answered, by {dict(sorted(self.versions.items()))}; {self.wrong} otherwise than by "
            f"their version; {self.twice} ids answered twice",
            f"{self.logged} rows in the log; answered and not there: {self.unlogged}; there and not answered: "
            f"{self.unanswered}; there with another version's answer: {self.otherwise}; written twice, counted "
            f"once: {self.repeated}",
            f"{self.shadow} shadow lines, kept apart; of no answered row: {self.shadow_of_nobody}",
            f"{gap}, longest wait {self.longest:.3f} s",
            f"{len(self.rollbacks)} rollbacks, from the journal's record to the version's last answer: {took}",
        ]


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M:%S}"


def read_answers(path: Path) -> list[Answer]:
    """Read what the callers wrote."""
    found = []
    for line in path.read_text().splitlines():
        asked, answered, status, row, version, id_, value = line.split()
        whole = version != "-"
        found.append(
            Answer(float(asked), float(answered), int(status), int(row), int(version) if whole else 0, id_,
                   float(value) if whole else float("nan"))
        )  # fmt: skip
    return found


def account_of(
    path: Path, expected: Sequence[Sequence[float]], log: LocalPredictionLog, rollbacks: Sequence[Rolled]
) -> Account:
    """Compare answers, log and journal; `expected` is each version's answer to each row."""
    answers = read_answers(path)
    good = [answer for answer in answers if answer.status == 200]
    found = Account(requests=len(answers), failed=len(answers) - len(good), answered=len(good))
    found.statuses.update(answer.status for answer in answers)
    found.versions.update(answer.version for answer in good)
    found.twice = len(good) - len({answer.id for answer in good})
    found.wrong = sum(abs(x.value - expected[x.version - 1][x.row]) > CLOSE for x in good)
    moments = sorted(answer.answered for answer in good)
    found.span = moments[-1] - moments[0]
    found.gap, found.gap_at = max((later - earlier, earlier) for earlier, later in pairwise(moments))
    found.longest = max(answer.answered - answer.asked for answer in answers)
    found.rollbacks = [(_last(good, rolled) - rolled.at, rolled) for rolled in rollbacks]
    _compare_log(found, {answer.id: answer for answer in good}, log)
    return found


def _last(good: Sequence[Answer], rolled: Rolled) -> float:
    """Give when a version last answered after it was rolled back."""
    own = (x.answered for x in good if x.version == rolled.version and rolled.at <= x.answered < rolled.again)
    return max(own, default=rolled.at)


def _compare_log(found: Account, by_id: dict[str, Answer], log: LocalPredictionLog) -> None:
    ever = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    rows, shadow = log.rows(*ever), log.shadow_rows(*ever)
    ids = rows["_id"].tolist()
    found.logged, found.repeated = len(ids), int(log.counters().get("duplicates", 0))
    found.unlogged = len(by_id.keys() - set(ids))
    found.unanswered = len(set(ids) - by_id.keys())
    told = zip(ids, rows["_version"].tolist(), strict=True)
    found.otherwise = sum(id_ in by_id and by_id[id_].version != version for id_, version in told)
    unseen = shadow["_id"].tolist()
    found.shadow, found.shadow_of_nobody = len(unseen), len(set(unseen) - by_id.keys())
