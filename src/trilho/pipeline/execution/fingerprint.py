"""What makes a task's result, for any container of a pipeline; trilho's own steps count as they do everywhere.

A step of ours counts by its function, as far as that reaches. Of anybody else's container the command, its texts and
the files that they name count: what else an image holds is its digest's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trilho_runtime.steps.digest import digest_file, digest_json
from trilho_runtime.steps.fingerprint import SCHEMA, step_fingerprint

if TYPE_CHECKING:
    from trilho.pipeline.ir.spec import Component, Container
    from trilho.pipeline.places import Places

__all__ = ["leaf_fingerprint", "step_of"]

STEP = ("-m", "trilho_runtime.step")


def step_of(container: Container) -> str | None:
    """Give the function that a container of ours runs, as "module:function"; None for anybody else's.

    >>> from trilho.pipeline.ir.spec import Container
    >>> step_of(Container("img", ("python", "-m", "trilho_runtime.step", "shop.steps:fit")))
    'shop.steps:fit'
    """
    words = [*container.command, *container.args]
    return words[3] if len(words) > 3 and tuple(words[1:3]) == STEP and not words[3].startswith("-") else None


def leaf_fingerprint(
    component: Component,
    container: Container,
    parameters: Mapping[str, Any],
    inputs: Mapping[str, str | Sequence[str]],
    places: Places,
    libraries: str,
) -> str:
    """Give the digest of all that a container's result depends on.

    The container's texts are those of the pipeline, with their placeholders: what they stand for is counted as
    parameters and inputs, and paths that differ from run to run are not.
    """
    reference = step_of(container)
    if reference is None:
        return _container_fingerprint(component, container, parameters, inputs, places, libraries)
    place = places.of(container.image) or places.own
    version = container.env.get("TRILHO_VERSION", "")
    return step_fingerprint(
        reference,
        parameters,
        inputs,
        component.artifact_outputs,
        code=_listed(container, "TRILHO_CODE"),
        uncounted=_listed(container, "TRILHO_UNCOUNTED"),
        source=place.source,
        libraries="" if version else libraries,
        version=version,
    )


def _listed(container: Container, name: str) -> tuple[str, ...]:
    return tuple(filter(None, container.env.get(name, "").split(",")))


def _container_fingerprint(
    component: Component,
    container: Container,
    parameters: Mapping[str, Any],
    inputs: Mapping[str, str | Sequence[str]],
    places: Places,
    libraries: str,
) -> str:
    words = [*container.command, *container.args]
    return digest_json(
        {
            "schema": SCHEMA,
            "image": container.image,
            "command": list(container.command),
            "args": list(container.args),
            "env": dict(container.env),
            "files": {word: digest_file(file) for word in words if (file := _named(word, places.folder)) is not None},
            "parameters": dict(parameters),
            "inputs": {name: [x] if isinstance(x, str) else list(x) for name, x in inputs.items()},
            "outputs": [sorted(component.outputs), sorted(component.artifact_outputs)],
            "libraries": libraries,
        }
    )


def _named(word: str, folder: Path) -> Path | None:
    """Give the file that a word of a command names, if it is one."""
    if not word or "\n" in word or "\0" in word:
        return None
    try:
        return folder / word if (folder / word).is_file() else None
    except OSError:  # too long for a name
        return None
