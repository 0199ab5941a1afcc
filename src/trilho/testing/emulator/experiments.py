"""The metadata service: contexts (experiments, their runs, pipelines), executions, artifacts, and what joins them.

Enough for the SDK's experiments, and for pipeline jobs to appear in them. The default store is made by whoever asks
first, a client or a pipeline job. Schemas are not checked against metadata; purging is refused, and so is a filter of
an artifact's lineage.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from google.cloud import aiplatform_v1 as v1
from google.protobuf import empty_pb2, json_format

from trilho.testing.emulator.checks import invalid
from trilho.testing.emulator.crud import Crud
from trilho.testing.emulator.resources import Resources, copied
from trilho.testing.emulator.rules import Refusal

MOST_PARENTS = 10
MOST_HOPS = 100
VERSION = "0.0.1"
EventType: Any = v1.Event.Type
ExecutionState: Any = v1.Execution.State


class Experiments:
    """The handlers of the metadata service, and the record of pipeline jobs in it."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self._crud = Crud(resources)
        self._lock = threading.RLock()
        self._members: defaultdict[str, set[str]] = defaultdict(set)  # of a context: artifacts and executions
        self._events: dict[tuple[str, str, int], v1.Event] = {}

    def handlers(self) -> Mapping[str, Callable[[Any, Any], Any]]:
        """Give the handlers by method; what is not here is CRUD."""
        return {
            "CreateContext": self._create("context", "contexts"),
            "CreateExecution": self._create("execution", "executions"),
            "CreateArtifact": self._create("artifact", "artifacts"),
            "ListContexts": self._list("contexts", v1.Context, v1.ListContextsResponse),
            "ListExecutions": self._list("executions", v1.Execution, v1.ListExecutionsResponse),
            "ListArtifacts": self._list("artifacts", v1.Artifact, v1.ListArtifactsResponse),
            "UpdateContext": self.update_context,
            "DeleteContext": self.delete_context,
            "AddContextChildren": self.add_children,
            "RemoveContextChildren": self.remove_children,
            "AddContextArtifactsAndExecutions": self.add_members,
            "AddExecutionEvents": self.add_events,
            "QueryContextLineageSubgraph": self.of_context,
            "QueryExecutionInputsAndOutputs": self.of_execution,
            "QueryArtifactLineageSubgraph": self.of_artifact,
        }

    def _create(self, noun: str, collection: str) -> Callable[[Any, Any], Any]:
        def create(_: Any, request: Any) -> Any:
            self.resources.get(request.parent, v1.MetadataStore)
            message, id_ = getattr(request, noun), getattr(request, f"{noun}_id")
            return self._crud.create(request.parent, collection, id_, message)

        return create

    def _list(self, collection: str, kind: type[Any], response: type[Any]) -> Callable[[Any, Any], Any]:
        def list_all(_: Any, request: Any) -> Any:
            self.resources.get(request.parent, v1.MetadataStore)
            found = self.resources.under(request.parent, collection, kind)
            functions = {"in_context": self._in_context}
            some, token = self._crud.listed(found, kind, request, functions)
            return response(**{collection: some, "next_page_token": token})

        return list_all

    def _in_context(self, item: Any, contexts: list[str]) -> bool:
        with self._lock:
            return any(item.name in self._members[context] for context in contexts)

    def update_context(self, _: Any, request: v1.UpdateContextRequest) -> v1.Context:
        """Answer UpdateContext; whose child it is does not change by that."""
        given = request.context
        if self.resources.find(given.name, v1.Context) is None and request.allow_missing:
            return self.resources.create(given.name, given)
        updated: v1.Context = self._crud.update(given, list(request.update_mask.paths), ("parent_contexts",))
        return updated

    def delete_context(self, call: Any, request: v1.DeleteContextRequest) -> Any:
        """Answer DeleteContext: also of one with members; its children become nobody's (`force` is still undefined)."""
        self.resources.get(request.name, v1.Context)

        def remove() -> Any:
            for child in self._children(request.name):
                self._set_parents(child.name, [name for name in child.parent_contexts if name != request.name])
            with self._lock:
                self._members.pop(request.name, None)
            self.resources.remove(request.name, v1.Context)
            return empty_pb2.Empty()

        return call.later(request.name, remove)

    def add_children(self, _: Any, request: v1.AddContextChildrenRequest) -> v1.AddContextChildrenResponse:
        """Answer AddContextChildren: a context has at most 10 parents and is never its own ancestor."""
        with self.resources.lock:
            self.resources.get(request.context, v1.Context)
            children = [self.resources.get(name, v1.Context) for name in request.child_contexts]
            above = self._ancestors(request.context)
            for child in children:
                if child.name in above:
                    raise invalid("child_contexts", f"Context `{child.name}` would become its own ancestor.")
                parents = list(dict.fromkeys([*child.parent_contexts, request.context]))
                if len(parents) > MOST_PARENTS:
                    raise invalid("child_contexts", f"Context `{child.name}` has {MOST_PARENTS} parents already.")
            for child in children:
                self._set_parents(child.name, list(dict.fromkeys([*child.parent_contexts, request.context])))
        return v1.AddContextChildrenResponse()

    def remove_children(self, _: Any, request: v1.RemoveContextChildrenRequest) -> v1.RemoveContextChildrenResponse:
        """Answer RemoveContextChildren."""
        self.resources.get(request.context, v1.Context)
        for name in request.child_contexts:
            child = self.resources.get(name, v1.Context)
            self._set_parents(name, [parent for parent in child.parent_contexts if parent != request.context])
        return v1.RemoveContextChildrenResponse()

    def add_members(
        self, _: Any, request: v1.AddContextArtifactsAndExecutionsRequest
    ) -> v1.AddContextArtifactsAndExecutionsResponse:
        """Answer AddContextArtifactsAndExecutions."""
        self.resources.get(request.context, v1.Context)
        for name in request.artifacts:
            self.resources.get(name, v1.Artifact)
        for name in request.executions:
            self.resources.get(name, v1.Execution)
        with self._lock:
            self._members[request.context].update([*request.artifacts, *request.executions])
        return v1.AddContextArtifactsAndExecutionsResponse()

    def add_events(self, _: Any, request: v1.AddExecutionEventsRequest) -> v1.AddExecutionEventsResponse:
        """Answer AddExecutionEvents: what an execution took and gave; the same event twice is one."""
        self.resources.get(request.execution, v1.Execution)
        events = []
        for given in request.events:
            self.resources.get(given.artifact, v1.Artifact)
            if not given.type_:
                raise invalid("events.type", "Required field is not set.")
            event = copied(given)
            event.execution = request.execution
            if "event_time" not in event:
                _set(event, "event_time", self.resources.now())
            events.append(event)
        with self._lock:
            for event in events:
                self._events.setdefault((event.execution, event.artifact, int(event.type_)), event)
        return v1.AddExecutionEventsResponse()

    def of_context(self, _: Any, request: v1.QueryContextLineageSubgraphRequest) -> v1.LineageSubgraph:
        """Answer QueryContextLineageSubgraph: what is in a context and in its children, and the events between."""
        self.resources.get(request.context, v1.Context)
        with self._lock:
            contexts = [request.context, *(child.name for child in self._children(request.context))]
            names = {name for context in contexts for name in self._members[context]}
            events = [event for event in self._events.values() if event.execution in names]
        return self._graph(names | {event.artifact for event in events}, events)

    def of_execution(self, _: Any, request: v1.QueryExecutionInputsAndOutputsRequest) -> v1.LineageSubgraph:
        """Answer QueryExecutionInputsAndOutputs."""
        self.resources.get(request.execution, v1.Execution)
        with self._lock:
            events = [event for event in self._events.values() if event.execution == request.execution]
        return self._graph({request.execution, *(event.artifact for event in events)}, events)

    def of_artifact(self, _: Any, request: v1.QueryArtifactLineageSubgraphRequest) -> v1.LineageSubgraph:
        """Answer QueryArtifactLineageSubgraph: what is within so many hops of an artifact, each hop an event."""
        if request.filter:
            raise Refusal("UNIMPLEMENTED", "trilho emulate does not filter an artifact's lineage.")
        self.resources.get(request.artifact, v1.Artifact)
        names, found = {request.artifact}, dict[tuple[str, str, int], v1.Event]()
        with self._lock:
            for _hop in range(request.max_hops or MOST_HOPS):
                near = {key: one for key, one in self._events.items() if {one.execution, one.artifact} & names}
                if near.keys() == found.keys():
                    break
                found = near
                names |= {name for one in near.values() for name in (one.execution, one.artifact)}
        return self._graph(names, found.values())

    def begin(self, job: v1.PipelineJob) -> tuple[v1.Context, v1.Context]:
        """Record that a pipeline job began: its pipeline's context, its own, and an execution with its parameters."""
        store, id_ = store_of(job), job.name.rpartition("/")[2]
        document = json_format.MessageToDict(v1.PipelineJob.pb(job))
        name = document.get("pipelineSpec", {}).get("pipelineInfo", {}).get("name", id_)
        with self.resources.lock:
            if self.resources.find(store, v1.MetadataStore) is None:
                self.resources.create(store, v1.MetadataStore())
            pipeline = self._ensure(f"{store}/contexts/{name}", _context(name, "system.Pipeline"))
            run = self._ensure(f"{store}/contexts/{id_}", _context(id_, "system.PipelineRun"))
            self._set_parents(run.name, [pipeline.name])
        given = document.get("runtimeConfig", {}).get("parameterValues", {})
        execution = v1.Execution(display_name=id_, schema_title="system.Run", schema_version=VERSION)
        _set(execution, "state", ExecutionState.RUNNING)
        _set(execution, "metadata", {f"input:{key}": value for key, value in given.items()})
        held = self._ensure(f"{store}/executions/{id_}-run", execution)
        with self._lock:
            self._members[run.name].add(held.name)
        return pipeline, self.resources.get(run.name, v1.Context)

    def end(self, job: v1.PipelineJob, details: list[v1.PipelineTaskDetail]) -> None:
        """Record how a pipeline job ended: an execution for each task, the artifacts, and what joins them."""
        store, id_ = store_of(job), job.name.rpartition("/")[2]
        context = f"{store}/contexts/{id_}"
        if self.resources.find(context, v1.Context) is None:  # somebody deleted it
            return
        for detail in details:
            if "start_time" in detail and "execution" in detail:
                self._record(context, detail)
        failed = job.error.code
        state = "COMPLETE" if not failed else "CANCELLED" if failed == 1 else "FAILED"
        with self.resources.editing(f"{store}/executions/{id_}-run", v1.Execution) as execution:
            _set(execution, "state", ExecutionState[state])

    def _record(self, context: str, detail: v1.PipelineTaskDetail) -> None:
        execution = self._ensure(detail.execution.name, detail.execution)
        ways = ((detail.inputs, EventType.INPUT), (detail.outputs, EventType.OUTPUT))
        for lists, way in ways:
            for artifact in (one for listed in lists.values() for one in listed.artifacts):
                self._ensure(artifact.name, artifact)
                event = v1.Event(artifact=artifact.name, execution=execution.name, type_=way)
                _set(event, "event_time", self.resources.now())
                with self._lock:
                    self._members[context].add(artifact.name)
                    self._events[execution.name, artifact.name, int(way)] = event
        with self._lock:
            self._members[context].add(execution.name)

    def _ensure(self, name: str, message: Any) -> Any:
        with self.resources.lock:
            return self.resources.find(name, type(message)) or self.resources.create(name, message)

    def _children(self, name: str) -> list[v1.Context]:
        return [context for context in self.resources.every(v1.Context) if name in context.parent_contexts]

    def _ancestors(self, name: str) -> set[str]:
        found, left = set[str](), [name]
        while left:
            one = left.pop()
            if one not in found:
                found.add(one)
                context = self.resources.find(one, v1.Context)
                left += list(context.parent_contexts) if context is not None else []
        return found

    def _set_parents(self, name: str, parents: list[str]) -> None:
        with self.resources.editing(name, v1.Context, touch=False) as context:
            context.parent_contexts = parents

    def _graph(self, names: set[str], events: Iterable[v1.Event]) -> v1.LineageSubgraph:
        ordered = sorted(names)
        artifacts = [one for name in ordered if (one := self.resources.find(name, v1.Artifact)) is not None]
        executions = [one for name in ordered if (one := self.resources.find(name, v1.Execution)) is not None]
        return v1.LineageSubgraph(artifacts=artifacts, executions=executions, events=list(events))


def store_of(job: v1.PipelineJob) -> str:
    """Give the metadata store that a pipeline job is recorded in."""
    return f"{job.name.partition('/pipelineJobs/')[0]}/metadataStores/default"


def _context(name: str, schema: str) -> v1.Context:
    return v1.Context(display_name=name, schema_title=schema, schema_version=VERSION)


def _set(message: Any, name: str, value: Any) -> None:
    setattr(message, name, value)
