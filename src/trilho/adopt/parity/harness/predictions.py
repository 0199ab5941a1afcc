"""Predictions of the project's model beside those of the notebook's, for every row that the latter was fitted to or
asked about."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ..equality import Found, alike_numbers, compare_numbers
from .outcome import worse
from .prepared import compare_measured
from .scale import inverse_of, post_processed
from .subject import NotCompared, Subject, scores_of
from .values import hashed_sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

WHOLE = 100_000  # so many rows are predicted to be compared; of more, the sample
POST_PROCESSED = "the notebook makes other numbers of its model's before it measures them: both were compared"


class Predictions:
    """The project's predictions, and what is wanted of them."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.tolerance = float(subject.request["tolerance"])
        self.scores: dict[int, float] = {}  # the project's, by position
        self.direct = True  # whether the notebook's predictions are the project's scores as they are
        told = [e for e in subject.events if e.golden is not None and e.positions is not None]
        if not told:
            raise NotCompared("the notebook's run kept no predictions of its model for rows of the table")
        rows = np.concatenate([event.positions for event in told])
        golden = np.concatenate([event.golden for event in told])
        known = np.unique(rows)
        self.sample = hashed_sample(known.tolist(), subject.request["seed"], subject.request["sample"])
        self.asked = known if len(known) <= WHOLE else self.sample
        chosen = np.isin(rows, self.asked)
        self.rows: NDArray[np.int64] = rows[chosen]  # with those that were asked about twice
        self.golden: NDArray[np.float64] = golden[chosen]

    def compare(self) -> tuple[Found, str]:
        """Fit and compare; give what was found, with a note where that needs one.

        What differs is fitted once more, to know whether it ever is the same, and then to what else the notebook may
        have meant.
        """
        first, *others = list(self.subject.fit_rows())
        found = self._attempt(first)
        if found.different and not self._repeats(first):
            unseeded = self.subject.request["unseeded"]
            return found._replace(reason=f"{unseeded}: two fits to the same rows differ; {found.reason}"), ""
        for rows in others if found.different else []:
            kept = self.scores, self.subject.model, self.subject.trained_on, self.direct
            with contextlib.suppress(Exception):  # what can't be fitted to other rows is not equal by them
                self.subject.model = None
                other = self._attempt(rows)
                if not other.different:
                    return other, self._note
            self.scores, self.subject.model, self.subject.trained_on, self.direct = kept
        return found, "" if found.different else self._note

    def of_sample(self) -> list[float]:
        """Give the project's predictions of the sample."""
        return [self.scores[row] for row in self.sample.tolist()]

    def expected(self) -> list[float]:
        """Give what is to be predicted of the sample from here on.

        These are the notebook's own predictions; where it makes others of them, the project's, which were compared.
        """
        if not self.direct:
            return self.of_sample()
        golden = dict(zip(self.rows.tolist()[::-1], self.golden.tolist()[::-1], strict=True))
        return [golden[row] for row in self.sample.tolist()]

    @property
    def _note(self) -> str:
        return "" if self.direct else POST_PROCESSED

    def _attempt(self, fit_rows: NDArray[np.int64]) -> Found:
        if self.subject.model is None:
            self.subject.learn(fit_rows)
        ours = self.subject.ask(self.subject.model, self.asked)
        self.scores = dict(zip(self.asked.tolist(), ours.tolist(), strict=True))
        measured = None if self.subject.request["prepared"] else post_processed(self.subject)
        self.direct = measured is None
        if measured is not None:
            model = self.subject.model if measured.fit_rows is None else self.subject.fit(measured.fit_rows)
            served = self.subject.ask(model, measured.rows)
            final = compare_numbers(served, measured.scores, self.tolerance, measured.rows)
            own = scores_of(self.subject.watched(self.asked)[1], self.subject.request["object"]["column"])
            return worse(self._against(own, self.golden), final)
        found, inverse = self._against(ours, self.golden), inverse_of(self.subject.request["transform"])
        if self.subject.request["prepared"] and not found.different:
            held_out = compare_measured(self.subject, self.tolerance)
            return found if held_out is None else worse(found, held_out)
        if not found.different or inverse is None:
            return found
        undone = self._against(ours, inverse(self.golden))
        if undone.different and self.subject.request["prepared"]:  # in the precision of the model's own answer
            answer = np.asarray(self.subject.watched(self.asked)[1])
            direct = self._against(answer.astype(float).reshape(-1), self.golden)
            undone = worse(direct, compare_numbers(ours, inverse(answer), self.tolerance, self.asked))
        self.direct = bool(undone.different)
        return found if self.direct else undone

    def _against(self, ours: Any, expected: Any) -> Found:
        """Compare predictions of the rows that were asked, each as often as the notebook has one of it."""
        given = np.asarray(ours)[np.searchsorted(self.asked, self.rows)]
        found = compare_numbers(given, expected, self.tolerance, self.rows)
        if not found.different:
            return found._replace(rows=len(self.asked))
        alike, _ = alike_numbers(given, np.asarray(expected), self.tolerance)
        count = len(np.unique(self.rows[~alike]))
        return found._replace(rows=len(self.asked), different=count, reason=f"{count} of {len(self.asked)} rows differ")

    def _repeats(self, fit_rows: NDArray[np.int64]) -> bool:
        again = self.subject.ask(self.subject.fit(fit_rows), self.asked)
        return not compare_numbers(again, list(self.scores.values()), self.tolerance, self.asked).different
