"""Pipeline jobs: accepted by the rules of the API, then really run, by the executor that `trilho pipeline run` has.

A job's steps are processes of this machine with the interpreter that `places` names for their image; `gs://` is a
folder that steps find through TRILHO_MOUNTS. Accepted without effect: service accounts, networks, encryption keys,
reserved ranges, preflight validations, machine and accelerator requests, the failure policy (always "slow").
Refused: templates that are only named by URI, input artifacts by id, training pipelines.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.cloud import aiplatform_v1 as v1
from google.protobuf import empty_pb2, json_format

from trilho.pipeline.ir.reader import MISSING, IrError, Spec, read
from trilho.pipeline.ir.values import ValueMismatch, coerced
from trilho.testing.emulator.checks import Findings, invalid
from trilho.testing.emulator.crud import Crud
from trilho.testing.emulator.resources import Resources, copied, new_id
from trilho.testing.emulator.rules import Refusal

JOB_ID = re.compile(r"[a-z][-a-z0-9]{0,127}")
EXISTS = "Pipeline job with the specified ID already exists."
MOST_NAMES = 32  # of a batch
STOP_SECONDS = 30.0
State: Any = v1.PipelineState
ENDED = tuple(State[f"PIPELINE_STATE_{name}"] for name in ("SUCCEEDED", "FAILED", "CANCELLED"))
OF_TRAINING = ("Create", "Get", "List", "Delete", "Cancel")


@dataclass(frozen=True)
class Accepted:
    """A job that passed every check: what is to be run, and with which parameters."""

    spec: Spec
    parameters: Mapping[str, Any]


Run = Callable[[str, Accepted, threading.Event], None]
Live = Callable[[str], list[v1.PipelineTaskDetail] | None]


def _pipeline_name(job: Any) -> str:
    held = v1.PipelineJob.pb(job).pipeline_spec
    return str(dict(held["pipelineInfo"]).get("name", "")) if "pipelineInfo" in held else ""


FIELDS: Mapping[str, Callable[[Any], Any]] = {
    "pipeline_name": _pipeline_name,
    "pipeline_job_user_id": lambda job: job.name.rpartition("/")[2],
}


class PipelineJobs:
    """The handlers of the pipeline service.

    `run` does a job, by its name, until it has ended or is to be stopped; `live` gives the tasks of one that runs.
    """

    def __init__(self, resources: Resources, run: Run, live: Live = lambda _: None) -> None:
        self.resources, self._run, self._live = resources, run, live
        self._lock = threading.Lock()
        self._running: dict[str, tuple[threading.Event, threading.Thread]] = {}
        self._closed = False

    def handlers(self) -> Mapping[str, Callable[[Any, Any], Any]]:
        """Give the handlers by method; what is not here is CRUD."""
        return {
            "CreatePipelineJob": self.create,
            "GetPipelineJob": self.get,
            "ListPipelineJobs": self.list_all,
            "DeletePipelineJob": self.delete,
            "CancelPipelineJob": self.cancel,
            "BatchDeletePipelineJobs": self.delete_several,
            "BatchCancelPipelineJobs": self.cancel_several,
            **{f"{verb}TrainingPipeline{'s' if verb == 'List' else ''}": _no_training for verb in OF_TRAINING},
        }

    def close(self) -> None:
        """Stop every job that runs, and wait until nothing of it is left."""
        with self._lock:
            self._closed = True
            running = list(self._running.values())
        for stop, _ in running:
            stop.set()
        for _, thread in running:
            thread.join(STOP_SECONDS)

    def create(self, _: Any, request: v1.CreatePipelineJobRequest) -> v1.PipelineJob:
        """Answer CreatePipelineJob: the job begins at once."""
        accepted = self.accept(request)
        return self.start(request.parent, request.pipeline_job_id, request.pipeline_job, accepted)

    def get(self, _: Any, request: v1.GetPipelineJobRequest) -> v1.PipelineJob:
        """Answer GetPipelineJob: while it runs, with its tasks as they are at this moment."""
        details = self._live(request.name)  # before the job: one that ends in between has its own
        job = self.resources.get(request.name, v1.PipelineJob)
        job = copied(job)
        if details is not None and not job.job_detail.task_details:
            job.job_detail.task_details = details
        run = self.resources.find(job.job_detail.pipeline_run_context.name, v1.Context)
        if run is not None:  # since the job began, it may have become a part of an experiment
            job.job_detail.pipeline_run_context = run
        return job

    def list_all(self, _: Any, request: v1.ListPipelineJobsRequest) -> v1.ListPipelineJobsResponse:
        """Answer ListPipelineJobs, which filters by two names that are no fields of a job as well."""
        held = self.resources.under(request.parent, "pipelineJobs", v1.PipelineJob)
        found, token = Crud(self.resources).listed(held, v1.PipelineJob, request, fields=FIELDS)
        return v1.ListPipelineJobsResponse(pipeline_jobs=found, next_page_token=token)

    def start(
        self, parent: str, id_: str, given: v1.PipelineJob, accepted: Accepted, schedule: str = ""
    ) -> v1.PipelineJob:
        """Begin a job that was accepted, under an id or one made of the pipeline's name and the time."""
        job = copied(given)
        job.state, job.schedule_name = State.PIPELINE_STATE_PENDING, schedule
        id_ = id_ or self._id_for(accepted.spec)
        job.display_name = job.display_name or id_
        job.labels = {**job.labels, "vertex-ai-pipelines-run-billing-id": new_id()}
        name = f"{parent}/pipelineJobs/{id_}"
        stop = threading.Event()
        thread = threading.Thread(target=self._do, args=(name, accepted, stop), daemon=True, name=f"job-{id_}")
        with self._lock:
            if self._closed:
                raise Refusal("UNAVAILABLE", "The emulator is being stopped.")
            created = self.resources.create(name, job, exists=EXISTS)
            self._running[name] = (stop, thread)
            thread.start()
        return created

    def _do(self, name: str, accepted: Accepted, stop: threading.Event) -> None:
        try:
            self._run(name, accepted, stop)
        finally:
            with self._lock:
                self._running.pop(name, None)
            self.resources.clock.wake()  # a schedule may wait for a job to end

    def _id_for(self, spec: Spec) -> str:
        words = re.sub(r"[^-0-9a-z]+", "-", spec.name.lower()).strip("-")
        return f"{words}-{self.resources.now():%Y%m%d%H%M%S}-{new_id()[:6]}"

    def delete(self, call: Any, request: v1.DeletePipelineJobRequest) -> Any:
        """Answer DeletePipelineJob: of a job that has ended."""
        self._ended(request.name)
        return call.later(request.name, lambda: self.resources.remove(request.name, v1.PipelineJob) and None)

    def delete_several(self, call: Any, request: v1.BatchDeletePipelineJobsRequest) -> Any:
        """Answer BatchDeletePipelineJobs: all or none."""
        names = _batch(request)
        jobs = [self._ended(name) for name in names]

        def remove() -> v1.BatchDeletePipelineJobsResponse:
            with self.resources.lock:
                for name in names:
                    self._ended(name)
                for name in names:
                    self.resources.remove(name, v1.PipelineJob)
            return v1.BatchDeletePipelineJobsResponse(pipeline_jobs=jobs)

        return call.later(request.parent, remove)

    def cancel(self, _: Any, request: v1.CancelPipelineJobRequest) -> Any:
        """Answer CancelPipelineJob: the job is CANCELLED some time later, unless it ends before."""
        job = self.resources.get(request.name, v1.PipelineJob)
        if job.state in ENDED:
            raise Refusal("FAILED_PRECONDITION", f"PipelineJob `{request.name}` has ended: {job.state.name}.")
        self._cancel(request.name)
        return empty_pb2.Empty()

    def cancel_several(self, call: Any, request: v1.BatchCancelPipelineJobsRequest) -> Any:
        """Answer BatchCancelPipelineJobs: those that have ended are skipped."""
        names = _batch(request)
        for name in names:
            self.resources.get(name, v1.PipelineJob)

        def cancel() -> v1.BatchCancelPipelineJobsResponse:
            for name in names:
                self._cancel(name)
            jobs = [self.resources.get(name, v1.PipelineJob) for name in names]
            return v1.BatchCancelPipelineJobsResponse(pipeline_jobs=jobs)

        return call.later(request.parent, cancel)

    def _cancel(self, name: str) -> None:
        with self._lock:
            stop, _ = self._running.get(name, (None, None))
        with self.resources.editing(name, v1.PipelineJob) as job:
            if job.state not in ENDED and stop is not None:
                job.state = State.PIPELINE_STATE_CANCELLING
        if stop is not None:
            stop.set()

    def _ended(self, name: str) -> v1.PipelineJob:
        job = self.resources.get(name, v1.PipelineJob)
        if job.state not in ENDED:
            raise Refusal(
                "FAILED_PRECONDITION", f"PipelineJob `{name}` has not ended: {job.state.name}. Cancel it first."
            )
        return job

    def accept(self, request: v1.CreatePipelineJobRequest, prefix: str = "") -> Accepted:
        """Check a request to create a job. Raises Refusal that lists all that is wrong with it."""
        job, findings = request.pipeline_job, Findings()
        findings.location(request.parent)
        if request.pipeline_job_id and not JOB_ID.fullmatch(request.pipeline_job_id):
            findings.add("pipeline_job_id", f"{request.pipeline_job_id!r} does not match {JOB_ID.pattern}.")
        findings.labels(f"{prefix}pipeline_job.labels", job.labels)
        root, field = job.runtime_config.gcs_output_directory, f"{prefix}pipeline_job.runtime_config"
        if findings.need(f"{field}.gcs_output_directory", root) and not re.match(r"gs://[^/]+", root):
            findings.add(f"{field}.gcs_output_directory", f"{root!r} is not a Cloud Storage URI.")
        document = json_format.MessageToDict(v1.PipelineJob.pb(job)).get("pipelineSpec")
        if not document and job.template_uri:
            raise Refusal("UNIMPLEMENTED", f"trilho emulate does not fetch templates: {job.template_uri}.")
        if job.runtime_config.input_artifacts:
            raise Refusal("UNIMPLEMENTED", "trilho emulate does not have input artifacts by id.")
        findings.need(f"{prefix}pipeline_job.pipeline_spec", document)
        findings.done()
        try:
            spec = read(document or {})
        except IrError as error:
            raise invalid(f"{prefix}pipeline_job.pipeline_spec", error.fact) from None
        parameters = _given(job)
        check_parameters(spec, parameters, f"{field}.parameter_values", findings)
        findings.done()
        return Accepted(spec, parameters)


def check_parameters(spec: Spec, given: Mapping[str, Any], field: str, findings: Findings) -> None:
    """Check parameters against the pipeline's own: none unknown, none missing, each of its type."""
    known = spec.root.inputs
    for name in sorted(set(given) - set(known)):
        findings.add(
            field, f"Parameter {name!r} is not an input of the pipeline; it has {', '.join(sorted(known)) or 'none'}."
        )
    for name, parameter in known.items():
        if name not in given:
            if parameter.required and name not in spec.given and parameter.default is MISSING:
                findings.add(field, f"Parameter {name!r} ({parameter.type}) is required.")
            continue
        value = given[name]
        if value is None and parameter.optional:
            continue
        try:
            if parameter.type == "STRING" and not isinstance(value, str):
                raise ValueMismatch(f"{value!r} is not text")
            coerced(value, parameter.type, parameter.literals)
        except ValueMismatch as error:
            findings.add(field, f"Parameter {name!r} must be {parameter.type}: {error}.")


def _given(job: v1.PipelineJob) -> dict[str, Any]:
    """Give the parameters of a job, of this schema or of the older one, whose values are typed."""
    config = json_format.MessageToDict(v1.PipelineJob.pb(job)).get("runtimeConfig", {})
    old: dict[str, Any] = {}
    for name, value in config.get("parameters", {}).items():
        kind, held = next(iter(value.items()), ("stringValue", ""))
        old[name] = int(held) if kind == "intValue" else held
    return {**old, **config.get("parameterValues", {})}


def _batch(request: Any) -> list[str]:
    names = list(dict.fromkeys(request.names))
    if not names or len(names) > MOST_NAMES:
        raise invalid("names", f"1 to {MOST_NAMES} names are allowed, not {len(names)}.")
    for name in names:
        if not name.startswith(f"{request.parent}/"):
            raise invalid("names", f"{name!r} is not in {request.parent}.")
    return names


def _no_training(_: Any, __: Any) -> Any:
    raise Refusal("UNIMPLEMENTED", "trilho emulate does not have training pipelines; submit a pipeline job.")
