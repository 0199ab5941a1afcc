"""What a run has come to so far: told as it happens, kept in the run's manifest, summed up at the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from trilho.core.records import RunState, TaskResult
from trilho.errors import TrilhoError
from trilho.pipeline.execution.outcome import Asked, Done
from trilho.pipeline.execution.scope import Given
from trilho.pipeline.ir.names import in_order
from trilho.pipeline.ir.reader import Spec
from trilho.pipeline.keeping.artifacts import Artifacts
from trilho.pipeline.keeping.runs import RunFolder

Kind = Literal["container", "importer", "group", "loop", "iteration"]
LEAVES: tuple[Kind, ...] = ("container", "importer")
SHARE = 20  # the manifest is written again after this many times the time that the last writing took


@dataclass(frozen=True, kw_only=True)
class TaskEvent:
    """A task or group that began, tries again or ended: more than its TaskResult, for those who show details."""

    name: str
    """As in TaskResult.name; a loop's iteration is "for-loop-2/0"."""
    kind: Kind
    state: Literal["running", "retrying", "ran", "cached", "skipped", "failed"]
    reason: str = ""
    error: TrilhoError | None = None
    attempt: int = 1
    seconds: float = 0.0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """The parameters that it was given."""
    artifacts: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    """The artifacts that it was given: {"name", "uri", "type", "metadata", "digest"} each."""
    outputs: Mapping[str, Any] = field(default_factory=dict)
    """The values that it left."""
    artifact_outputs: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    log: Path | None = None


@dataclass(frozen=True)
class Step:
    """A task, group or iteration, for those who are told of it; `place` says where it stands among all."""

    name: str
    kind: Kind
    place: tuple[int, ...]
    needs: list[str] = field(default_factory=list)


@dataclass
class Progress:
    """What has ended, in a run under way."""

    spec: Spec
    folder: RunFolder
    about: Mapping[str, Any]
    on_task: Callable[[TaskResult], None]
    observe: Callable[[TaskEvent], None] | None = None
    error: TrilhoError | None = None
    tasks: dict[tuple[int, ...], TaskResult] = field(default_factory=dict)
    leaves: dict[str, Done] = field(default_factory=dict)
    groups: dict[str, Done] = field(default_factory=dict)
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="microseconds"))
    _changed: bool = False
    _next: float = 0.0

    def began(self, step: Step, given: Given) -> None:
        """Tell that a task, a group or an iteration begins."""
        self._tell(step, Done("ran"), given, "running")

    def retrying(self, asked: Asked, done: Done) -> None:
        """Tell that a task failed and is going to be tried again."""
        step = Step(asked.name, "container", ())
        self._tell(step, done, Given(asked.parameters, dict(asked.artifacts)), "retrying", asked.attempt)

    def ended(self, step: Step, done: Done, given: Given) -> None:
        """Take note of an end. Groups count among the tasks only when they were skipped or failed by themselves."""
        if step.kind in LEAVES:
            self.leaves[step.name] = done
        else:
            self.groups[step.name] = done
        if done.error is not None and self.error is None:
            self.error = done.error
        if step.kind in LEAVES or done.own or (done.state == "skipped" and step.kind != "iteration"):
            self._list(step, done)
        self._tell(step, done, given, done.state)

    def _list(self, step: Step, done: Done) -> None:
        result = TaskResult(
            name=step.name, state=done.state, seconds=round(done.seconds, 4), needs=list(step.needs), reason=done.reason
        )
        self.tasks[step.place] = result
        self._changed = True
        self.save()
        self.on_task(result)

    def _tell(
        self,
        step: Step,
        done: Done,
        given: Given,
        state: Literal["running", "retrying", "ran", "cached", "skipped", "failed"],
        attempt: int = 1,
    ) -> None:
        if self.observe is None:
            return
        self.observe(
            TaskEvent(
                name=step.name,
                kind=step.kind,
                state=state,
                reason=done.reason,
                error=done.error,
                attempt=attempt,
                seconds=done.seconds,
                parameters=given.parameters,
                artifacts=_shown(given.artifacts),
                outputs=done.values,
                artifact_outputs=_shown(done.artifacts),
                log=self.folder.log(step.name) if step.kind in LEAVES else None,
            )
        )

    def results(self) -> list[TaskResult]:
        """Give the tasks that have ended, so that each comes after what it needs."""
        return [self.tasks[place] for place in sorted(self.tasks)]

    def due(self) -> float:
        """Give the seconds until the manifest is to be written, if it is."""
        return max(0.0, self._next - time.monotonic()) if self._changed else 60.0

    def save(self) -> None:
        """Write the manifest where something changed, at most a small share of the time."""
        now = time.monotonic()
        if self._changed and now >= self._next:
            self.write("running")
            after = time.monotonic()
            self._changed, self._next = False, after + SHARE * (after - now)

    def write(self, state: RunState, error: str | None = None) -> None:
        """Write the manifest."""
        self.folder.write(
            {
                "run": self.folder.path.name,
                "pipeline": self.spec.name,
                "about": dict(self.about),
                "state": state,
                "started": self.started,
                "ended": None if state == "running" else datetime.now(UTC).isoformat(timespec="microseconds"),
                "error": error,
                "tasks": self.results(),
                "planned": self._planned,
            }
        )

    @cached_property
    def _planned(self) -> list[dict[str, Any]]:
        dag = self.spec.root.dag
        return [] if dag is None else [{"name": task.name, "needs": list(task.needs)} for task in in_order(dag)]

    def values(self) -> dict[str, Any]:
        """Give what tasks found by "task.name", and by the end of the task's name where one task has it."""
        return {f"{name}.{key}": value for name, done in self._named() for key, value in done.values.items()}

    def digests(self) -> dict[str, str]:
        """Give the digests of what tasks made, named as values are; of an output that is a list none."""
        return {
            f"{name}.{key}": listed[0].digest
            for name, done in self._named()
            for key, listed in done.artifacts.items()
            if len(listed) == 1 and listed[0].digest is not None
        }

    def _named(self) -> list[tuple[str, Done]]:
        ends = Counter(name.rpartition("/")[2] for name in self.leaves)
        short = [(name.rpartition("/")[2], done) for name, done in self.leaves.items() if "/" in name]
        groups = [(name, done) for name, done in self.groups.items() if "/" not in name]
        return [*groups, *(pair for pair in short if ends[pair[0]] == 1), *self.leaves.items()]


def _shown(artifacts: Artifacts) -> dict[str, list[dict[str, Any]]]:
    return {name: [one.shown() for one in listed] for name, listed in artifacts.items()}
