"""Does one task of a run: finds that it was done before, or runs its container and keeps what it left."""

from __future__ import annotations

import errno
import re
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import trilho.errors
from trilho.errors import DataError, StepFailed, TrilhoError
from trilho.pipeline.execution.exchange import Exchange
from trilho.pipeline.execution.fingerprint import leaf_fingerprint, step_of
from trilho.pipeline.execution.outcome import Asked, Done
from trilho.pipeline.ir.placeholder import Filling, PlaceholderError
from trilho.pipeline.ir.reader import Container, Importer
from trilho.pipeline.ir.values import ValueMismatch, plain
from trilho.pipeline.keeping.cache import Cache, Kept
from trilho.pipeline.keeping.runs import TaskLog
from trilho.pipeline.libraries import libraries_of
from trilho.pipeline.workers.keeper import exit_words
from trilho.pipeline.workers.workers import Ended, Leaf, Workers

D = TypeVar("D")
LINES = 40  # of a failed step's output that its error shows


@dataclass
class Performer:
    """Does tasks, several at once, in threads. It never raises but for bugs of ours."""

    workers: Workers
    cache: Cache
    schema_version: str
    timeout: float | None
    root: str | None
    """The URI that artifacts stay under, where they do not go to the store."""
    cached: bool
    _libraries: dict[Path, str] = field(default_factory=dict)

    def is_cached(self, asked: Asked) -> bool:
        """Say whether what a task leaves counts for other tasks and runs."""
        return self.cached and asked.task.cache and isinstance(asked.executor, Container)

    def identify(self, asked: Asked) -> Done | None:
        """Find out what a task's result depends on; gives how it failed where that cannot be known."""
        if isinstance(asked.executor, Container) and not asked.fingerprint:
            return self._guarded(asked, self._identify)
        return None

    def perform(self, asked: Asked) -> Done:
        """Do a task; how it failed is in the answer."""
        begun = time.monotonic()
        done = self._guarded(asked, self._import if isinstance(asked.executor, Importer) else self._perform)
        done.seconds = asked.seconds + time.monotonic() - begun
        return done

    def _guarded(self, asked: Asked, work: Callable[[Asked], D]) -> D | Done:
        try:
            return work(asked)
        except TrilhoError as error:
            return _failed(error)
        except (ValueMismatch, PlaceholderError) as error:
            return _failed(StepFailed(f"step {asked.name} failed: {error}", hint=self.hint(asked)))
        except OSError as error:
            fact = f"task {asked.name} failed: {error.strerror}: {error.filename}"
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            hint = "free some space (trilho gc) and run it again" if full else self.hint(asked)
            return _failed(DataError(fact, hint=hint))
        except Exception as error:  # noqa: BLE001  a bug of ours fails the task that met it, not the run
            self.log(asked).say(traceback.format_exc())
            fact = f"task {asked.name} failed: {type(error).__name__}: {error}"
            return _failed(StepFailed(fact, hint=self.hint(asked)))

    def hint(self, asked: Asked) -> str:
        """Say where the output of a task is."""
        return f"trilho runs logs {self.cache.folder.path.name} {asked.name}"

    def log(self, asked: Asked) -> TaskLog:
        """Give a task's log."""
        return TaskLog(self.cache.folder.log(asked.name))

    def libraries(self, container: Container) -> str:
        """Give the digest of what the interpreter of a step of ours has installed, asked once; "" for other commands.

        Raises ConfigError where that interpreter cannot run steps.
        """
        if step_of(container) is None:
            return ""
        places = self.cache.keeping.places
        python = (places.of(container.image) or places.own).python
        if python not in self._libraries:
            self._libraries[python] = libraries_of(python, self.cache.home)
        return self._libraries[python]

    def _import(self, asked: Asked) -> Done:
        importer = asked.executor
        assert isinstance(importer, Importer)
        filling = Filling({"inputs": {"parameterValues": asked.parameters}}, asked.facts)
        named = importer.uri
        uri = filling.value(named.value) if hasattr(named, "value") else asked.parameters.get(named.name)
        if not isinstance(uri, str) or not uri:
            raise StepFailed(f"task {asked.name} failed: the URI to import is {uri!r}", hint="give a path or a URI")
        name, output = next(iter(asked.component.artifact_outputs.items()), ("artifact", None))
        schema = importer.schema or (output.schema if output is not None else {})
        made = self.cache.keeping.imported(name, uri, schema, plain(filling.value(importer.metadata)))
        path = self.cache.keeping.local(made)
        if path is not None and not path.exists():
            raise DataError(f"task {asked.name} failed: {uri}: no such file or folder", hint="correct the URI")
        return Done("ran", artifacts={name: (made,)})

    def _perform(self, asked: Asked) -> Done:
        known = self.cache.find(asked.fingerprint) if self.is_cached(asked) else None
        known = known or self.cache.finished(asked.name, asked.fingerprint)
        return self._run(asked) if known is None else self._known(asked, known)

    def _identify(self, asked: Asked) -> None:
        container = asked.executor
        assert isinstance(container, Container)
        inputs: dict[str, str | list[str]] = {}
        for name, listed in asked.artifacts.items():
            takes = asked.component.artifact_inputs.get(name)
            identities = [one.identity for one in listed]
            single = (takes is None or not takes.is_list) and len(listed) == 1
            inputs[name] = identities[0] if single else identities
        places = self.cache.keeping.places
        libraries = self.libraries(container)
        asked.fingerprint = leaf_fingerprint(asked.component, container, asked.parameters, inputs, places, libraries)

    def _known(self, asked: Asked, known: Kept) -> Done:
        here = self.cache.folder.path.name
        if not self.is_cached(asked):
            self.cache.note(asked.fingerprint, replace(known, task=asked.name, run=here))
        reason = f"the same as {known.task}" if known.run == here else f"unchanged since {known.run}"
        return Done("cached", reason, dict(known.values), known.artifacts)

    def _run(self, asked: Asked) -> Done:
        container = asked.executor
        assert isinstance(container, Container)
        scratch = self.cache.folder.scratch(asked.name)
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        exchange = Exchange(asked, container, scratch, self.cache.keeping, self._rooted(asked))
        before = self.cache.keeping.look(one for listed in asked.artifacts.values() for one in listed)
        try:
            ended = self._ended(asked, container, exchange.request(self.schema_version), scratch)
        finally:
            spoiled = self.cache.keeping.spoiled(before)
        told = exchange.told()
        if ended.code != 0 or (told is None and exchange.is_ours):
            done = _failed(self._error(asked, ended))
            done.values = dict((told or {}).get("parameterValues") or {})
            return done
        if spoiled:
            raise self._changed(asked, spoiled)
        values, artifacts = exchange.values(told or {}), exchange.artifacts(told or {})
        kept = Kept(self.cache.folder.path.name, asked.name, values, artifacts)
        (self.cache.keep if self.is_cached(asked) else self.cache.note)(asked.fingerprint, kept)
        shutil.rmtree(scratch, ignore_errors=True)
        reason = "" if asked.attempt == 1 else f"attempt {asked.attempt}"
        return Done("ran", reason, values, artifacts)

    def _changed(self, asked: Asked, digests: list[str]) -> DataError:
        names = [name for name, listed in asked.artifacts.items() if any(one.digest in digests for one in listed)]
        return DataError(
            f"step {asked.name} failed: it changed its input {', '.join(names)}, which others are given as well",
            hint="let it write to a copy; what it changed is made again by the next run",
        )

    def _rooted(self, asked: Asked) -> str | None:
        """Give the folder that a task's artifacts stay in, emptied of what an attempt before this one left."""
        if self.root is None:
            return None
        job = re.sub(r"/|^\.+", "-", asked.facts["pipeline_job_name"])  # on Kubeflow any text is one
        uri = f"{self.root.rstrip('/')}/{job}/{asked.name}"
        folder = self.cache.keeping.places.local(uri)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        return uri

    def _ended(self, asked: Asked, container: Container, request: dict[str, Any], scratch: Path) -> Ended:
        filling = Filling(request, asked.facts)
        log = self.cache.folder.log(asked.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        if asked.attempt > 1:
            self.log(asked).say(f"-- attempt {asked.attempt}")
        leaf = Leaf(
            name=asked.name,
            image=filling.text(container.image),
            command=filling.words(container.command),
            args=filling.words(container.args),
            env={name: filling.text(value) for name, value in container.env.items()},
            request=request,
            log=log,
            scratch=scratch,
            timeout=self.timeout,
        )
        try:
            return self.workers.run(leaf)
        except StepFailed as error:
            raise StepFailed(f"step {asked.name} failed: {error.fact}", hint=error.hint or self.hint(asked)) from None

    def _error(self, asked: Asked, ended: Ended) -> TrilhoError:
        told = ended.error or {}
        kind = getattr(trilho.errors, str(told.get("kind", "")), None)
        fact, hint = str(told.get("fact", "")), told.get("hint")
        if isinstance(kind, type) and issubclass(kind, TrilhoError) and kind is not StepFailed and fact:
            return kind(fact, hint=hint or self.hint(asked))
        lines = ended.said.rstrip().splitlines()[-LINES:]
        last = lines[-1].strip() if ended.code == 1 and lines else ""
        repeated = last.startswith("step ") and " failed: " in last
        words = exit_words(ended.code) + ("" if ended.code else ", and it wrote no output")
        why = fact or (last.partition(" failed: ")[2] if repeated else f"{words}: {last}" if last else words)
        shown = lines[:-1] if repeated else lines
        return StepFailed("\n".join([f"step {asked.name} failed: {why}", *shown]), hint=hint or self.hint(asked))


def _failed(error: TrilhoError) -> Done:
    return Done("failed", error.fact.splitlines()[0], error=error)
