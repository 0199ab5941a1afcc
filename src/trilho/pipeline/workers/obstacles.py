"""What cannot run on this machine, found before anything runs: by task, all at once, with the reason.

Whatever only another machine has (an image's own program or files, a cluster's secrets and volumes, a cloud's
executors) is named here and never skipped in silence.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trilho.pipeline.ir.shapes import as_list, as_map
from trilho.pipeline.ir.spec import (
    ComponentInput,
    Constant,
    Container,
    Executor,
    Importer,
    IrError,
    Spec,
    Task,
    Unsupported,
)
from trilho.pipeline.places import Places
from trilho.pipeline.workers.command import Component, Plain, StepCommand, is_python, read_command
from trilho.pipeline.workers.interpreter import Interpreters
from trilho_runtime.describe import module_file

OURS = ("trilho", "trilho_runtime")
VOLUMES = ("secretAsVolume", "configMapAsVolume", "pvcMount", "genericEphemeralVolume", "emptyDirMounts")
VARIABLES = ("secretAsEnv", "configMapAsEnv")
GPU = (Path("/dev/nvidia0"), Path("/dev/kfd"))


@dataclass(frozen=True)
class Problem:
    """Why a task cannot run here, or (`fatal` false) what will be different from elsewhere."""

    task: str
    reason: str
    hint: str = ""
    fatal: bool = True


@dataclass(frozen=True)
class _Here:
    spec: Spec
    parameters: Mapping[str, Any]
    places: Places
    interpreters: Interpreters


Found = Iterator[tuple[str, str]]


def problems_of(spec: Spec, parameters: Mapping[str, Any], places: Places, interpreters: Interpreters) -> list[Problem]:
    """List what is in the way of a pipeline's tasks. Nothing of theirs is run or imported."""
    here = _Here(spec, parameters, places, interpreters)
    found: list[Problem] = []
    for name, task in spec.walk():
        executor = spec.executor(spec.component(task))
        if executor is None:
            continue
        found += [Problem(name, *said) for said in _in_the_way(here, name, task, executor)]
        if isinstance(executor, Container):
            found += [Problem(name, *said, fatal=False) for said in _other_hardware(executor)]
    return found


def _in_the_way(here: _Here, name: str, task: Task, executor: Executor) -> Found:
    if isinstance(executor, Importer):
        yield from _importer(here, name, task, executor)
    elif isinstance(executor, Unsupported):
        yield f"an executor of kind {executor.kind} runs on Vertex AI only", "submit the pipeline instead of running it"
    else:
        yield from _container(here, executor)
        yield from _cluster(here, here.spec.component(task).executor or "")


def _importer(here: _Here, name: str, task: Task, importer: Importer) -> Found:
    uri = _known_uri(here, name, task, importer)
    if uri is None or "{{$" in uri:
        return
    place = here.places.local(uri)
    if place is None:
        mount = f'{{"{uri.partition("://")[0]}://": "FOLDER/"}}'
        yield f"the URI {uri} cannot be reached from here", f"give a local path, or map it: TRILHO_MOUNTS='{mount}'"
    elif not task.needs and not place.exists():
        yield f"{place}, which it imports, does not exist", "correct the URI"


def _known_uri(here: _Here, name: str, task: Task, importer: Importer) -> str | None:
    """Give a URI that is known before anything runs."""
    uri: Any = importer.uri
    if isinstance(uri, ComponentInput):
        given = task.parameters.get(uri.name)
        uri = given.source if given is not None else None
    if isinstance(uri, ComponentInput) and "/" not in name:
        uri = Constant(here.parameters.get(uri.name))
    return uri.value if isinstance(uri, Constant) and isinstance(uri.value, str) else None


def _container(here: _Here, container: Container) -> Found:
    words = [*container.command, *container.args]
    if container.hook:
        yield "it runs a command before the cache is asked (preCacheCheck), which is not done here", ""
    if not container.command:
        yield (
            f"it runs what the image {container.image} starts by itself, and images are not run here",
            "give the component a command that exists here",
        )
        return
    command = read_command(words)
    if isinstance(command, StepCommand):
        yield from _step(here, container, command)
    elif isinstance(command, Component):
        yield from _component(here, container, command)
    else:
        yield from _plain(here, container, command)


def _step(here: _Here, container: Container, command: StepCommand) -> Found:
    module = command.reference.partition(":")[0]
    place = here.places.of(container.image) or here.places.own
    if module.partition(".")[0] in OURS or "{{$" in module:
        return
    folders = [Path(folder) for folder in (*command.path, place.source) if folder is not None]
    if any(module_file(folder, module) for folder in folders) or here.interpreters.has(place.python, module):
        return
    where = ", ".join(map(str, folders)) or "no source folder is known here, and it"
    yield (
        f"its code, {command.reference}, is not here: {where} has no module {module}",
        "run it in its project (-C DIR)",
    )


def _component(here: _Here, container: Container, command: Component) -> Found:
    installs = command.installs and here.places.install
    in_image = command.words[1:3] == ("-m", command.module) and "--component_module_path" not in command.words
    if in_image and here.places.of(container.image) is None:
        yield (
            f"its code is in the image {container.image}, and images are not run here",
            "use a lightweight component",
        )
        return
    if not installs and not any(here.interpreters.has(p, _needed(command)) for p in _candidates(here, container)):
        tried = ", ".join(map(str, _candidates(here, container)))
        hint = "run it without --no-install" if command.installs else "install kfp into the project's environment"
        yield f"it needs {_needed(command)}, which none of {tried} has", hint


def _needed(command: Component) -> str:
    return command.module or "kfp"


def _candidates(here: _Here, container: Container) -> list[Path]:
    return here.interpreters.candidates(container.image)


def _plain(here: _Here, container: Container, command: Plain) -> Found:
    first = command.words[0]
    if "{{$" in first:
        return
    if command.installs and not here.places.install:
        yield "its command installs packages in a way that cannot be told from the rest", "run it without --no-install"
    place = here.places.of(container.image)
    path = here.interpreters.search_path(
        place.python if place is not None else None,
        container.env.get("PATH") or here.places.environment.get("PATH") or os.environ.get("PATH", os.defpath),
    )
    program = str(here.places.folder / first) if "/" in first else shutil.which(first, path=path)
    if program is None or not os.access(program, os.X_OK):
        image = f" (image {container.image})" if container.image else ""
        yield f"its command {first}{image} does not exist here", f"install {first}, or submit the pipeline"
    elif is_python(first):
        yield from _python(here, Path(program), command.words[1:])


def _python(here: _Here, python: Path, words: tuple[str, ...]) -> Found:
    if words[:1] == ("-m",) and len(words) > 1 and "{{$" not in words[1]:
        folder = here.places.folder
        if module_file(folder, words[1]) is None and not here.interpreters.has(python, words[1]):
            yield f"{python} has no module {words[1]}", "install it there, or name another interpreter (--python)"
    elif words and words[0].endswith(".py") and "{{$" not in words[0] and not (here.places.folder / words[0]).exists():
        yield (
            f"its program {words[0]} does not exist here",
            "it may be a file of the image, and images are not run here",
        )


def _cluster(here: _Here, label: str) -> Found:
    """Say what of a cluster's settings changes what runs, unless this machine has the same."""
    settings: Any = here.spec.platform
    for key in ("platforms", "kubernetes", "deploymentSpec", "executors", label):
        settings = settings.get(key) if isinstance(settings, Mapping) else None
    if not isinstance(settings, Mapping):
        return
    for kind in VOLUMES:
        for volume in _entries(settings, kind):
            folder = str(volume.get("mountPath", ""))
            if not volume.get("optional") and not Path(folder).exists():
                yield f"it reads a cluster's volume at {folder} ({kind}), which does not exist here", f"make {folder}"
    for kind in VARIABLES:
        for given in _entries(settings, kind):
            wanted = [str(one.get("envVar")) for one in _entries(given, "keyToEnv")]
            missing = [name for name in wanted if name not in os.environ and name not in here.places.environment]
            if missing and not given.get("optional"):
                names = ", ".join(missing)
                yield f"it is given {names} by the cluster ({kind}), and that is not set here", f"export {names}"
    fields = [str(one.get("name")) for one in _entries(settings, "fieldPathAsEnv")]
    missing = [name for name in fields if name not in os.environ and name not in here.places.environment]
    if missing:
        yield (
            f"it is given {', '.join(missing)} by the cluster, and that is not set here",
            f"export {', '.join(missing)}",
        )


def _entries(settings: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    where = f"the second document: {key}"
    try:
        return [as_map(one, where) for one in as_list(settings.get(key, []), where)]
    except IrError as error:
        raise IrError(error.fact, hint="correct the document after ---") from None


def _other_hardware(container: Container) -> Found:
    wanted: Mapping[str, Any] = container.resources.get("accelerator") or {}
    kind = str(wanted.get("type") or wanted.get("resourceType") or "")
    if kind and not any(device.exists() for device in GPU):
        yield f"it asks for {kind}, and there is none here: it runs without", ""
