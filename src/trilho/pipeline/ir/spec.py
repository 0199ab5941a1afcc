"""A pipeline as the KFP v2 intermediate representation describes it: components, the tasks that use them, executors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal, get_args

from trilho.errors import UsageError

ParameterType = Literal[
    "STRING", "NUMBER_INTEGER", "NUMBER_DOUBLE", "BOOLEAN", "LIST", "STRUCT", "TASK_FINAL_STATUS", "TASK_CONFIG"
]
TYPES: tuple[ParameterType, ...] = get_args(ParameterType)


class IrError(UsageError):
    """A document is no pipeline that can be read: a part is missing, or names what is not there."""


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
"""What a default is where there is none; null is a value."""


@dataclass(frozen=True)
class Constant:
    """A value that was known when the pipeline was compiled; its text may hold placeholders."""

    value: Any


@dataclass(frozen=True)
class TaskOutput:
    """An output of a task of the same graph."""

    task: str
    key: str


@dataclass(frozen=True)
class ComponentInput:
    """An input of the component that the task is part of."""

    name: str


@dataclass(frozen=True)
class FinalStatus:
    """How a task of the same graph ended."""

    task: str


Source = Constant | TaskOutput | ComponentInput | FinalStatus


@dataclass(frozen=True)
class Parameter:
    """A parameter that a component takes."""

    type: ParameterType
    default: Any = MISSING
    optional: bool = False
    literals: tuple[Any, ...] = ()

    @property
    def required(self) -> bool:
        """Whether a value must be given."""
        return self.default is MISSING and not self.optional


@dataclass(frozen=True)
class ArtifactInput:
    """An artifact, or a list of them, that a component takes."""

    schema: Mapping[str, Any]
    is_list: bool = False
    optional: bool = False


@dataclass(frozen=True)
class ArtifactOutput:
    """An artifact that a component leaves."""

    schema: Mapping[str, Any]
    is_list: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Input:
    """Where a task's parameter comes from, and the expression that takes a part of it."""

    source: Source
    selector: str | None = None


@dataclass(frozen=True)
class Retry:
    """How often a task that failed is tried again, and after how many seconds."""

    times: int
    seconds: float = 0.0
    factor: float = 2.0
    most_seconds: float = 3600.0

    def wait(self, attempt: int) -> float:
        """Give the seconds before the attempt with this number, the second being 2.

        >>> [Retry(3, 2.0, 3.0, 10.0).wait(n) for n in (2, 3, 4)]
        [2.0, 6.0, 10.0]
        """
        return min(self.seconds * self.factor ** (attempt - 2), self.most_seconds)


@dataclass(frozen=True)
class Loop:
    """A task that is done once for every item of a list."""

    over: Literal["parameter", "artifact"]
    item: str
    """The component's input that is given the item."""
    items: tuple[Any, ...] | None = None
    """The items, where they are known; else `input` names the task's input that holds them."""
    input: str | None = None
    at_once: int = 0
    """How many iterations run at a time; 0 is all of them."""


@dataclass(frozen=True)
class Task:
    """A component put to work within a graph."""

    name: str
    """Its key in the graph."""
    label: str
    component: str
    parameters: Mapping[str, Input] = field(default_factory=dict)
    artifacts: Mapping[str, Source] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    cache: bool = False
    condition: str | None = None
    whatever_happens: bool = False
    """Whether it runs when what it needs has ended in whatever way; else only when all that succeeded."""
    retry: Retry | None = None
    loop: Loop | None = None

    @cached_property
    def needs(self) -> tuple[str, ...]:
        """The tasks of the same graph that must have ended before."""
        sources = [*self.artifacts.values(), *(given.source for given in self.parameters.values())]
        found = [source.task for source in sources if isinstance(source, (TaskOutput, FinalStatus))]
        return tuple(dict.fromkeys([*found, *self.after]))


@dataclass(frozen=True)
class Selection:
    """Where an output of a graph comes from: of several the one whose task ran, or (artifacts of all) all of them."""

    sources: tuple[TaskOutput, ...]
    one_of: bool = False


@dataclass(frozen=True)
class Dag:
    """Tasks, and which of their outputs are the graph's own."""

    tasks: Mapping[str, Task]
    parameters: Mapping[str, Selection] = field(default_factory=dict)
    artifacts: Mapping[str, Selection] = field(default_factory=dict)


@dataclass(frozen=True)
class Component:
    """What a task runs: a graph (`dag`) or one execution (`executor`), with typed inputs and outputs."""

    name: str
    inputs: Mapping[str, Parameter] = field(default_factory=dict)
    artifact_inputs: Mapping[str, ArtifactInput] = field(default_factory=dict)
    outputs: Mapping[str, ParameterType] = field(default_factory=dict)
    artifact_outputs: Mapping[str, ArtifactOutput] = field(default_factory=dict)
    dag: Dag | None = None
    executor: str | None = None


@dataclass(frozen=True)
class Container:
    """A command in an image; its texts hold placeholders."""

    image: str
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, Any] = field(default_factory=dict)
    hook: bool = False
    """Whether a command of its own runs before the cache is asked."""


@dataclass(frozen=True)
class Importer:
    """An artifact that exists already, by its URI."""

    uri: Constant | ComponentInput
    schema: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    reimport: bool = False


@dataclass(frozen=True)
class Unsupported:
    """An executor of a kind that only a cloud has: resolver, customJob, or one that came later."""

    kind: str


Executor = Container | Importer | Unsupported


@dataclass(frozen=True)
class Spec:
    """A whole pipeline."""

    name: str
    root: Component
    components: Mapping[str, Component]
    executors: Mapping[str, Executor]
    document: Mapping[str, Any]
    """The PipelineSpec as it was read."""
    platform: Mapping[str, Any] | None = None
    """What the second document says: settings of one platform, such as Kubernetes."""
    schema_version: str = "2.1.0"
    given: Mapping[str, Any] = field(default_factory=dict)
    """The parameters that a PipelineJob around it sets."""
    pipeline_root: str = ""

    def component(self, task: Task) -> Component:
        """Give what a task runs."""
        return self.components[task.component]

    def executor(self, component: Component) -> Executor | None:
        """Give how a component is executed; None for a graph."""
        return None if component.executor is None else self.executors[component.executor]

    def walk(self) -> Iterator[tuple[str, Task]]:
        """Give every task with its name within the pipeline ("condition-1/deploy"), groups before what is in them."""
        yield from self._walk(self.root, "")

    def _walk(self, component: Component, prefix: str) -> Iterator[tuple[str, Task]]:
        for name, task in component.dag.tasks.items() if component.dag is not None else ():
            yield prefix + name, task
            yield from self._walk(self.component(task), f"{prefix}{name}/")
