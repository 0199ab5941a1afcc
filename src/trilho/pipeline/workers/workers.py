"""Runs one leaf of a pipeline on this machine, wherever it belongs.

A step of trilho's runs in a warm interpreter: the project's, or the platform's for steps of `trilho` itself. A
component of the KFP SDK runs in an environment that has what it asks pip for. Anything else is a command like any
other, with what stands for its image here first in PATH. All are killed with this process, however it ends; what calls
setsid(2) is out of reach.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from trilho.errors import StepFailed
from trilho.pipeline.ir.spec import Spec
from trilho.pipeline.places import Places
from trilho.pipeline.workers.command import Component, Plain, StepCommand, ephemeral, is_python, read_command
from trilho.pipeline.workers.environment import Environments, satisfies
from trilho.pipeline.workers.interpreter import Interpreters
from trilho.pipeline.workers.keeper import Ended, Keeper, step_environment
from trilho.pipeline.workers.obstacles import Problem, problems_of

__all__ = ["Ended", "Leaf", "Problem", "Workers"]

PLATFORM_STEPS = ("trilho.train.steps",)
EXECUTOR_INPUT = "--executor-input"
LONGEST = 32 * 4096 - 1  # bytes of one argument: Linux's MAX_ARG_STRLEN
FROM_FILE = (
    "import json,runpy,sys; module = sys.argv[1]; sys.argv[1:] = json.load(open(sys.argv[2])); "
    "runpy.run_module(module, run_name='__main__', alter_sys=True)"
)
OURS = ("trilho", "trilho_runtime")


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """One execution of a container: every placeholder is filled in."""

    name: str
    """The task's name, for messages."""
    image: str
    command: Sequence[str]
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    request: Mapping[str, Any]
    """The executor input."""
    log: Path
    """The file that its output is added to, bounded; the folder is made."""
    scratch: Path
    """An existing folder of its own; it is the caller's to remove."""
    timeout: float | None = None
    """Seconds from its start, not from the installation of what it needs."""


class Workers:
    """Everything that runs steps for one run or for several; threads may share it. Nothing starts before it is needed.

    run() raises StepFailed on a timeout, when an interpreter does not start or ends by itself, when an environment
    can't be made; whatever a step itself does comes back as Ended. `say` is told what takes long.
    """

    def __init__(
        self, places: Places, home: Path, *, fork: bool = True, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self._places, self._fork, self._say = places, fork, say
        self._lock = threading.Lock()
        self._keepers: dict[tuple[Path, Path | None], Keeper] = {}
        self._commands = Keeper(places.platform, folder=places.folder, preload=())
        kept = places.environments or home
        self._environments = Environments(kept, self._commands.run_command, places.folder, places.environment)
        self._interpreters = Interpreters(places, home)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check(self, spec: Spec, parameters: Mapping[str, Any]) -> list[Problem]:
        """List, by task name and all at once, what cannot run here, and say what will be different here.

        Runs nothing of the pipeline's.
        """
        found = problems_of(spec, parameters, self._places, self._interpreters)
        for problem in found:
            if not problem.fatal:
                self._say(f"task {problem.task}: {problem.reason}")
        return found

    def run(self, leaf: Leaf) -> Ended:
        """Run one leaf to its end."""
        command = read_command([*leaf.command, *leaf.args])
        seconds = command.timeout if isinstance(command, StepCommand) else None
        limits = [limit for limit in (leaf.timeout, seconds) if limit is not None]
        timeout = timedelta(seconds=min(limits)) if limits else None
        if isinstance(command, StepCommand):
            ours = self._places.direct and command.known and all(name.startswith("TRILHO_") for name in leaf.env)
            ended = self._run_warm(leaf, command, timeout) if ours else self._run_step(leaf, command, timeout)
        elif isinstance(command, Component):
            ended = self._run_component(leaf, command, timeout)
        else:
            ended = self._run_plain(leaf, command, timeout)
        return ended._replace(error=_error_of(leaf.request))

    def stop_all(self) -> None:
        """Kill what is running now; the next run() works again."""
        self._environments.stop()
        for keeper in self._all():
            keeper.stop_all()

    def close(self) -> None:
        """Stop everything; what is asked for later starts anew."""
        self._environments.stop()
        for keeper in self._all():
            keeper.close()

    def _all(self) -> list[Keeper]:
        with self._lock:
            return [*self._keepers.values(), self._commands]

    def _run_warm(self, leaf: Leaf, command: StepCommand, timeout: timedelta | None) -> Ended:
        place = self._places.of(leaf.image) or self._places.own
        package = command.reference.partition(":")[0].partition(".")[0]
        on_platform = package == "trilho"
        path = list(command.path)
        if place.source is not None and not (package in OURS and not leaf.env.get("TRILHO_CODE")):
            path.append(str(place.source))
        keeper = self._keeper(self._places.platform, None) if on_platform else self._keeper(place.python, place.source)
        return keeper.run(
            command.reference, leaf.request, path=path, log=leaf.log, timeout=timeout, environment=leaf.env
        )

    def _keeper(self, python: Path, source: Path | None) -> Keeper:
        on_platform = source is None and python == self._places.platform
        with self._lock:
            if (python, source) not in self._keepers:
                self._keepers[python, source] = Keeper(
                    python,
                    source,
                    self._places.folder,
                    fork=self._fork,
                    preload=PLATFORM_STEPS if on_platform else None,
                    environment=self._places.environment,
                )
            return self._keepers[python, source]

    def _run_step(self, leaf: Leaf, command: StepCommand, timeout: timedelta | None) -> Ended:
        """Run a step of trilho's by the command in the pipeline, as in its container."""
        place = self._places.of(leaf.image) or self._places.own
        facts = {"TRILHO_PLATFORM_PYTHON": str(self._places.platform)}
        if place.source is not None:
            facts["TRILHO_SOURCE"] = str(place.source)
        environment = self._environment(leaf, step_environment(facts), place.python)
        words = [str(place.python), *leaf.command[1:], *leaf.args]
        if _is_long(words) and EXECUTOR_INPUT in words[:-1]:
            request = leaf.scratch / "executor_input.json"
            request.write_text(json.dumps(leaf.request), encoding="utf-8")
            words[words.index(EXECUTOR_INPUT) + 1] = str(request)
        return self._run_words(leaf, words, environment, self._places.folder, timeout)

    def _run_component(self, leaf: Leaf, command: Component, timeout: timedelta | None) -> Ended:
        if command.installs and self._places.install:
            python = self._installed(command, leaf.image, self._say, leaf.log)
        else:
            python = self._interpreters.with_module(command.module or "kfp", leaf.image)
        environment = self._environment(leaf, self._interpreters.clean(), python)
        words, function = command.words, ephemeral(command.words)
        if function is not None and python is not None and _is_long(words):
            words = _from_files(leaf, python, *function)
            environment["_KFP_RUNTIME"] = "true"
        return self._run_words(leaf, words, environment, _folder(leaf), timeout)

    def _run_plain(self, leaf: Leaf, command: Plain, timeout: timedelta | None) -> Ended:
        place = self._places.of(leaf.image)
        python = place.python if place is not None else None
        if command.installs:
            bases = [python or self._places.python, self._places.platform]
            python = self._environments.make_empty(leaf.scratch / "environment", bases, leaf.log)
        environment = self._environment(leaf, {**os.environ, "PIP_REQUIRE_VIRTUALENV": "1"}, python)
        words = list(command.words)
        if is_python(words[0]) and "/" not in words[0] and python is not None:
            words[0] = str(python)
        here = place is not None or any(_names_file(word, self._places.folder) for word in words)
        return self._run_words(leaf, words, environment, self._places.folder if here else _folder(leaf), timeout)

    def _run_words(
        self, leaf: Leaf, words: Sequence[str], environment: dict[str, str], folder: Path, timeout: timedelta | None
    ) -> Ended:
        if _is_long(words):
            size = max(len(word.encode()) for word in words)
            raise StepFailed(
                f"a word of its command has {size} bytes, and the system allows {LONGEST}",
                hint="hand it over as an artifact instead",
            )
        return self._commands.run_command(words, environment=environment, folder=folder, log=leaf.log, timeout=timeout)

    def _environment(self, leaf: Leaf, base: Mapping[str, str], python: Path | None) -> dict[str, str]:
        found = {**base, "PYTHONUNBUFFERED": "1", **self._places.environment, **leaf.env}
        found["PATH"] = self._interpreters.search_path(python, found.get("PATH", os.defpath))
        if python is not None and (python.parents[1] / "pyvenv.cfg").exists():
            found["VIRTUAL_ENV"] = str(python.parents[1])
        return found

    def _installed(self, command: Component, image: str, say: Callable[[str], None], log: Path | None) -> Path:
        """Give an interpreter with what a component asks pip for; where pip cannot, one that has it all already."""
        place = self._places.of(image)
        bases = [place.python if place is not None else self._places.python, self._places.platform]
        beside = place.python if place is not None else None
        try:
            return self._environments.make(command.installs, bases, beside=beside, say=say)
        except StepFailed as error:
            attempt = (log or Path(os.devnull)).with_suffix(".look")
            for python in self._interpreters.candidates(image):
                if satisfies(python, command.installs, self._commands.run_command, self._places.folder, attempt):
                    say(f"{error.fact.partition(':')[0]}; {python} has it already")
                    return python
            raise


def _is_long(words: Sequence[str]) -> bool:
    return any(len(word) * 4 > LONGEST and len(word.encode()) > LONGEST for word in words)


def _from_files(leaf: Leaf, python: Path, module: str, source: str, arguments: Sequence[str]) -> tuple[str, ...]:
    """Give the words that run a component's function with its source and arguments from files of any size."""
    code, given = _folder(leaf) / "ephemeral_component.py", leaf.scratch / "arguments.json"
    code.write_text(source, encoding="utf-8")
    given.write_text(json.dumps(["--component_module_path", str(code), *arguments]), encoding="utf-8")
    return (str(python), "-c", FROM_FILE, module, str(given))


def _error_of(request: Mapping[str, Any]) -> dict[str, Any] | None:
    output = request.get("outputs", {}).get("outputFile")
    try:
        found = json.loads(Path(f"{output}.error.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _folder(leaf: Leaf) -> Path:
    folder = leaf.scratch / "folder"
    folder.mkdir(exist_ok=True)
    return folder


def _names_file(word: str, folder: Path) -> bool:
    try:
        return bool(word) and not word.startswith("/") and (folder / word).is_file()
    except (OSError, ValueError):  # too long for a name, or no name at all
        return False
