"""`trilho gc` and pins: what goes, what stays, and what is said first."""

from __future__ import annotations

import json
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from trilho.backends.local.journal import StateReader
from trilho.core import records as r
from trilho.pipeline.keeping.runs import RunFolder

if TYPE_CHECKING:
    from tests.cli.conftest import Made, Verb

AGED = time.time() - 7200


def age(home: Path) -> None:
    for part in ("store", "runs", "cache"):
        for path in (home / part).rglob("*"):
            os.utime(path, (AGED, AGED))


def finished(made: Made, run: str, text: str) -> str:
    """Leave what a finished step leaves: an output, a note of it, a log."""
    made.home.joinpath("cache").mkdir(parents=True, exist_ok=True)
    made.home.joinpath("runs", run).mkdir(parents=True, exist_ok=True)
    (made.home / "runs" / run / "fit.log").write_text("fitted")
    output = made.home / "output"
    output.write_text(text)
    digest = made.store.put(output)
    note = {"schema": 1, "task": "fit", "run": run, "outputs": {"model": digest}, "values": {}}
    (made.home / "cache" / f"{run}.json").write_text(json.dumps(note))
    return digest


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_says_first_and_frees_only_what_nothing_needs(trilho: Verb, made: Made) -> None:
    kept = [made.version(1)]
    trilho("release", "1")
    gone = [made.version(2, verdict="fail")]
    kept.append(made.version(3))
    kept += [finished(made, f"run-{n}", f"output {n}") for n in (1, 3)]
    gone.append(finished(made, "run-2", "output 2"))
    plan = trilho("gc", "--dry-run", "--older-than", "1 minute", "--json").json
    assert plan["artifacts"] == []  # just made: a run under way may need it
    age(made.home)
    plan = trilho("gc", "--dry-run", "--json").json
    assert sorted(x["digest"] for x in plan["artifacts"]) == sorted(gone)
    assert plan["counts"] == {
        "model packages": 1, "outputs of steps": 1, "folders of runs, with their logs": 1, "notes of finished steps": 1,
    }  # fmt: skip
    assert (plan["runs"], plan["done"]) == (["run-2"], False)
    said = trilho("gc", "--dry-run").out
    assert "1 model packages: 9 bytes" in said
    assert "version 2 of bikes: cannot serve again" in said
    assert all(made.store.has(digest) for digest in kept + gone)
    assert trilho("gc").code == 2  # nobody to ask
    assert trilho("gc", "--yes", "--json").json["done"] is True
    assert [made.store.has(digest) for digest in kept + gone] == [True] * 4 + [False] * 2
    assert listed(made.home / "runs") == ["run-1", "run-3"]
    assert listed(made.home / "cache") == ["run-1.json", "run-3.json"]
    assert trilho("gc", "--yes").out.splitlines()[0] == "Nothing to free."
    assert trilho("gc", "--older-than", "soon").code == 2


def test_a_pin_is_respected(trilho: Verb, made: Made) -> None:
    trilho("train")
    rejected = made.version(1, verdict="fail")
    made.version(2)
    age(made.home)
    assert trilho("models", "pin", "1").code == 2  # a reason is asked for
    assert trilho("models", "pin", "1", "--why", "the audit").out.splitlines()[-1] == "Next: trilho models unpin 1"
    assert trilho("models", "show", "1", "--json").json["pinned"] == "the audit"
    assert trilho("gc", "--dry-run", "--json").json["artifacts"] == []
    assert trilho("models", "unpin", "1").code == 0
    assert trilho("models", "unpin", "1").code == 2
    assert [x["digest"] for x in trilho("gc", "--dry-run", "--json").json["artifacts"]] == [rejected]


def test_what_a_run_under_way_made_or_used_stays(trilho: Verb, made: Made) -> None:
    used = finished(made, "run-0", "used")
    age(made.home)
    with RunFolder.of(made.home, "run-9").lease():
        since = time.time() - timedelta(hours=3).total_seconds()  # it began before what was aged was made
        os.utime(made.home / "runs" / "run-9" / "lease", (since, since))
        assert trilho("gc", "--dry-run", "--json").json["artifacts"] == []
    assert [x["digest"] for x in trilho("gc", "--dry-run", "--json").json["artifacts"]] == [used]


def test_what_a_newer_trilho_needs_is_not_guessed(trilho: Verb, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    made.version(1)
    monkeypatch.delitem(r.PAYLOADS, "version.packaged")
    assert StateReader(made.journal).state().unknown == 2
    said = trilho("gc", "--yes")
    assert "2 records were written by a newer trilho" in said.err


def test_a_version_whose_package_was_freed_is_not_released(trilho: Verb, made: Made) -> None:
    package = made.version(1)
    trilho("release", "1")
    for number in (2, 3):
        made.version(number)
        trilho("release", str(number))
        for _ in range(3):
            trilho("rollout", "next")
    age(made.home)
    assert trilho("gc", "--yes", "--json").json["artifacts"][0]["digest"] == package
    assert trilho("rollback", "--yes").code == 0  # to version 2, which is kept for that
    head = made.journal.head()
    for verb in (["rollback"], ["release", "1"], ["models", "pin", "1", "--why", "late"]):
        said = trilho(*verb)
        assert said.code == 1
        assert f"artifact {package[:12]} is not in" in said.err
    assert made.journal.head() == head
