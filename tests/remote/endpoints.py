"""Endpoints of Vertex AI for tests: each test has a model of its own, and its endpoints end with it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trilho.backends.gcp.cloud import Cloud
    from trilho.backends.gcp.endpoint import VertexEndpoint

IMAGE = "trilho.local/tiny"
ACCOUNT = "server@shop.iam.gserviceaccount.com"
NUMBERS = itertools.count(1)


@dataclass
class Vertexes:
    """Makes endpoints."""

    cloud: Cloud
    folder: Path
    said: list[str] = field(default_factory=list)
    made: set[str] = field(default_factory=set)

    def new_model(self) -> str:
        """Name a model that nobody else has."""
        name = f"tiny-{next(NUMBERS)}"
        self.made.add(name)
        return name

    def endpoint(self, model: str, **more: Any) -> VertexEndpoint:
        """Give a model's endpoint, as another process sees it."""
        from trilho.backends.gcp.endpoint import VertexEndpoint
        from trilho.backends.gcp.objects import GcsFiles
        from trilho.backends.gcp.operations import Operations
        from trilho.backends.gcp.store import GcsStore
        from trilho.backends.local.store import LocalStore

        account = more.pop("account", ACCOUNT)
        cloud = replace(self.cloud, service_account=account, say=self.said.append, **more.pop("cloud", {}))
        store = GcsStore(GcsFiles(cloud), f"gs://{cloud.bucket}/store", LocalStore(self.folder / "near"))
        operations = Operations(cloud, self.folder / "operations.json", look_seconds=0.05)
        return VertexEndpoint(cloud, store, **{"model": model, "image": IMAGE, "operations": operations, **more})

    def close(self) -> None:
        """Take everything away again, as fast as the service allows."""
        for model in self.made:
            endpoint = self.endpoint(model).deployments
            if (held := endpoint.found()) is not None:
                *idle, last = [one.id for one in held.deployed_models] or [""]
                if idle:
                    endpoint.share({last: 100}, None, "closing")
                for id_ in [*idle, *filter(None, [last])]:
                    endpoint.undeploy(id_, "closing")
