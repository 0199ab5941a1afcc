"""What a version's certificate means for its release: its part in the gate's verdict, a refusal, a line of the plan."""

from __future__ import annotations

from typing import Any

from trilho.core.checks import Check, compose
from trilho.core.records import Verdict, VersionCertified
from trilho.errors import NotYet, Refused

TIMED = ("latency", "peak")


def with_certificate(
    verdict: Verdict, evidence: dict[str, Any], certificate: VersionCertified
) -> tuple[Verdict, dict[str, Any]]:
    """Let a certificate's checks have their say on the gate's verdict."""
    checks = [
        Check(x["name"], x["verdict"], x["note"], blocks=not x["ok"] or x["verdict"] == "pass")
        for x in certificate.checks
    ]
    return compose(verdict, evidence, checks)


def require_certificate(certificate: VersionCertified) -> None:
    """Raise Refused for a version whose server failed, NotYet for one of which nobody can tell."""
    if certificate.verdict == "pass":
        return
    error, said = (Refused, "failed") if certificate.verdict == "fail" else (NotYet, "could not be judged")
    busy = _busy(certificate)
    raise error(
        f"version {certificate.version} {said} before any traffic: {certificate.reason}",
        hint=f"{busy}trilho models show {certificate.version}; --force --why '...' releases it all the same",
    )


def _busy(certificate: VersionCertified) -> str:
    """Say that the machine was busy, where what failed is a matter of time."""
    load, cores = next(iter(certificate.machine.get("load", [])), 0.0), certificate.machine.get("cores") or 1
    timed = any(not check["ok"] and check["name"] in TIMED for check in certificate.checks)
    return f"try again when this machine is less busy ({load:g} on {cores} cores); " if timed and load > cores else ""


def explain(certificate: VersionCertified) -> str:
    """Say in a line what a version's server was seen to do.

    >>> found = VersionCertified(model="m", version=2, package="p", verdict="pass", reason="", conditions={}, checks=[],
    ...     figures={"rows": 50, "most": {"rows_per_second": 1800.0}}, machine={}, made="2026-03-01T12:00:00+00:00")
    >>> explain(found)
    'its server answered its 50 stored rows as it must; it bears 1800 rows/s here'
    """
    if certificate.verdict != "pass":
        return f"its server said {certificate.verdict} before any traffic, and it is released all the same: " + str(
            certificate.reason
        )
    figures, peak = certificate.figures, certificate.conditions.get("peak")
    most = figures.get("most", {}).get("rows_per_second")
    borne = f"; it bears the peak of {peak:g} rows/s" if peak else ""
    also = f"; it bears {most:.4g} rows/s here" if most and not peak else f", and {most:.4g} here" if most else ""
    return f"its server answered its {figures.get('rows', 0)} stored rows as it must{borne}{also}"
