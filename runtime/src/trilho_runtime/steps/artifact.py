"""Artifacts: what passes between steps as a file or a folder, of which kind, and where it lies on this machine."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import TypeVar

    K = TypeVar("K", default=Any)
    L = TypeVar("L", default=Any)
else:
    from typing import TypeVar

    K = TypeVar("K")

MOUNTS = {"gs://": "/gcs/", "s3://": "/s3/", "minio://": "/minio/", "file://": "/"}
MOUNTS_VARIABLE = "TRILHO_MOUNTS"
SCHEMAS = {"table": "system.Dataset", "model": "system.Model", "metrics": "system.Metrics", "file": "system.Artifact"}


class Table:
    """The kind of an artifact that holds rows."""


class Model:
    """The kind of an artifact that is a fitted model."""


class Metrics:
    """The kind of an artifact that says how good something is; its numbers are its metadata."""


class File:
    """The kind of any other artifact: it goes with every kind."""


KINDS: dict[Any, str] = {Table: "table", Model: "model", Metrics: "metrics", File: "file"}


@dataclass
class Artifact:
    """A file or folder that passes between steps; what a step puts into `metadata` travels with it."""

    name: str
    uri: str
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """Give where the artifact lies on this machine.

        >>> Artifact("model", "gs://bucket/model.pkl").path.as_posix()
        '/gcs/bucket/model.pkl'
        """
        return local_path(self.uri)


class In(Artifact, Generic[K]):
    """An artifact that a step reads: `In[Table]`, or `In[list[Model]]` for all that a loop made."""

    if TYPE_CHECKING:  # a step whose argument is In[list[Model]] is given a list of In

        def __iter__(self: In[list[L]]) -> Iterator[In[L]]: ...

        def __len__(self: In[list[L]]) -> int: ...


class Out(Artifact, Generic[K]):
    """An artifact that a step writes: `Out[Model]`."""


def local_path(uri: str) -> Path:
    """Give where a URI lies on this machine, as $TRILHO_MOUNTS ({"gs://": "/folder/"}) or else the services mount it.

    >>> local_path("file:///data/rows.csv").as_posix()
    '/data/rows.csv'
    """
    for scheme, mount in mounts().items():
        if uri.startswith(scheme):
            return Path(mount, uri[len(scheme) :].lstrip("/"))
    return Path(uri)


def mounts() -> dict[str, str]:
    """Say which folder each kind of URI lies under."""
    given = os.environ.get(MOUNTS_VARIABLE)
    if not given:
        return MOUNTS
    try:
        return {**MOUNTS, **json.loads(given)}
    except (ValueError, TypeError):
        raise ValueError(
            f'{MOUNTS_VARIABLE} is {given!r}; a JSON object as {{"gs://": "/folder/"}} is wanted'
        ) from None
