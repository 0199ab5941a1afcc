"""Experiments, driven by the SDK: runs, parameters, metrics, lineage, and what the data frame is made from."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

pytest.importorskip("google.cloud.aiplatform")

from google.api_core import exceptions
from google.cloud import aiplatform_v1 as v1


@pytest.fixture(scope="module")
def sdk(emulated: Any) -> Any:
    return emulated.init(experiment="churn")  # with the default tensorboard, as a plain call has it


@pytest.fixture(scope="module")
def metadata(emulated: Any) -> Any:
    return emulated.client("MetadataServiceClient")


@pytest.fixture(scope="module")
def store(emulated: Any, sdk: Any) -> str:
    """The store that the SDK makes with its first experiment, whichever test comes first."""
    return f"{emulated.parent}/metadataStores/default"


def test_a_run_keeps_parameters_and_metrics(sdk: Any) -> None:
    sdk.start_run("first")
    sdk.log_params({"rate": 0.1, "kind": "trees"})
    sdk.log_metrics({"auc": 0.7})
    sdk.log_metrics({"auc": 0.71, "rows": 100})
    sdk.end_run()
    run = sdk.ExperimentRun("first", experiment="churn")
    assert run.get_params() == {"rate": 0.1, "kind": "trees"}
    assert run.get_metrics() == {"auc": 0.71, "rows": 100.0}
    assert run.state == v1.Execution.State.COMPLETE


def test_runs_are_rows_of_their_experiment(sdk: Any) -> None:
    for name, auc in (("second", 0.72), ("third", 0.73)):
        with sdk.start_run(name) as run:
            run.log_params({"rate": 0.2})
            run.log_metrics({"auc": auc})
    runs = sdk.ExperimentRun.list(experiment="churn")
    found = {run.name: run.get_metrics()["auc"] for run in runs}
    assert (found["second"], found["third"]) == (0.72, 0.73)
    experiment = sdk.Experiment("churn")
    (node,) = [run._metadata_node for run in runs if run.name == "third"]  # what get_experiment_df makes a row of
    row = sdk.ExperimentRun._query_experiment_row(node, experiment=experiment).to_dict()
    assert row == {
        "run_type": "system.ExperimentRun",
        "run_name": "third",
        "state": "COMPLETE",
        "param.rate": 0.2,
        "metric.auc": 0.73,
    }


def test_a_run_is_resumed_and_deleted(sdk: Any) -> None:
    with sdk.start_run("again") as run:
        run.log_params({"rate": 0.3})
    with sdk.start_run("again", resume=True) as run:
        run.log_metrics({"auc": 0.5})
    assert sdk.ExperimentRun("again", experiment="churn").get_metrics() == {"auc": 0.5}
    sdk.ExperimentRun("again", experiment="churn").delete()
    with pytest.raises(exceptions.NotFound):
        sdk.ExperimentRun("again", experiment="churn")


def test_time_series_are_kept(sdk: Any) -> None:
    with sdk.start_run("series") as run:
        for step, loss in ((1, 0.9), (2, 0.5), (3, 0.25)):
            run.log_time_series_metrics({"loss": loss}, step=step)
        tensorboard = run._backing_tensorboard_run.resource
        series = tensorboard.read_time_series_data()["loss"]
    assert [(point.step, point.scalar.value) for point in series.values] == [(1, 0.9), (2, 0.5), (3, 0.25)]


def test_lineage_joins_what_an_execution_took_and_gave(sdk: Any) -> None:
    with sdk.start_run("lineage"):
        table = sdk.Artifact.create(schema_title="system.Dataset", uri="gs://b/table", display_name="table")
        with sdk.start_execution(schema_title="system.ContainerExecution", display_name="fit") as fit:
            fit.assign_input_artifacts([table])
            model = sdk.Artifact.create(schema_title="system.Model", uri="gs://b/model")
            fit.assign_output_artifacts([model])
    assert [one.uri for one in fit.get_input_artifacts()] == ["gs://b/table"]
    assert [one.uri for one in fit.get_output_artifacts()] == ["gs://b/model"]
    run = sdk.ExperimentRun("lineage", experiment="churn")
    assert {one.uri for one in run.get_artifacts()} >= {"gs://b/table", "gs://b/model"}
    assert [one.display_name for one in run.get_executions()] == ["fit"]
    assert [one.uri for one in sdk.Artifact.list(filter='uri="gs://b/table"')] == ["gs://b/table"]


def test_an_artifacts_lineage_goes_as_far_as_it_is_asked(metadata: Any, store: str) -> None:
    uris = [f"gs://hops/{number}" for number in range(3)]
    names = [metadata.create_artifact(parent=store, artifact=v1.Artifact(uri=uri)).name for uri in uris]
    for source, target in pairwise(names):
        execution = metadata.create_execution(parent=store, execution=v1.Execution()).name
        events = [{"artifact": source, "type_": "INPUT"}, {"artifact": target, "type_": "OUTPUT"}]
        metadata.add_execution_events(execution=execution, events=events)
    near = metadata.query_artifact_lineage_subgraph({"artifact": names[0], "max_hops": 1})
    assert [one.uri for one in near.artifacts] == ["gs://hops/0"]
    whole = metadata.query_artifact_lineage_subgraph({"artifact": names[0]})
    assert sorted(one.uri for one in whole.artifacts) == ["gs://hops/0", "gs://hops/1", "gs://hops/2"]
    assert (len(whole.executions), len(whole.events)) == (2, 4)


def test_contexts_have_parents_but_no_circles(metadata: Any, store: str) -> None:
    names = [metadata.create_context(parent=store, context_id=f"c{number}").name for number in range(3)]
    metadata.add_context_children(context=names[0], child_contexts=[names[1]])
    metadata.add_context_children(context=names[1], child_contexts=[names[2]])
    with pytest.raises(exceptions.InvalidArgument, match="its own ancestor"):
        metadata.add_context_children(context=names[2], child_contexts=[names[0]])
    found = metadata.list_contexts({"parent": store, "filter": f'parent_contexts:"{names[0]}","{names[1]}"'})
    assert [context.name for context in found] == names[1:]
    held = metadata.get_context(name=names[1])
    held.description, held.parent_contexts = "changed", []
    assert list(metadata.update_context(context=held).parent_contexts) == [names[0]]
    metadata.delete_context(name=names[1]).result()
    assert list(metadata.get_context(name=names[2]).parent_contexts) == []


def test_what_is_not_there_is_said(metadata: Any, store: str, emulated: Any) -> None:
    missing = f"{store}/contexts/none"
    with pytest.raises(exceptions.NotFound, match=f"Context `{missing}` not found"):
        metadata.get_context(name=missing)
    with pytest.raises(exceptions.NotFound, match=f"Context `{missing}` not found"):
        metadata.add_context_children(context=missing, child_contexts=[])
    execution = metadata.create_execution(parent=store, execution=v1.Execution()).name
    with pytest.raises(exceptions.NotFound, match="Artifact `x` not found"):
        metadata.add_execution_events(execution=execution, events=[{"artifact": "x", "type_": "INPUT"}])
    other = f"{emulated.parent}/metadataStores/other"
    with pytest.raises(exceptions.NotFound, match=f"MetadataStore `{other}` not found"):
        metadata.create_context(parent=other)
    with pytest.raises(exceptions.AlreadyExists):
        metadata.create_context(parent=store, context_id="churn")
