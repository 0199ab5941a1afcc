"""Runs a pipeline's graph: one thread decides what is next, a few workers do it, nothing waits for nothing.

Groups are graphs within: a condition is one that is skipped or not, a loop one for each of its items. Decisions are
kept in a queue, so that however long a chain of skipped tasks is, no call stack grows with it.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from trilho.errors import StepFailed
from trilho.pipeline.execution.outcome import Asked, Done
from trilho.pipeline.execution.perform import Performer
from trilho.pipeline.execution.progress import Kind, Progress, Step
from trilho.pipeline.execution.scope import Absent, Given, Scope, Unresolved, collected
from trilho.pipeline.ir.names import in_order
from trilho.pipeline.ir.reader import Component, Container, Importer, Spec, Task
from trilho.pipeline.ir.values import ValueMismatch
from trilho.pipeline.workers.keeper import AT_ONCE

LOOK_SECONDS = 0.2


class Stopped(Exception):
    """A run was told to stop before its end; what it has done so far is kept, and the next run goes on there."""


End = Callable[[Done, list[str]], None]  # how it ended, and the executions that stand for its end


@dataclass(eq=False)
class Node:
    """A task within one execution of its graph."""

    name: str
    task: Task
    component: Component
    place: tuple[int, ...]
    """Where it stands among all: sorted by it, every task comes after what it needs."""
    graph: Graph
    waits: int
    given: Given = field(default_factory=Given)
    begun: float = 0.0
    leaves: list[str] = field(default_factory=list)
    """The names of the executions that whatever needs this task needs."""
    items: list[Any] = field(default_factory=list)
    started: int = 0
    iterations: dict[int, tuple[Done, list[str]]] = field(default_factory=dict)

    @property
    def is_leaf(self) -> bool:
        """Whether it is one execution, no graph and no loop."""
        return self.component.dag is None and self.task.loop is None


@dataclass(eq=False)
class Graph:
    """One execution of a graph, and what to do at its end."""

    scope: Scope
    place: tuple[int, ...]
    needs: list[str]
    """What its first tasks need: the executions before the group that it is."""
    end: End
    nodes: dict[str, Node] = field(default_factory=dict)
    users: dict[str, list[Node]] = field(default_factory=lambda: defaultdict(list))
    left: int = 0


class Schedule:
    """One run of a pipeline's tasks."""

    def __init__(
        self,
        spec: Spec,
        performer: Performer,
        progress: Progress,
        facts: Mapping[str, str],
        stop: threading.Event | None = None,
    ) -> None:
        self.spec, self.performer, self.progress, self.facts, self.stop = spec, performer, progress, facts, stop
        self.todo: deque[Callable[[], object]] = deque()
        self.results: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self.running: set[Future[None]] = set()
        self.later: list[tuple[float, int, Callable[[], object]]] = []
        self.under_way: dict[str, list[Callable[[], object]]] = {}
        self.ended: Done | None = None

    def run(self, given: Given) -> Done:
        """Run it to its end. Raises Stopped when it was told to stop, with nothing left running."""

        def end(done: Done, _: list[str]) -> None:
            self.ended = done

        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="task") as self.pool:
            try:
                self._open(self.spec.root, "", (), [], given, end)
                while self.ended is None:
                    self._turn()
            except BaseException:
                self._abandon()
                raise
        return self.ended

    def _turn(self) -> None:
        while self.todo:
            self.todo.popleft()()
            self._look()
        if self.ended is not None:
            return
        due = self.later[0][0] - time.monotonic() if self.later else LOOK_SECONDS
        try:
            self.todo.append(self.results.get(timeout=max(0.001, min(due, LOOK_SECONDS, self.progress.due()))))
        except Empty:
            self.progress.save()
        while self.later and self.later[0][0] <= time.monotonic():
            self.todo.append(heapq.heappop(self.later)[2])
        self._look()

    def _look(self) -> None:
        if self.stop is not None and self.stop.is_set():
            raise Stopped("the run was told to stop")

    def _abandon(self) -> None:
        """End the steps that run; one that a worker was about to start is ended as well."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        while left := [future for future in list(self.running) if not future.done()]:
            self.performer.workers.stop_all()
            wait(left, LOOK_SECONDS)

    def _open(
        self, component: Component, path: str, place: tuple[int, ...], needs: list[str], given: Given, end: End
    ) -> None:
        """Begin a graph: its tasks that need no other are considered next."""
        dag = component.dag
        assert dag is not None
        graph = Graph(Scope(self.spec, component, path, given, self.facts), place, needs, end, left=len(dag.tasks))
        for index, task in enumerate(in_order(dag)):
            part = self.spec.component(task)
            node = Node(path + task.name, task, part, (*place, index), graph, len(task.needs))
            graph.nodes[task.name] = node
            for need in task.needs:
                graph.users[need].append(node)
        self.todo += [partial(self._consider, node) for node in graph.nodes.values() if node.waits == 0]
        if not graph.nodes:
            self.todo.append(partial(self._close, graph))

    def _close(self, graph: Graph) -> None:
        """End a graph: it failed when a task of it did, or when what it leaves can't be told."""
        ended = graph.scope.ended
        failed = [ended[name] for name in graph.nodes if ended[name].state == "failed"]
        inner = {need for node in graph.nodes.values() for need in node.task.needs}
        last = [node for name, node in graph.nodes.items() if name not in inner and ended[name].state != "skipped"]
        leaves = [leaf for node in last for leaf in node.leaves]
        if failed:
            graph.end(_failed(failed), leaves)
            return
        try:
            graph.end(Done("ran", "", *graph.scope.outputs()), leaves)
        except Unresolved as error:
            graph.end(Done("failed", error.fact, error=error, own=True), leaves)

    def _needs(self, node: Node) -> list[str]:
        """Give the executions that a task needs: those before its group where it needs none within."""
        found = [leaf for need in node.task.needs for leaf in node.graph.nodes[need].leaves]
        return list(dict.fromkeys(found)) if node.task.needs else node.graph.needs

    def _consider(self, node: Node) -> None:
        """Decide about a task whose needs have all ended: skip it, fail it, or begin it."""
        node.begun = time.monotonic()
        scope, task = node.graph.scope, node.task
        missing = [name for name in task.needs if scope.ended[name].state in ("failed", "skipped")]
        if missing and not task.whatever_happens:
            self._finish(node, Done("skipped", f"{missing[0]} {scope.ended[missing[0]].state}"))
            return
        try:
            node.given = scope.given_to(task)
            if not scope.holds(task, node.given):
                self._finish(node, Done("skipped", f"its condition is false: {task.condition}"))
                return
            node.items = scope.items(task, node.given) if task.loop is not None else []
        except Absent as why:
            self._finish(node, Done("skipped", str(why)))
        except Unresolved as error:
            self._finish(node, Done("failed", error.fact, error=error, own=True))
        else:
            self._begin(node)

    def _begin(self, node: Node) -> None:
        loop = node.task.loop
        self.progress.began(self._step(node), node.given)
        if loop is None:
            self._execute(node, node.name, node.place, node.given, partial(self._finish, node))
            return
        for _ in range(min(loop.at_once or len(node.items), len(node.items))):
            self._iterate(node)
        if not node.items:
            self._looped(node)

    def _iterate(self, node: Node) -> None:
        """Begin the next iteration of a loop."""
        loop, index = node.task.loop, node.started
        assert loop is not None
        node.started += 1
        name, end = f"{node.name}/{index}", partial(self._iterated, node, index)
        try:
            given = node.given.with_item(loop.item, node.items[index], node.component)
        except ValueMismatch as error:
            fact = f"task {name} failed: its input {loop.item}: {error}"
            failed = Done("failed", fact, error=Unresolved(fact, hint="correct what the loop goes over"), own=True)
            self.todo.append(partial(end, failed, [name]))
            return
        self.progress.began(self._step(node, index), given)
        self.todo.append(partial(self._execute, node, name, (*node.place, index), given, end))

    def _iterated(self, node: Node, index: int, done: Done, leaves: list[str]) -> None:
        node.iterations[index] = (done, leaves)
        self.progress.ended(self._step(node, index), done, node.given)
        if node.started < len(node.items):
            self._iterate(node)
        if len(node.iterations) == len(node.items):
            self._looped(node)

    def _looped(self, node: Node) -> None:
        ended = [node.iterations[index][0] for index in range(len(node.items))]
        leaves = next((node.iterations[i][1] for i in range(len(ended)) if node.iterations[i][1]), None)
        failed = [done for done in ended if done.state == "failed"]
        if failed:
            self._finish(node, _failed(failed), leaves)  # the executions of one iteration stand for all
        else:
            self._finish(node, Done("ran", "", *collected(node.component, ended)), leaves)

    def _execute(self, node: Node, name: str, place: tuple[int, ...], given: Given, end: End) -> None:
        if node.component.dag is not None:
            self._open(node.component, name + "/", place, self._needs(node), given, end)
            return
        executor = self.spec.executor(node.component)
        if not isinstance(executor, (Container, Importer)):
            kind = executor.kind if executor is not None else "nothing"
            fact = f"task {name} failed: it is a {kind}, which only a cloud has"
            end(Done("failed", fact, error=StepFailed(fact, hint="submit the pipeline there")), [name])
            return
        facts = node.graph.scope.facts_of(node.task, name)
        self._submit(
            node, Asked(name, node.task, node.component, executor, given.parameters, given.artifacts, facts), end
        )

    def _submit(self, node: Node, asked: Asked, end: End) -> None:
        """Hand a task to a worker; one that does what another is doing just now waits for it."""
        failed = self.performer.identify(asked)
        if failed is not None:
            self.todo.append(partial(end, failed, [asked.name]))
            return
        if self.performer.is_cached(asked):
            if asked.fingerprint in self.under_way:
                self.under_way[asked.fingerprint].append(partial(self._submit, node, asked, end))
                return
            self.under_way[asked.fingerprint] = []

        def work() -> None:
            try:
                self.results.put(partial(self._came, node, asked, end, self.performer.perform(asked)))
            except BaseException as bug:  # noqa: BLE001  else the scheduler would wait for a result that never comes
                self.results.put(partial(_reraise, bug))

        future = self.pool.submit(work)
        self.running.add(future)
        future.add_done_callback(self.running.discard)

    def _came(self, node: Node, asked: Asked, end: End, done: Done) -> None:
        """Take what a worker says of a task: it ended, or is tried again."""
        if self.performer.is_cached(asked):
            self.todo += self.under_way.pop(asked.fingerprint)
        retry = node.task.retry
        if done.state == "failed" and retry is not None and asked.attempt <= retry.times:
            self.progress.retrying(asked, done)
            asked.attempt, asked.seconds = asked.attempt + 1, done.seconds
            again: Callable[[], object] = partial(self._submit, node, asked, end)
            heapq.heappush(self.later, (time.monotonic() + retry.wait(asked.attempt), next(COUNT), again))
            return
        if done.state == "failed" and asked.attempt > 1:
            done.reason = f"{done.reason} (attempt {asked.attempt})"
        end(done, [asked.name])

    def _finish(self, node: Node, done: Done, leaves: list[str] | None = None) -> None:
        """End a task, and consider those that waited for it."""
        node.leaves = [node.name] if node.is_leaf else leaves or self._needs(node)
        graph = node.graph
        graph.scope.ended[node.task.name] = done
        if not node.is_leaf and node.begun:
            done.seconds = time.monotonic() - node.begun
        self.progress.ended(self._step(node), done, node.given)
        if done.state == "skipped" and not node.is_leaf:
            self._skip_within(node.component, node.name, node.place, done.reason, self._needs(node))
        for user in graph.users[node.task.name]:
            user.waits -= 1
            if user.waits == 0:
                self.todo.append(partial(self._consider, user))
        graph.left -= 1
        if graph.left == 0:
            self.todo.append(partial(self._close, graph))

    def _skip_within(
        self, component: Component, path: str, place: tuple[int, ...], reason: str, needs: list[str]
    ) -> None:
        for index, task in enumerate(in_order(component.dag) if component.dag is not None else ()):
            part, name = self.spec.component(task), f"{path}/{task.name}"
            if part.dag is not None:
                self._skip_within(part, name, (*place, index), reason, needs)
            else:
                self.progress.ended(Step(name, "container", (*place, index), needs), Done("skipped", reason), Given())

    def _step(self, node: Node, index: int | None = None) -> Step:
        leaf = node.component.dag is None and (node.task.loop is None or index is not None)
        importer = isinstance(self.spec.executor(node.component), Importer)
        kind: Kind = "importer" if importer else "container"
        if not leaf:
            kind = "iteration" if index is not None else "loop" if node.task.loop is not None else "group"
        if index is None:
            return Step(node.name, kind, node.place, self._needs(node))
        return Step(f"{node.name}/{index}", kind, (*node.place, index), self._needs(node))


def _failed(failed: list[Done]) -> Done:
    more = f"; and {len(failed) - 1} more failed" if len(failed) > 1 else ""
    return Done("failed", failed[0].reason + more, error=failed[0].error)


COUNT = itertools.count()


def _reraise(error: BaseException) -> None:
    raise error
