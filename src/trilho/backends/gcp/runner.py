"""Vertex AI Pipelines as a Runner: a run's id is its job's id, so that whoever knows the run can find the job."""

from __future__ import annotations

from typing import Any

from trilho.backends.gcp.cloud import CALL_SECONDS, Cloud
from trilho.backends.gcp.jobs import container_job, job_of, require_id, status_of
from trilho.backends.gcp.logs import read_log
from trilho.core.ports import NotFound, RemoteJob, RemoteStatus
from trilho.errors import UsageError

RUN_LABEL = "trilho-run"


class VertexRunner:
    """The Runner port on a project's Vertex AI."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def submit(self, job: RemoteJob) -> str:
        """Create the job, or find that it was created; give its resource name."""
        from google.api_core.exceptions import AlreadyExists

        require_id(job.run)
        message = job_of(job)

        def create() -> str:
            try:
                made = self.cloud.pipelines.create_pipeline_job(
                    parent=self.cloud.parent,
                    pipeline_job=message,
                    pipeline_job_id=job.run,
                    retry=None,
                    timeout=CALL_SECONDS,
                )
            except AlreadyExists:  # by a try of ours whose answer was lost, or by one who was killed before he saw it
                made = self._get(job.run)
                if made.labels.get(RUN_LABEL) != job.labels.get(RUN_LABEL):
                    raise UsageError(
                        f"{self.name(job.run)} exists, and trilho did not submit it", hint="try again"
                    ) from None
            return str(made.name)

        return self.cloud.call(f"submitting run {job.run} to Vertex AI", create)

    def status(self, run: str) -> RemoteStatus:
        """Say how far a run is. Raises NotFound where it was never submitted."""
        return status_of(self._job(run))

    def cancel(self, run: str) -> None:
        """Ask for a run to be stopped; one that has ended stays as it is."""
        from google.api_core.exceptions import FailedPrecondition
        from google.api_core.exceptions import NotFound as Absent

        def ask() -> None:
            try:
                self.cloud.pipelines.cancel_pipeline_job(name=self.name(run), retry=None, timeout=CALL_SECONDS)
            except Absent:
                raise self._unknown(run) from None
            except FailedPrecondition:
                if not status_of(self._get(run)).ended:
                    raise

        self.cloud.call(f"cancelling run {run}", ask)

    def log(self, run: str, task: str) -> str:
        """Give what a task's container printed, from Cloud Logging."""
        job = self._job(run)
        return read_log(self.cloud, run, task.rpartition("/")[2], container_job(job, task))

    def name(self, run: str) -> str:
        """Give a run's resource name, which is known before the job is."""
        return f"{self.cloud.parent}/pipelineJobs/{run}"

    def _job(self, run: str) -> Any:
        from google.api_core.exceptions import NotFound as Absent

        def get() -> Any:
            try:
                return self._get(run)
            except Absent:
                raise self._unknown(run) from None

        return self.cloud.call(f"looking at run {run}", get)

    def _get(self, run: str) -> Any:
        return self.cloud.pipelines.get_pipeline_job(name=self.name(run), retry=None, timeout=CALL_SECONDS)

    def _unknown(self, run: str) -> NotFound:
        return NotFound(f"Vertex AI has no run {run} in {self.cloud.project}, {self.cloud.region}", hint="trilho runs")
