"""An examination's result: for people a page of text, for programs one object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from trilho.adopt.doctor.fitness import Fitness
from trilho.adopt.doctor.ledger import Debt
from trilho.adopt.doctor.readiness import Readiness
from trilho.adopt.plan import Finding, Severity

HEADINGS: dict[Severity, str] = {"error": "Errors", "warning": "Warnings", "note": "Notes"}
THREE = 3
FIRST = ("secret", "seen-rows", "target-leakage", "leakage", "undefined-name", "data-location", "personal-data")
"""What to do first, among findings of one severity."""


@dataclass(frozen=True)
class Change:
    """A metric before and after the leakage was taken out."""

    metric: str
    before: float
    after: float


@dataclass(frozen=True)
class Fix:
    """The patch that takes leakage out, and what it does to the metric."""

    file: str
    fixed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    measured: bool = False
    why_not: str = ""


@dataclass(frozen=True)
class Report:
    """All that an examination found."""

    path: str
    kind: str
    findings: tuple[Finding, ...]
    readiness: Readiness
    ledger: tuple[Debt, ...]
    fits: Fitness
    fix: Fix | None = field(default=None)

    @property
    def verdict(self) -> str:
        """Say in one sentence how it is."""
        errors = sum(one.severity == "error" for one in self.findings)
        warnings = sum(one.severity == "warning" for one in self.findings)
        score = f"readiness {self.readiness.score:g} of 7"
        if not self.fits.fits:
            return f"trilho is probably not for this: {self.fits.reasons[0]}."
        if errors:
            return f"Not ready: {_count(errors, 'error')} and {_count(warnings, 'warning')}; {score}."
        if warnings:
            return f"No errors and {_count(warnings, 'warning')}; {score}."
        return f"No errors and no warnings; {score}."

    @property
    def first(self) -> list[str]:
        """Name the three things to do first: the worst findings, each rule once, then what readiness lacks."""
        ranked = sorted(self.findings, key=lambda one: (list(HEADINGS).index(one.severity), _rank(one.rule)))
        found: dict[str, str] = {}
        for one in ranked:
            if one.severity != "note":
                found.setdefault(one.rule, f"{one.rule} ({_where(one)}): {one.fix or one.message}")
        weakest = min(self.readiness.sections, key=lambda name: self.readiness.sections[name])
        for test in self.readiness.tests:
            if test.section == weakest and not test.points and self.fits.fits and len(found) < THREE:
                found.setdefault(test.id, f"{test.id}, {test.title}: {test.missing}")
        return list(found.values())[:THREE]

    def lines(self) -> Iterator[str]:
        """Write it for people."""
        yield self.verdict
        yield from (f"Also: {reason}." for reason in self.fits.reasons[1:])
        if self.first:
            yield "Do first:"
            yield from (f"  {at}. {text}" for at, text in enumerate(self.first, 1))
        for severity, heading in HEADINGS.items():
            found = [one for one in self.findings if one.severity == severity]
            if found:
                yield ""
                yield f"{heading} ({len(found)})"
                yield from (line for one in found for line in _finding(one))
        yield from self._fix_lines()
        yield ""
        sections = ", ".join(f"{name} {score:g}" for name, score in self.readiness.sections.items())
        yield f"Readiness {self.readiness.score:g} of 7: {self.readiness.meaning}"
        yield f"  {sections}: the least counts. 28 tests of the ML Test Score; --json has the evidence for each"
        yield ""
        yield "Debt                            before  after"
        for debt in self.ledger:
            yield f"  {debt.name:<30}{_number(debt.before):>6}{_number(debt.after):>7}"

    def _fix_lines(self) -> Iterator[str]:
        if self.fix is None:
            return
        yield ""
        if self.fix.fixed:
            yield (
                f"Patch {self.fix.file}"
                if self.fix.file
                else "The change that takes the leakage out (--patch writes it)"
            )
        else:
            yield (
                "No patch: what leaks can't be changed in place" if self.fix.left else "No patch: no leakage was found"
            )
        yield from (f"  {text}" for text in self.fix.fixed)
        yield from (f"  not changed: {text}" for text in self.fix.left)
        for change in self.fix.changes:
            yield f"  {change.metric}: {change.before:.6g} as it is, {change.after:.6g} without the leakage"
        if self.fix.fixed and not self.fix.measured:
            yield f"  the metric's change is not measured: {self.fix.why_not}"

    def data(self) -> dict[str, Any]:
        """Give it as JSON values."""
        fix = self.fix
        return {
            "path": self.path,
            "kind": self.kind,
            "verdict": self.verdict,
            "first": self.first,
            "fits": {"fits": self.fits.fits, "reasons": list(self.fits.reasons)},
            "findings": [asdict(one) for one in self.findings],
            "readiness": {
                "score": self.readiness.score,
                "of": 7,
                "meaning": self.readiness.meaning,
                "sections": self.readiness.sections,
                "tests": [{**asdict(test), "how": test.how or None} for test in self.readiness.tests],
            },
            "ledger": [asdict(debt) for debt in self.ledger],
            "patch": asdict(fix) if fix is not None else None,
        }


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _rank(rule: str) -> int:
    return FIRST.index(rule) if rule in FIRST else len(FIRST)


def _where(one: Finding) -> str:
    parts = [one.file] if one.file else []
    parts += [f"cell {one.cell}"] if one.cell is not None else []
    parts += [f"line {one.line}"] if one.line else []
    return ", ".join(parts) or "everywhere"


def _finding(one: Finding) -> Iterator[str]:
    yield f"  {_where(one)}  {one.rule}: {one.message}"
    if one.fix and one.severity != "note":
        yield f"      fix: {one.fix}"


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)
