"""Readiness for production after the ML Test Score: 28 tests in four sections, each with the evidence for it.

Breck, Cai, Nielsen, Salib, Sculley: The ML Test Score: A Rubric for ML Production Readiness and Technical Debt
Reduction, IEEE Big Data 2017. A test that is done by hand and written down counts half a point, one that is automatic
a whole one; a section's score is the sum of its tests, and the result is the least of the four sections.
"""

from __future__ import annotations

from dataclasses import dataclass

from trilho.adopt.doctor.evidence import Evidence
from trilho.adopt.doctor.rubric import QUESTIONS, Question

SECTIONS = ("data", "model", "infrastructure", "monitoring")
MEANING = (
    (0.0, "a piece of research rather than something to run in production"),
    (1.0, "not without tests, but serious holes are to be expected"),
    (2.0, "a first step towards production; more has to be invested"),
    (3.0, "reasonably tested; more of it could be automatic"),
    (5.0, "well tested and monitored by machines"),
    (7.0, "exceptionally well tested and monitored by machines"),
)
"""What a result up to a number means, after the paper's own reading."""


@dataclass(frozen=True)
class Test:
    """One of the 28, as it came out."""

    id: str  # "Data 1"
    section: str
    title: str
    points: float
    evidence: str  # "" where none was found
    missing: str  # what would give more; "" where nothing is

    @property
    def how(self) -> str:
        """Say how it is done: "automated", "manual", or "" where it is not."""
        return {0.0: "", 0.5: "manual"}.get(self.points, "automated")


@dataclass(frozen=True)
class Readiness:
    """All tests, and what they come to."""

    tests: tuple[Test, ...]

    @property
    def sections(self) -> dict[str, float]:
        """Give each section's score."""
        return {name: sum(test.points for test in self.tests if test.section == name) for name in SECTIONS}

    @property
    def score(self) -> float:
        """Give the result: the least of the sections."""
        return min(self.sections.values())

    @property
    def meaning(self) -> str:
        """Say what the result means."""
        return next(words for most, words in MEANING if self.score <= most)


def readiness(evidence: Evidence) -> Readiness:
    """Ask all 28."""
    return Readiness(
        tuple(
            _asked(evidence, section, at, question)
            for section, questions in QUESTIONS.items()
            for at, question in enumerate(questions, 1)
        )
    )


def _asked(evidence: Evidence, section: str, at: int, question: Question) -> Test:
    names = {"data": "Data", "model": "Model", "infrastructure": "Infra", "monitoring": "Monitor"}
    found = question.whole(evidence)
    points = 1.0 if found else 0.0
    if not found:
        found = question.half(evidence)
        points = 0.5 if found else 0.0
    missing = "" if points == 1 else question.advice
    return Test(f"{names[section]} {at}", section, question.title, points, found, missing)
