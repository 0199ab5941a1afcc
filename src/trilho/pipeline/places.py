"""What stands for an image on this machine: an interpreter, the code beside it, and where URIs lie."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MOUNTS_VARIABLE = "TRILHO_MOUNTS"


@dataclass(frozen=True)
class Place:
    """An interpreter that stands for an image, and the source folder that is in it."""

    python: Path
    source: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where the steps of a run are executed.

    `python` and `source` are the project's; they run every trilho step whose image has no place of its own. `images`
    maps the beginning of an image's name to what stands for it here; "" stands for all of them. `environment` is added
    to what every step finds in its environment.
    """

    python: Path
    """The project's interpreter."""
    source: Path | None
    """The folder that the project's modules are imported from."""
    folder: Path
    """The folder that steps of the project start in."""
    platform: Path
    """The interpreter that runs trilho itself."""
    images: Mapping[str, Place] = field(default_factory=dict)
    install: bool = True
    """Whether the pip preamble of KFP components is honoured; else it is skipped."""
    environments: Path | None = None
    """Where what KFP components ask pip for is kept; by default the home of the run."""
    environment: Mapping[str, str] = field(default_factory=dict)
    direct: bool = True
    """Whether trilho's own steps run in a warm interpreter; else by the pipeline's command, as in a container."""

    def of(self, image: str) -> Place | None:
        """Give what stands for an image: the longest beginning that was named.

        >>> here = Places(python=Path("p"), source=None, folder=Path(), platform=Path("q"),
        ...               images={"eu/shop": Place(Path("shop")), "eu/": Place(Path("eu"))})
        >>> here.of("eu/shop@sha256:12").python.name, here.of("us/shop")
        ('shop', None)
        """
        found = [name for name in self.images if image.startswith(name)]
        return self.images[max(found, key=len)] if found else None

    @property
    def own(self) -> Place:
        """The project's interpreter and source, as a place."""
        return Place(self.python, self.source)

    @property
    def mounts(self) -> dict[str, str]:
        """Which folder each kind of URI lies under, as {"gs://": "/dir/"}."""
        given = self.environment.get(MOUNTS_VARIABLE) or os.environ.get(MOUNTS_VARIABLE)
        found: dict[str, str] = json.loads(given) if given else {}
        return {"file://": "/", **found}

    def local(self, uri: str) -> Path | None:
        """Give where a URI lies on this machine; None where nothing here stands for it.

        >>> here = Places(python=Path("p"), source=None, folder=Path("/srv"), platform=Path("q"),
        ...               environment={"TRILHO_MOUNTS": '{"gs://": "/buckets/"}'})
        >>> [str(here.local(uri)) for uri in ("gs://b/x", "file:///data/x", "data/x", "s3://b/x")]
        ['/buckets/b/x', '/data/x', '/srv/data/x', 'None']
        """
        for scheme, folder in self.mounts.items():
            if uri.startswith(scheme):
                return Path(folder, uri[len(scheme) :].lstrip("/"))
        return None if "://" in uri else self.folder / uri
