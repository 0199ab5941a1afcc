"""A training run as a trace: one span for it, one for each task. Only where [telemetry] names a collector."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from trilho.config import Telemetry
from trilho.core.records import TaskResult

if TYPE_CHECKING:
    from trilho.project.outcome import OnTask
    from trilho_runtime.web.tracing import Context, Traces


class RunTrace:
    """Spans of one training run; without a collector it does nothing, and imports nothing."""

    def __init__(self, telemetry: Telemetry, model: str, run: str, trigger: str = "") -> None:
        self._told = {"trilho.model": model, "trilho.run": run, "trilho.trigger": trigger}
        self._start = time.time_ns()
        self._traces: Traces | None = None
        self._context: Context | None = None
        if telemetry.endpoint:
            from trilho_runtime.web.tracing import Traces

            self._traces = Traces(telemetry.endpoint, "trilho-train")
            self._context = self._traces.begin()

    def following(self, on_task: OnTask | None) -> OnTask | None:
        """Give what to call when a task has ended: the span first, then what was to be called anyway."""
        if self._traces is None:
            return on_task

        def ended(task: TaskResult) -> None:
            self._add(task)
            if on_task is not None:
                on_task(task)

        return ended

    def _add(self, task: TaskResult) -> None:
        from trilho_runtime.web.tracing import Span

        assert self._traces is not None
        assert self._context is not None
        end = time.time_ns()
        attributes = {**self._told, "trilho.task": task["name"], "trilho.state": task["state"]}
        start, failed = end - int(task["seconds"] * 1e9), task["state"] == "failed"
        self._traces.add(
            Span(self._traces.child(self._context), task["name"], start, end, "INTERNAL", failed, attributes)
        )

    def end(self, version: int | None = None, *, failed: bool = False) -> None:
        """Send the run's own span, and wait a moment for the collector to take everything."""
        if self._traces is None:
            return
        from trilho_runtime.web.tracing import Span

        assert self._context is not None
        more = {} if version is None else {"trilho.version": version}
        told = {**self._told, **more}
        self._traces.add(Span(self._context, "train", self._start, time.time_ns(), "INTERNAL", failed, told))
        self._traces.close()
