"""What the gate looks at besides predictions: size, callers, the certificate; and how checks make one verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from trilho.config import Gate
from trilho.core.checks import Check, compose
from trilho.core.records import VersionCertified
from trilho.errors import NotYet, PackageError, Refused
from trilho.release.budget import callers_check, size_check
from trilho.release.certified import explain, require_certificate, with_certificate
from trilho.release.verdict import Shipped, verdict_of

X = {"name": "x", "type": "number", "nullable": False}
SHOP = {"name": "shop", "type": "string", "nullable": True}


def package(folder: Path, *fields: dict[str, Any], size: int = 0, **manifest: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"task": "regression", "signature": list(fields), **manifest}))
    (folder / "estimator.pkl").write_bytes(b"0" * size)
    return folder


def test_a_package_that_is_too_large_is_refused(tmp_path: Path) -> None:
    made = package(tmp_path / "p", X, size=2_000_000)
    check = size_check(made, 1_500_000)
    assert (check.verdict, check.note) == ("fail", "2 MB in 2 files, allowed: up to 1.5 MB")
    assert size_check(made, 3_000_000).verdict == "pass"


@pytest.mark.parametrize(
    ("fields", "manifest", "said"),
    [
        ([X, {**SHOP, "nullable": False}], {}, "shop may no longer be null"),
        ([X, SHOP, {"name": "new", "type": "integer", "nullable": False}], {}, "new is new and may not be null"),
        ([{**X, "type": "string"}, SHOP], {}, "x was of type number and is of type string"),
        ([X, SHOP], {"task": "classification"}, "the task was regression and is classification"),
    ],
)
def test_a_package_that_refuses_what_callers_send_is_refused(
    tmp_path: Path, fields: list[dict[str, Any]], manifest: dict[str, Any], said: str
) -> None:
    champion, challenger = package(tmp_path / "a", X, SHOP), package(tmp_path / "b", *fields, **manifest)
    check = callers_check(challenger, champion, answered=True)
    assert (check.verdict, check.note) == ("fail", f"the champion's callers would break: {said}")
    unheard = callers_check(challenger, champion, answered=False)
    assert (unheard.verdict, unheard.ok) == ("pass", True)
    assert unheard.note.startswith(said)


def test_other_classes_break_who_reads_them(tmp_path: Path) -> None:
    def told(*classes: str) -> dict[str, Any]:
        return {"task": "classification", "outputs": {"kind": "probabilities", "classes": classes}}

    champion, challenger = package(tmp_path / "a", X, **told("a", "b")), package(tmp_path / "b", X, **told("a", "c"))
    check = callers_check(challenger, champion, answered=True)
    assert check.note == "the champion's callers would break: classes were a, b and are a, c"


def test_what_callers_may_leave_out_breaks_nobody(tmp_path: Path) -> None:
    champion = package(tmp_path / "a", X, SHOP)
    challenger = package(tmp_path / "b", X, {"name": "new", "type": "number", "nullable": True})
    assert callers_check(challenger, champion, answered=True).verdict == "pass"


def test_what_is_no_package_is_said(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with pytest.raises(PackageError, match="is no model package"):
        callers_check(tmp_path / "b", package(tmp_path / "a", X), answered=True)


def table(path: Path, noise: float, more: str = "") -> Path:
    columns = f"i AS row, NULL::TIMESTAMP AS time, i % 24 + sin(i * 7) * {noise}{more} AS prediction"
    query = f"SELECT {columns}, (i % 24)::DOUBLE AS value FROM range(2000) t(i)"
    duckdb.sql(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
    return path


def test_all_guards_together(tmp_path: Path) -> None:
    gate = Gate(slices=["shop"], size=1_000_000)
    holdout = tmp_path / "holdout.parquet"
    duckdb.sql(f"COPY (SELECT 's' || i % 4 AS shop FROM range(2000) t(i)) TO '{holdout}' (FORMAT parquet)")
    good, champion = table(tmp_path / "good", 1), table(tmp_path / "champion", 4)
    uneven = table(tmp_path / "uneven", 1, " + CASE WHEN i % 4 = 2 THEN 8 * sin(i * 3) ELSE 0 END")
    small, large = package(tmp_path / "small", X), package(tmp_path / "large", X, size=2_000_000)
    old, strict = package(tmp_path / "old", X), package(tmp_path / "strict", X, {**SHOP, "nullable": False})

    def judged(challenger: Path, made: Path, table: Path | None = holdout) -> tuple[str, str]:
        shipped = Shipped(package=made, champion=old, holdout=table)
        verdict, evidence = verdict_of(challenger, champion, gate, "regression", 1, tmp_path / "home", shipped)
        return verdict, evidence["reason"].partition(":")[0]

    assert judged(good, small)[0] == "pass"
    assert judged(uneven, small) == ("fail", "no worse by shop")
    assert judged(good, large) == ("fail", "size")
    assert judged(good, strict) == ("fail", "callers")
    assert judged(uneven, large) == ("fail", "no worse by shop")  # the first
    assert judged(good, small, None) == ("not enough data", "no worse by slice")
    assert judged(good, small)[0] == "pass"  # and what was kept is what was found


def certificate(verdict: Any, *checks: Check, **figures: Any) -> VersionCertified:
    reason = next((f"{x.name}: {x.note}" for x in checks if not x.ok), "it answers")
    return VersionCertified(
        model="m", version=2, package="p", verdict=verdict, reason=reason, conditions={"peak": 200.0},
        checks=[x.to_json() for x in checks], figures={"rows": 50, **figures}, machine={}, made="2026-03-01T12:00:00",
    )  # fmt: skip


def test_a_slow_version_fails_the_gate() -> None:
    slow = certificate("fail", Check("answers", "pass", "right"), Check("latency", "fail", "too slow"))
    verdict, evidence = with_certificate("pass", {"checks": [], "reason": "better"}, slow)
    assert (verdict, evidence["reason"]) == ("fail", "latency: too slow")
    assert [x["name"] for x in evidence["checks"]] == ["answers", "latency"]


def test_a_certificate_that_failed_stops_a_release() -> None:
    with pytest.raises(Refused, match="version 2 failed before any traffic: peak: half of it"):
        require_certificate(certificate("fail", Check("peak", "fail", "half of it")))
    with pytest.raises(NotYet, match="could not be judged"):
        require_certificate(certificate("not enough data", Check("latency", "not enough data", "who knows")))
    require_certificate(certificate("pass"))


def test_a_plan_says_what_was_seen() -> None:
    borne = explain(certificate("pass", most={"rows_per_second": 1234.5}))
    assert borne == "its server answered its 50 stored rows as it must; it bears the peak of 200 rows/s, and 1234 here"
    forced = explain(certificate("fail", Check("peak", "fail", "half of it")))
    assert forced == "its server said fail before any traffic, and it is released all the same: peak: half of it"


@pytest.mark.parametrize(
    ("before", "checks", "after", "reason"),
    [
        ("pass", ["pass"], "pass", "first"),
        ("pass", ["not enough data", "fail"], "fail", "1: n1"),
        ("pass", ["not enough data"], "not enough data", "0: n0"),
        ("not enough data", ["fail"], "fail", "0: n0"),
        ("not enough data", ["not enough data"], "not enough data", "first"),
        ("fail", ["fail"], "fail", "first"),
    ],
)
def test_checks_compose(before: Any, checks: list[Any], after: str, reason: str) -> None:
    given = [Check(str(at), verdict, f"n{at}") for at, verdict in enumerate(checks)]
    verdict, evidence = compose(before, {"reason": "first"}, given)
    assert (verdict, evidence["reason"]) == (after, reason)


def test_what_does_not_block_lets_pass() -> None:
    check = Check("no worse by shop", "not enough data", "few", blocks=False)
    assert compose("pass", {"reason": "better"}, [check])[0] == "pass"
    assert check.to_json()["ok"] is True
