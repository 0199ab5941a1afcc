"""Kubeflow Pipelines as a Runner. The server gives each run an id of its own; its name is our run's id."""

from __future__ import annotations

from typing import Any

from trilho.backends.kubeflow.api import KubeflowApi, Refused, named, segment
from trilho.backends.kubeflow.messages import Json, about, children_of, run_of, status_of
from trilho.core.ports import NotFound, RemoteJob, RemoteStatus
from trilho.core.retry import Patience
from trilho.errors import UsageError

IMPLEMENTATION = "system-container-impl"  # how the workflow names the template of a task's container


class KubeflowRunner:
    """The Runner port on a Kubeflow Pipelines server."""

    def __init__(self, endpoint: str, patience: Patience | None = None) -> None:
        self.api = KubeflowApi(endpoint, patience)
        self._ids: dict[str, str] = {}

    def submit(self, job: RemoteJob) -> str:
        """Create the run, or find that it was created; give its name."""

        def create() -> Json:
            found = self._find(job.run)  # by a try of ours whose answer was lost, or by one who was killed
            if found is not None:
                said = about(found)
                if said is None or said.get("trilho-run") != job.labels.get("trilho-run"):
                    raise UsageError(f"{self.name(job.run)} exists, and trilho did not submit it", hint="try again")
                return found
            return self.api.ask("POST", "runs", run_of(job) | self.api.experiment())

        made = self.api.call(f"submitting run {job.run} to Kubeflow", create)
        self._ids[job.run] = made["run_id"]
        return self.name(job.run)

    def status(self, run: str) -> RemoteStatus:
        """Say how far a run is. Raises NotFound where it was never submitted."""
        return status_of(self._get(run))

    def cancel(self, run: str) -> None:
        """Ask for a run to be stopped; one that has ended stays as it is."""

        def ask() -> None:
            try:
                self.api.ask("POST", f"runs/{segment(self._id(run))}:terminate")
            except Refused as refused:  # the server refuses to terminate what is not going on
                if refused.code != 400 or not status_of(self._look(run)).ended:
                    raise

        self.api.call(f"cancelling run {run}", ask)

    def log(self, run: str, task: str) -> str:
        """Give what a task's container printed, while the server or its archive has it; empty where neither does."""
        found = self._get(run)
        for node in children_of(found, task):
            workflow, _, number = node.rpartition("-")
            for pod in (f"{workflow}-{IMPLEMENTATION}-{number}", node):  # as Argo names pods now, and before
                path = f"/apis/v1alpha1/runs/{segment(found['run_id'])}/nodes/{segment(pod)}/log"
                try:
                    return self.api.text("GET", path)
                except Refused as refused:
                    if refused.code not in (400, 404, 500):
                        raise self.api.explain(refused, f"reading the log of {task}") from None
        return ""

    def name(self, run: str) -> str:
        """Name a run, before it is there."""
        return f"{self.api.endpoint}#{run}"

    def _get(self, run: str) -> Json:
        found: Json = self.api.call(f"looking at run {run}", lambda: self._look(run))
        return found

    def _look(self, run: str) -> Json:
        return self.api.ask("GET", f"runs/{segment(self._id(run))}")

    def _id(self, run: str) -> str:
        """Give the id that the server gave to a run. Raises NotFound where it has none of that name."""
        if run not in self._ids:
            found: Any = self._find(run)
            if found is None:
                raise NotFound(f"{self.api.endpoint} has no run {run}", hint="trilho runs")
            self._ids[run] = found["run_id"]
        return self._ids[run]

    def _find(self, run: str) -> Json | None:
        runs = self.api.pages("runs", "runs", **named("display_name", run))
        return min((one for one in runs if one["display_name"] == run), key=_created, default=None)


def _created(run: Json) -> str:
    return str(run.get("created_at") or "")
