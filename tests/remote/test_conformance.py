"""The promises of the ports, kept by this machine and by Google Cloud: one test body for each promise."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from trilho.backends.local.store import LocalStore
from trilho.core.ports import ArtifactStore, NotFound, RemoteJob, Runner, Scheduler
from trilho.errors import UsageError
from trilho.pipeline.places import Place, Places
from trilho.testing import conformance

if TYPE_CHECKING:
    from tests.remote.conftest import Bucket, Google


@pytest.mark.parametrize("check", conformance.ARTIFACT_STORE, ids=conformance.title)
def test_local_store(check: conformance.Check[ArtifactStore], tmp_path: Path) -> None:
    check(lambda: LocalStore(tmp_path / "store"), tmp_path / "work")


@pytest.mark.parametrize("check", conformance.ARTIFACT_STORE, ids=conformance.title)
def test_gcs_store(check: conformance.Check[ArtifactStore], tmp_path: Path, bucket: Bucket) -> None:
    from trilho.backends.gcp.objects import GcsFiles
    from trilho.backends.gcp.store import GcsStore

    def machine() -> ArtifactStore:
        """Give the store as a machine sees it that has fetched nothing yet."""
        near = LocalStore(tmp_path / f"near-{next(numbers)}")
        return GcsStore(GcsFiles(bucket.cloud), f"{bucket.uri}/store", near)

    numbers = iter(range(100))
    check(machine, tmp_path / "work")


@pytest.mark.parametrize("check", conformance.RUNNER, ids=conformance.title)
def test_local_runner(check: conformance.RemoteCheck[Runner], tmp_path: Path) -> None:
    from trilho.backends.local.runner import LocalRunner

    python = Path(sys.executable)
    places = Places(python=python, source=None, folder=tmp_path, platform=python, images={"": Place(python)})
    store = LocalStore(tmp_path / "store")
    check(lambda: LocalRunner(tmp_path / "home", store, places), str(tmp_path / "root"))


def test_a_pipeline_that_cannot_be_read_is_no_run_here(tmp_path: Path) -> None:
    from trilho.backends.local.runner import LocalRunner

    python = Path(sys.executable)
    places = Places(python=python, source=None, folder=tmp_path, platform=python)
    runner = LocalRunner(tmp_path / "home", LocalStore(tmp_path / "store"), places)
    job = RemoteJob(run="r1", model="m", document={"root": {}}, parameters={}, root=str(tmp_path), labels={})
    with pytest.raises(UsageError, match="this is no pipeline"):
        runner.submit(job)
    with pytest.raises(NotFound):
        runner.status("r1")


@pytest.mark.parametrize("check", conformance.RUNNER, ids=conformance.title)
def test_vertex_runner(check: conformance.RemoteCheck[Runner], google: Google) -> None:
    from trilho.backends.gcp.runner import VertexRunner

    check(lambda: VertexRunner(google.cloud), f"gs://{google.cloud.bucket}/root")


@pytest.mark.parametrize("check", conformance.SCHEDULER, ids=conformance.title)
def test_vertex_scheduler(check: conformance.RemoteCheck[Scheduler], google: Google) -> None:
    from trilho.backends.gcp.scheduler import VertexScheduler

    check(lambda: VertexScheduler(google.cloud), f"gs://{google.cloud.bucket}/root")
