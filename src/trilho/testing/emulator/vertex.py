"""Vertex AI: its services, joined to one server. With proxy.Proxy before it clients need no endpoint."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from trilho.core.ports import ArtifactStore
from trilho.pipeline.places import Places
from trilho.testing.emulator import projects
from trilho.testing.emulator.endpoints import Endpoints
from trilho.testing.emulator.experiments import Experiments
from trilho.testing.emulator.job_runs import JobRuns, Logs
from trilho.testing.emulator.models import Models
from trilho.testing.emulator.pipelines import PipelineJobs
from trilho.testing.emulator.predictions import Predictions
from trilho.testing.emulator.rpc import RpcServer, transport_of
from trilho.testing.emulator.schedules import Schedules
from trilho.testing.emulator.tensorboards import Tensorboards


class Vertex:
    """The Vertex AI of an emulator, added to its server.

    `places` is asked when something is to be run, since what runs must find the emulator, whose address is known late.
    `local` gives where a gs:// URI lies. State lives in memory; files, logs and runs in `folder`.
    """

    def __init__(
        self,
        server: RpcServer,
        *,
        places: Callable[[], Places],
        folder: Path,
        store: ArtifactStore,
        local: Callable[[str], Path | None],
        logs: Logs | None = None,
        seed: int = 0,
    ) -> None:
        resources = server.resources
        self.clock = resources.clock
        self.experiments = Experiments(resources)
        runs = JobRuns(
            resources,
            places=places,
            folder=folder / "pipelines",
            store=store,
            records=self.experiments,
            logs=logs,
        )
        self.jobs = PipelineJobs(resources, runs, runs.live)
        self.schedules = Schedules(resources, self.jobs)
        self.models = Models(resources)
        self.endpoints = Endpoints(resources, self.models, places, folder / "endpoints", local)
        self.predictions = Predictions(resources, self.models, self.endpoints, seed)
        server.add(transport_of("pipeline_service"), self.jobs.handlers())
        server.add(transport_of("schedule_service"), self.schedules.handlers())
        server.add(transport_of("model_service"), self.models.handlers())
        server.add(transport_of("endpoint_service"), self.endpoints.handlers())
        server.add(transport_of("prediction_service"), self.predictions.handlers())
        server.add(transport_of("metadata_service"), self.experiments.handlers())
        server.add(transport_of("tensorboard_service"), Tensorboards(resources).handlers())
        server.add(transport_of("feature_registry_service"))
        server.add(transport_of("projects", "google.cloud.resourcemanager_v3"), projects.handlers())

    def start(self) -> None:
        """Let schedules begin what is due."""
        self.schedules.start()

    def close(self) -> None:
        """Stop jobs, schedules and containers, and wait until nothing of them is left."""
        with ExitStack() as closing:  # each, whatever becomes of the others; the schedules first, which begin jobs
            closing.callback(self.endpoints.close)
            closing.callback(self.jobs.close)
            closing.callback(self.schedules.close)
