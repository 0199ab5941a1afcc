"""What is done with the jobs of a turn: checked, predicted and decided as one table, then logged and counted.

Each job keeps its own ids and its own error. Where one of them is wrong, or makes the project's code fail, the others
are answered as if it had not been there.
"""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.package import ModelError
from trilho_runtime.prediction.entries import Telling
from trilho_runtime.prediction.job import Job, Outcome
from trilho_runtime.prediction.live import LiveProfile
from trilho_runtime.prediction.mask import Mask
from trilho_runtime.prediction.served import Lines, ServedLog
from trilho_runtime.schema.field import RowError
from trilho_runtime.serving.loaded import Loaded
from trilho_runtime.serving.parts import Checker, Columns, Found, Part, split
from trilho_runtime.web.http import HttpError, note
from trilho_runtime.web.measures import Tally

if TYPE_CHECKING:
    from trilho_runtime.serving.lookup import Lookup

TRACEBACKS_A_MINUTE = 10
TIMED_ROWS = 32
BEST_OF = 5
TURN_SECONDS = 0.004  # so long a turn may keep the loop
MOST_INLINE = 2000

Floats = NDArray[np.float64]


class Rule(Protocol):
    """What decides on scores; `decision.Decision` is the one there is."""

    @property
    def takes_row(self) -> bool:
        """Say whether it looks at the row besides the score."""

    def decide_all(self, scores: Sequence[Any], rows: Sequence[Mapping[str, Any]]) -> tuple[list[Any], int, str]:
        """Decide rows; give the decisions, how many failed, and how the last of those did."""


class Rules(Protocol):
    """The rule that holds now, and its version; None where nothing is decided."""

    @property
    def current(self) -> tuple[int | str, Rule] | None:
        """Give the version and the rule."""


@dataclass
class Complaints:
    """Writes tracebacks of the project's code to the server's log, a few a minute at most."""

    noted: deque[float] = field(default_factory=lambda: deque(maxlen=TRACEBACKS_A_MINUTE))

    def add(self) -> None:
        """Write the exception that is handled now."""
        now = time.monotonic()
        if len(self.noted) < TRACEBACKS_A_MINUTE or now - self.noted[0] >= 60:
            self.noted.append(now)
            note(traceback.format_exc())


class Work:
    """Answers the jobs of a turn with one model; one thread at a time."""

    def __init__(
        self,
        model: Loaded,
        version: int,
        tally: Tally,
        *,
        log: ServedLog | None = None,
        mask: Mask | None = None,
        live: LiveProfile | None = None,
        rules: Rules | None = None,
        refuse_extra_fields: bool = False,
        lookup: Lookup | None = None,
    ) -> None:
        self.model = model
        self.live = live
        self._version = version
        self._tally = tally
        self._log = log
        self._rules = rules
        hidden = () if mask is None else tuple(mask.rules)
        self._checker = Checker(model, tally, refuse_extra_fields=refuse_extra_fields, lookup=lookup, hidden=hidden)
        self.telling = Telling.of(model.package.manifest)
        self.lines = Lines(version, model.predictor.signature, self.telling, mask)
        self._complaints = Complaints()

    def do(self, jobs: Sequence[Job]) -> list[Outcome | Exception]:
        """Answer jobs, each with its own outcome or its own error."""
        found: Found = [None] * len(jobs)
        for part in self._checker.parts(jobs, found):
            self._answer(part, jobs, found)
        return [outcome or RuntimeError("a request was not answered") for outcome in found]

    def inline_rows(self) -> int:
        """Measure how many rows the model answers while nothing else has to wait for long; 0 for a slow one."""
        rows, _ = self.model.package.sample()
        if not self.model.predictor.fast or not rows:
            return 0
        rows = (rows * TIMED_ROWS)[:TIMED_ROWS]
        took = {size: min(self._seconds(rows[:size]) for _ in range(BEST_OF)) for size in (1, TIMED_ROWS)}
        if took[1] > TURN_SECONDS:
            return 0
        a_row = max((took[TIMED_ROWS] - took[1]) / (TIMED_ROWS - 1), 1e-9)
        return 1 + min(int((TURN_SECONDS - took[1]) / a_row), MOST_INLINE - 1)

    def _seconds(self, rows: list[Any]) -> float:
        started = time.perf_counter()
        self.model.predictor.predict_columns(self._checker.reader.columns(rows))
        return time.perf_counter() - started

    def _answer(self, part: Part, jobs: Sequence[Job], found: Found) -> None:
        """Predict a part as one table; where that fails, each of its jobs by itself."""
        try:
            scores = part.predictor.predict_columns(part.columns)
        except Exception as error:  # noqa: BLE001  a mistake of ours on one job's rows is no other's either
            if len(part.places) > 1:
                for one in split(part):
                    self._answer(one, jobs, found)
            else:
                found[part.places[0]] = self._failed(error, part)
            return
        self._keep(part, scores, jobs, found)

    def _failed(self, error: Exception, part: Part) -> Exception:
        if isinstance(error, RowError):  # a value that only the model itself can refuse, as a category it never saw
            return HttpError(422, str(error), field=error.field, row=error.row)
        if not isinstance(error, ModelError):
            return error
        self._complaints.add()
        return HttpError(422, str(error), row=0 if part.sizes == [1] else None)

    def _keep(self, part: Part, scores: Floats, jobs: Sequence[Job], found: Found) -> None:
        """Decide on scores, log them in one write, count them, and give each job what is its own."""
        told: list[Any] = scores.tolist()
        decisions, decision_version = self._decide(told, part.rows)
        mine = [jobs[place] for place in part.places]
        ids = [f"{job.identity}.{index}" for job in mine for index in range(job.size)]
        kept = len(ids)
        if self._log is not None:
            shadows = [job.shadow for job in mine for _ in job.rows] if any(job.shadow for job in mine) else ()
            attempts = [job.attempt for job in mine for _ in job.rows] if any(job.attempt for job in mine) else ()
            lines = self.lines.of(
                ids, part.rows, told, decisions, decision_version, shadows, attempts, known=part.known
            )
            kept = self._log.write(lines, len(ids))
        start, extra = 0, 0 if part.known else None
        for place, size in zip(part.places, part.sizes, strict=True):
            own = slice(start, start + size)
            decided = decisions[own] if decisions is not None else None
            mine_kept = min(max(kept - start, 0), size)
            logged = mine_kept == size
            found[place] = Outcome(
                ids[own], told[own], self._version, decided, decision_version, logged, extra, 0 if logged else mine_kept
            )
            start += size
        self._count(part, scores, mine)

    def _decide(self, scores: list[Any], rows: list[Any]) -> tuple[list[Any] | None, str | None]:
        current = self._rules.current if self._rules is not None else None
        if current is None:
            return None, None
        version, rule = current
        given = self.telling.plain(scores) if self.telling.kind in ("probabilities", "class") else scores
        decisions, failed, why = rule.decide_all(given, self._rows_for(rule, rows))
        self._tally.add_undecided(failed, why)
        return decisions, str(version)

    def _rows_for(self, rule: Rule, rows: list[Any]) -> Sequence[Mapping[str, Any]]:
        """Give rows as a rule sees them, the same as in a batch: each known field, times in one spelling."""
        if not rule.takes_row:
            return rows
        signature = self.model.predictor.signature
        names = [field.name for field in signature.fields]
        return signature.canonical([{name: row.get(name) for name in names} for row in rows])

    def _count(self, part: Part, scores: Floats, jobs: Sequence[Job]) -> None:
        shadows = [job.shadow for job in jobs]
        if any(shadows):
            shown = ~np.repeat(shadows, part.sizes)
            self._tally.add_rows(int(shown.sum()), int((~shown).sum()))
            columns: Columns = {name: column[shown] for name, column in part.columns.items()}
            scores = scores[shown]
        else:
            columns = part.columns
            self._tally.add_rows(len(scores), 0)
        if self.live is not None and len(scores):
            self.live.add(columns, scores if scores.ndim == 1 else scores.max(axis=1))
        history = part.predictor.history
        if history is not None:
            self._tally.add_past(past.state for past in history.find(part.columns))
