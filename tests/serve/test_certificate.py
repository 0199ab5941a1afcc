"""The certificate: the server is asked and loaded apart from all traffic, and whatever is wrong with it is found."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.serving import make_package

from trilho.config import Serve
from trilho.core.checks import Check
from trilho.serve import trial as module
from trilho.serve.certificate import Certifier, certificate_path, read_certificate
from trilho.serve.trial import Trial, bounds_of_p99, latency_check

PLANTED = "tests.serve.planted_server"
ROWS = 20


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECORD_SECONDS", 0.1)
    monkeypatch.setattr(module, "PEAK_SECONDS", 0.5)
    monkeypatch.setattr(module, "LATENCY_SECONDS", 0.5)


def planted(folder: Path, **behaviour: Any) -> Path:
    package = folder / "package"
    package.mkdir(parents=True)
    rows = [{"x": float(at)} for at in range(ROWS)]
    (package / "manifest.json").write_text(json.dumps({"task": "regression"}))
    (package / "sample.json").write_text(json.dumps({"rows": rows, "predictions": [2.0 * row["x"] for row in rows]}))
    (package / "behaviour.json").write_text(json.dumps(behaviour))
    return package


def trial(package: Path, *, latency: float | None = None, **settings: Any) -> Trial:
    return Trial(
        package=package, version=3, python=Path(sys.executable), settings=Serve(**settings), home=package.parent,
        latency=latency, server=PLANTED,
    )  # fmt: skip


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_a_server_that_answers_right_passes_and_is_gone(tmp_path: Path) -> None:
    said: list[str] = []
    checks, figures = trial(planted(tmp_path), latency=500.0, peak=50.0).run(said.append)
    assert {name: check.verdict for name, check in by_name(checks).items()} == {
        "answers": "pass", "latency": "pass", "peak": "pass",
    }  # fmt: skip
    assert by_name(checks)["answers"].note.startswith("20 stored rows, alone and with others, in 24 requests")
    assert figures["peak"]["requests"] == 25
    assert figures["most"]["rows_per_second"] > 50
    assert figures["memory_bytes"] > 1_000_000
    assert figures["start_seconds"] > 0
    assert said[0].endswith("it is asked its 20 stored rows")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert (tmp_path / "niceness").read_text() == str(os.nice(0) + int(module.NICE))


def test_another_answer_than_the_stored_one_fails(tmp_path: Path) -> None:
    checks, _ = trial(planted(tmp_path, wrong_row=7.0)).run()
    (answers,) = checks
    told = "stored row 7 is answered with 15.0, the package has 14.0, asked 1 row at a time"
    assert (answers.verdict, answers.note) == ("fail", told)


def test_a_server_that_fails_now_and_then_fails(tmp_path: Path) -> None:
    checks, _ = trial(planted(tmp_path, fail_every=50)).run()
    failed = next(check for check in checks if check.verdict == "fail")
    assert failed.name == "answers under load"
    assert "requests failed (" in failed.note
    assert "with 500" in failed.note


def test_a_server_that_does_not_start_fails_with_its_last_words(tmp_path: Path) -> None:
    (answers,), figures = trial(planted(tmp_path, broken=True)).run()
    assert answers.note == "its server did not start: PackageError: estimator.pkl was changed"
    assert figures == {}


def test_a_sleeping_model_is_too_slow(tmp_path: Path) -> None:
    checks, _ = trial(planted(tmp_path, answer_seconds=0.03), latency=15.0, peak=100.0).run()
    found = by_name(checks)
    assert (found["answers"].verdict, found["latency"].verdict, found["peak"].verdict) == ("pass", "fail", "fail")
    assert found["latency"].note.endswith("allowed: 15 ms")
    assert " of 100 rows a second answered" in found["peak"].note


def test_a_peak_that_is_not_borne_fails_though_each_row_alone_is_quick(tmp_path: Path) -> None:
    checks, figures = trial(planted(tmp_path, answer_seconds=0.008), latency=400.0, peak=600.0).run()
    found = by_name(checks)
    assert (found["latency"].verdict, found["peak"].verdict) == ("pass", "fail")
    assert figures["peak"]["p99_ms"] > figures["alone"]["p99_ms"]


def test_a_package_without_stored_rows_cannot_be_asked(tmp_path: Path) -> None:
    package = planted(tmp_path)
    (package / "sample.json").write_text('{"rows": [], "predictions": []}')
    (answers,), _ = trial(package).run()
    assert (answers.verdict, "keeps no rows with their predictions" in answers.note) == ("fail", True)


def certifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Certifier:
    monkeypatch.setattr(Trial.__dataclass_fields__["server"], "default", PLANTED)
    monkeypatch.setattr(Trial, "server", PLANTED)
    monkeypatch.setattr(Trial, "run", lambda _, say: ([Check("answers", "pass", "right")], {"rows": ROWS}))
    python = Path(sys.executable)
    return Certifier(model="bikes", home=tmp_path / "home", python=python, settings=Serve(**settings))


def test_a_certificate_holds_for_its_package_and_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maker, package = certifier(tmp_path, monkeypatch, peak=50.0), planted(tmp_path)
    assert maker.current(3, "package") is None
    found = maker.certify(3, package)
    assert (found.verdict, found.version, found.package, found.conditions["peak"]) == ("pass", 3, "package", 50.0)
    assert maker.current(3, "package") == found
    assert maker.current(3, "another package") is None
    assert maker.current(4, "package") is None
    for changed in (Serve(peak=60.0), Serve(peak=50.0, workers=2), Serve(peak=50.0, fsync=True)):
        assert replace(maker, settings=changed).current(3, "package") is None
    assert replace(maker, latency=50.0).current(3, "package") is None
    data = json.loads(certificate_path(maker.home, "bikes", 3).read_text())
    assert (data["schema"], data["machine"]["cores"]) == (1, os.cpu_count())


def test_one_that_failed_is_read_but_does_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maker, package = certifier(tmp_path, monkeypatch), planted(tmp_path)
    monkeypatch.setattr(Trial, "run", lambda _, say: ([Check("answers", "fail", "wrong")], {}))
    found = maker.certify(3, package)
    assert (found.verdict, found.reason) == ("fail", "answers: wrong")
    assert maker.current(3, "package") is None
    assert read_certificate(maker.home, "bikes", 3) == found
    certificate_path(maker.home, "bikes", 3).write_text('{"schema": 1, "model": "bikes"}')
    assert read_certificate(maker.home, "bikes", 3) is None


def test_the_bounds_of_the_slowest_hundredth_are_as_sure_as_they_say() -> None:
    import random

    rng, true = random.Random(5), 0.99
    above = below = 0
    for _ in range(400):
        low, high = bounds_of_p99(sorted(rng.random() for _ in range(500)), 0.95)
        assert low is not None
        assert high is not None
        above += low > true
        below += high < true
    assert above <= 33  # 5% of 400, and three deviations
    assert below <= 33


def test_waits_that_straddle_the_limit_cannot_tell() -> None:
    waits = [0.01] * 297 + [0.05] * 3
    assert latency_check(waits, 40.0).verdict == "not enough data"
    assert latency_check(waits, 60.0).verdict == "pass"
    assert latency_check([0.05] * 12, 40.0).verdict == "fail"
    assert latency_check([], 40.0).verdict == "not enough data"


@pytest.fixture(scope="module")
def tiny(project_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    done = make_package(project_python, folder)
    assert done.returncode == 0, done.stderr
    return folder / "package"


def test_the_real_server_is_certified(tiny: Path, project_python: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    maker = Certifier(model="tiny", home=home, python=project_python, settings=Serve(peak=20.0), latency=2000.0)
    found = maker.certify(1, tiny)
    assert (found.verdict, found.package, found.figures["rows"]) == ("pass", "package", 50)
    assert {check["name"]: check["verdict"] for check in found.checks} == {
        "answers": "pass", "latency": "pass", "peak": "pass",
    }  # fmt: skip
    assert not (home / "log").exists()  # what it was asked is in no log


def test_the_real_server_of_a_changed_package_is_refused(tiny: Path, project_python: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(tiny, tmp_path / "package")
    (changed / "estimator.pkl").write_bytes(b"another")
    (answers,), _ = Trial(
        package=changed, version=1, python=project_python, settings=Serve(), home=tmp_path / "home"
    ).run()
    assert answers.verdict == "fail"
    assert "its server did not start: " in answers.note
    assert "estimator.pkl" in answers.note
