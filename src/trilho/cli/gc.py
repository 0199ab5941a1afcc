"""`trilho gc`: frees what no live version, run or pin needs, and says what first."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trilho.cli.session import DryRun, Session, Yes, verb
from trilho.errors import DataError, Refused, UsageError

if TYPE_CHECKING:
    from trilho.core.projection import State
    from trilho.project import Project

Sizes = list[tuple[str, int]]
PACKAGES, DATA, OUTPUTS, HALVES = "model packages", "files of datasets", "outputs of steps", "half-written copies"
FOLDERS, TASKS = "folders of runs, with their logs", "notes of finished steps"
ENVIRONMENTS, UNUSED = "environments of components", timedelta(days=30)  # they take minutes to make again


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""

    @verb(app, "gc", examples=["trilho gc --dry-run", 'trilho gc --yes --older-than "7 days"'])
    def gc(
        here: Session,
        yes: Yes = False,
        dry_run: DryRun = False,
        older_than: Annotated[
            str, typer.Option("--older-than", metavar="TIME", help="Spare what was made or used since.")
        ] = "1 hour",
    ) -> None:
        """Free what no live version, run or pin needs.

        Live are the champion, the one before it, the one on its way, those that passed the gate since, and the newest.
        """
        from trilho.config import parse_duration

        try:
            spare = parse_duration(older_than)
        except ValueError as error:
            raise UsageError(f"--older-than is {older_than!r}; allowed: {error}") from None
        garbage = Garbage.of(here.project, spare)
        found = garbage.found()
        total = _size(sum(size for sizes in found.values() for _, size in sizes))
        lines = [f"{len(x)} {kind}: {_size(sum(size for _, size in x))}" for kind, x in found.items()]
        plan = [*lines, *garbage.warnings(found), f"{here.project.home} gets {total} smaller"]
        done = bool(found) and here.agreed(plan, yes=yes, dry_run=dry_run, lasting=True)
        if done:
            found = garbage.free()
            here.say(f"Freed {_size(sum(size for sizes in found.values() for _, size in sizes))}.")
        elif not found:
            here.say("Nothing to free.")
        here.done("trilho" if done or not found else "trilho gc --yes", done=done, **_as_json(found))


@dataclass(frozen=True)
class Garbage:
    """What a home holds that nothing needs, as of one state of the journal."""

    project: Project
    state: State
    keep: set[str]
    runs: set[str]
    spare: timedelta

    @classmethod
    def of(cls, project: Project, spare: timedelta) -> Garbage:
        """Find out what is needed. Whatever was made or used since the oldest run under way began is spared too."""
        from trilho.govern.retention import live_digests, live_runs
        from trilho.pipeline.keeping.leftovers import finished_tasks, held_since

        since = held_since(project.home)
        if since is not None:
            spare = max(spare, timedelta(seconds=time.time() - since + 1))
        state = project.reader.state()
        if state.unknown:
            raise Refused(
                f"{state.unknown} records were written by a newer trilho: what they need is not known here",
                hint="use the newest trilho that writes to this home",
            )
        tasks = [task for _, task in finished_tasks(project.home)]
        keep = live_digests(state, lambda dataset: _files_of(project, dataset), tasks)
        return cls(project, state, keep, {x for model in state.models.values() for x in live_runs(model)}, spare)

    @cached_property
    def kinds(self) -> dict[str, str]:
        """What the journal says that an artifact is."""
        datasets = {digest for model in self.state.models.values() for digest in model.datasets}
        kinds = {digest: DATA for dataset in datasets for digest in _files_of(self.project, dataset)}
        return {**kinds, **dict.fromkeys(self.packages, PACKAGES)}

    @cached_property
    def packages(self) -> dict[str, str]:
        """The versions' packages, by digest."""
        models = self.state.models.values()
        return {x.package: f"version {x.number} of {model.name}" for model in models for x in model.versions.values()}

    def found(self) -> dict[str, Sizes]:
        """Give what would go, by kind."""
        artifacts = self.project.store.gc(self.keep, True, self.spare)
        gone = {digest for digest, _ in artifacts}
        tasks, folders, environments = self._tasks(gone), self._folders(), self._environments()
        return self._sorted(artifacts, _measured(folders), _measured(tasks), _measured(environments))

    def free(self) -> dict[str, Sizes]:
        """Remove it, and give what went. The notes of steps go first, so that no run counts on what is about to go."""
        going = {digest for digest, _ in self.project.store.gc(self.keep, True, self.spare)}
        tasks, folders, environments = self._tasks(going), self._folders(), self._environments()
        measured = _measured(folders), _measured(tasks), _measured(environments)
        for task in tasks:
            task.unlink(missing_ok=True)
        artifacts = self.project.store.gc(self.keep, False, self.spare)
        for folder in (*folders, *environments):
            shutil.rmtree(folder, ignore_errors=True)
        return self._sorted(artifacts, *measured)

    def warnings(self, found: dict[str, Sizes]) -> list[str]:
        """Say which versions nobody can release again."""
        versions = [self.packages[digest] for digest, _ in found.get(PACKAGES, [])]
        return [f"{', '.join(versions)}: cannot serve again (trilho models pin keeps one)"] if versions else []

    def _tasks(self, gone: set[str]) -> list[Path]:
        from trilho.pipeline.keeping.leftovers import useless_tasks

        store = self.project.store
        return useless_tasks(self.project.home, self.runs, lambda x: x not in gone and store.has(x), self._before)

    def _folders(self) -> list[Path]:
        from trilho.pipeline.keeping.leftovers import old_folders

        return old_folders(self.project.home, self.runs, self._before)

    def _environments(self) -> list[Path]:
        from trilho.pipeline.workers.environment import old_environments

        return old_environments(self.project.home, min(self._before, time.time() - UNUSED.total_seconds()))

    @property
    def _before(self) -> float:
        return time.time() - self.spare.total_seconds()

    def _sorted(self, artifacts: Sizes, folders: Sizes, tasks: Sizes, environments: Sizes) -> dict[str, Sizes]:
        kinds: dict[str, Sizes] = {PACKAGES: [], DATA: [], OUTPUTS: [], HALVES: []}
        kinds |= {FOLDERS: folders, TASKS: tasks, ENVIRONMENTS: environments}
        for digest, size in artifacts:
            kinds[HALVES if "/" in digest else self.kinds.get(digest, OUTPUTS)].append((digest, size))
        return {kind: sizes for kind, sizes in kinds.items() if sizes}


def _files_of(project: Project, dataset: str) -> set[str]:
    from trilho.data.version import artifacts_of

    try:
        return artifacts_of(dataset, project.store)
    except DataError:  # freed before, or lost: then its files cannot be named either
        return {dataset}


def _measured(paths: Iterable[Path]) -> Sizes:
    files = ((path, [path] if path.is_file() else [x for x in path.rglob("*") if x.is_file()]) for path in paths)
    return [(path.name, sum(x.stat().st_size for x in parts)) for path, parts in files]


def _as_json(found: dict[str, Sizes]) -> dict[str, object]:
    artifacts = [
        {"digest": name, "bytes": size, "kind": kind}
        for kind, sizes in found.items()
        if kind not in (FOLDERS, TASKS, ENVIRONMENTS)
        for name, size in sizes
    ]
    return {
        "bytes": sum(size for sizes in found.values() for _, size in sizes),
        "counts": {kind: len(sizes) for kind, sizes in found.items()},
        "artifacts": artifacts,
        "runs": [name for name, _ in found.get(FOLDERS, [])],
    }


def _size(size: int) -> str:
    amount = float(size)
    for unit in ("bytes", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"
