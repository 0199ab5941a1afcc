"""Runs one pipeline job with the executor, and keeps what its resource says of it true while it runs."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from google.cloud import aiplatform_v1 as v1

from trilho.core.ports import ArtifactStore
from trilho.errors import TrilhoError, UsageError
from trilho.pipeline.execution.execute import Job, RunResult, Stopped, TaskEvent, execute
from trilho.pipeline.places import Places
from trilho.testing.emulator.pipelines import Accepted
from trilho.testing.emulator.resources import Resources, new_id
from trilho.testing.emulator.task_details import TaskDetails

CANCELLED, INVALID_ARGUMENT, FAILED_PRECONDITION, INTERNAL = 1, 3, 9, 13
State: Any = v1.PipelineState


class Logs(Protocol):
    """Where the lines that tasks print are kept."""

    def append(self, job_id: str, task: str, line: str) -> None:
        """Keep a line of a task, under the number of its custom job."""


class RunRecords(Protocol):
    """Where runs are recorded beside their own resource: the metadata service."""

    def begin(self, job: v1.PipelineJob) -> tuple[v1.Context, v1.Context]:
        """Record that a run began; give the contexts of its pipeline and of itself."""

    def end(self, job: v1.PipelineJob, details: list[v1.PipelineTaskDetail]) -> None:
        """Record how a run ended."""


class JobRuns:
    """Runs jobs; several at once."""

    def __init__(
        self,
        resources: Resources,
        *,
        places: Callable[[], Places],
        folder: Path,
        store: ArtifactStore,
        records: RunRecords,
        logs: Logs | None = None,
    ) -> None:
        self.resources, self.places, self.folder, self.store = resources, places, folder, store
        self.records, self.logs = records, logs
        self._details: dict[str, TaskDetails] = {}

    def live(self, name: str) -> list[v1.PipelineTaskDetail] | None:
        """Give the tasks of a job as they are now; None for one that does not run."""
        details = self._details.get(name)
        return details.all() if details is not None else None

    def __call__(self, name: str, accepted: Accepted, stop: threading.Event) -> None:
        """Run a job to its end; whatever happens, it has one."""
        location, _, id_ = name.partition("/pipelineJobs/")
        details = self._details[name] = TaskDetails(accepted.spec, location, self.resources.now)
        code, message = INTERNAL, ""
        try:
            self._begin(name)
            result = self._execute(name, location, id_, accepted, details, stop)
        except Stopped:
            details.cancel()
            code, message = CANCELLED, "The pipeline job was cancelled."
        except UsageError as error:
            code, message = INVALID_ARGUMENT, str(error)
        except TrilhoError as error:
            code, message = FAILED_PRECONDITION, str(error)
        except Exception:  # noqa: BLE001  a job that nobody ends would be waited for for ever
            message = f"The emulator failed:\n{traceback.format_exc()}"
        else:
            code, message = (0, "") if result.state == "succeeded" else _failure(location, result, details)
        try:
            self._end(name, details, code, message)
        finally:
            self._details.pop(name, None)

    def _execute(
        self, name: str, location: str, id_: str, accepted: Accepted, details: TaskDetails, stop: threading.Event
    ) -> RunResult:
        job = self.resources.get(name, v1.PipelineJob)
        _, project, _, place = location.split("/")

        def observe(event: TaskEvent) -> None:
            details.tell(event)
            self._keep_log(event, details)

        return execute(
            accepted.spec,
            accepted.parameters,
            run_id=f"{id_}-{new_id()[:8]}",  # a job that was deleted may have had the same id
            home=self.folder / project / place,
            store=self.store,
            places=replace(self.places(), direct=False),
            observe=observe,
            about={"pipeline_job": name},
            stop=stop,
            job=Job(
                name=id_,
                root=job.runtime_config.gcs_output_directory.rstrip("/"),
                resource_name=name,
                uuid=new_id(),
                created=f"{job.create_time:%Y-%m-%dT%H:%M:%SZ}",
                scheduled=f"{job.create_time:%Y-%m-%dT%H:%M:%SZ}",
                project=project,
                location=place,
                service_account=job.service_account,
            ),
        )

    def _begin(self, name: str) -> None:
        contexts = self.records.begin(self.resources.get(name, v1.PipelineJob))
        with self.resources.editing(name, v1.PipelineJob) as job:
            if job.state == State.PIPELINE_STATE_PENDING:
                job.state = State.PIPELINE_STATE_RUNNING
            self.resources.stamp(job, "start_time")
            job.job_detail = v1.PipelineJobDetail(pipeline_context=contexts[0], pipeline_run_context=contexts[1])

    def _end(self, name: str, details: TaskDetails, code: int, message: str) -> None:
        state = {0: "SUCCEEDED", CANCELLED: "CANCELLED"}.get(code, "FAILED")
        with self.resources.editing(name, v1.PipelineJob) as job:
            job.job_detail.task_details = details.all()
            self.resources.stamp(job, "end_time")
            if code:
                _set_error(job, {"code": code, "message": message})
            ended = job
        try:
            if "job_detail" in ended:
                self.records.end(ended, details.all())
        finally:
            with self.resources.editing(name, v1.PipelineJob) as job:
                job.state = State[f"PIPELINE_STATE_{state}"]

    def _keep_log(self, event: TaskEvent, details: TaskDetails) -> None:
        if self.logs is None or event.log is None or event.kind != "container" or event.state not in ("ran", "failed"):
            return
        try:
            text = event.log.read_text(encoding="utf-8", errors="replace")
        except OSError:  # it printed nothing
            return
        for line in text.splitlines():
            self.logs.append(details.custom_job(event.name), event.name, line)


def _failure(location: str, result: RunResult, details: TaskDetails) -> tuple[int, str]:
    """Word a failed job as Vertex AI does; what went wrong in a task is in the task's own error."""
    failed, project = ", ".join(details.failed()), location.split("/")[1]
    if not failed:
        return FAILED_PRECONDITION, str(result.error or "The pipeline job failed.")
    number = new_id()
    said = f"The DAG failed because some tasks failed. The failed tasks are: [{failed}]."
    because = f"Job (project_id = {project}, job_id = {number}) is failed due to the above error."
    handled = f"Failed to handle the job: {{project_number = {project}, job_id = {number}}}"
    return FAILED_PRECONDITION, f"{said}; {because}; {handled}"


def _set_error(job: Any, error: Mapping[str, Any]) -> None:
    job.error = error
