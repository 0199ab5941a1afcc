"""What is asked of a run's workers, one task at a time, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trilho.core.records import TaskState
from trilho.errors import TrilhoError
from trilho.pipeline.ir.reader import Component, Container, Importer, Task
from trilho.pipeline.keeping.artifacts import Artifacts


@dataclass
class Asked:
    """A task that is to be done, with what it was given."""

    name: str
    task: Task
    component: Component
    executor: Container | Importer
    parameters: dict[str, Any]
    artifacts: Artifacts
    facts: Mapping[str, str]
    fingerprint: str = ""
    """Of what its result depends on; known before it is done."""
    attempt: int = 1
    seconds: float = 0.0


@dataclass
class Done:
    """How a task, or a group of them, ended."""

    state: TaskState
    reason: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    artifacts: Artifacts = field(default_factory=dict)
    error: TrilhoError | None = None
    seconds: float = 0.0
    own: bool = False
    """A group failed by itself, not by a task within."""
