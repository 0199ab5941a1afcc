"""An emulated Vertex AI with storage, and the real SDK pointed at it over TLS."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PROJECT, LOCATION = "shop", "southamerica-east1"
PARENT = f"projects/{PROJECT}/locations/{LOCATION}"


def anonymous() -> Any:
    """Give the credentials of somebody without any."""
    from google.auth import credentials

    return credentials.AnonymousCredentials()  # type: ignore[no-untyped-call]


@dataclass
class Emulated:
    """An emulator that runs: its parts, its folder, its address."""

    vertex: Any
    rules: Any
    operations: Any
    root: Path
    address: str
    tasks: list[tuple[str, str, str]]
    parent: str = PARENT

    def file(self, uri: str) -> Path:
        """Give where a gs:// URI lies."""
        return self.root / "buckets" / uri.removeprefix("gs://")

    def put(self, uri: str, content: str) -> str:
        """Write an object, as a client that uploads would."""
        self.file(uri).parent.mkdir(parents=True, exist_ok=True)
        self.file(uri).write_text(content)
        return uri

    def client(self, name: str) -> Any:
        """Give a generated client, such as PipelineServiceClient, over TLS."""
        from google.cloud import aiplatform_v1

        made: Any = getattr(aiplatform_v1, name)
        return made(credentials=anonymous(), client_options={"api_endpoint": self.address})

    def init(self, **more: Any) -> Any:
        """Point the SDK here, and give it."""
        from google.cloud import aiplatform

        aiplatform.init(
            project=PROJECT,
            location=LOCATION,
            credentials=anonymous(),
            api_endpoint=self.address,
            staging_bucket="gs://staging",
            **more,
        )
        return aiplatform


def make_bucket(name: str, address: str) -> None:
    """Make a bucket; for one that is missing the SDK would ask the resource manager, which is not emulated."""
    import google.cloud.storage as storage

    client = storage.Client(PROJECT, anonymous(), client_options={"api_endpoint": address})
    client.create_bucket(name)
    client.close()


@pytest.fixture(scope="session")
def identity(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """A server's key and certificate; gRPC reads the roots that it trusts once in a process."""
    pytest.importorskip("google.cloud.aiplatform_v1")
    from trilho.testing.emulator.credentials import make_credentials

    trusted = os.environ.get("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH")  # by tests that ran before: no shell's is inherited
    folder = Path(trusted).parent if trusted else tmp_path_factory.mktemp("tls")
    made = make_credentials(folder, project=PROJECT, token_uri="http://127.0.0.1:9/token")
    os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = str(made.authority)
    return made.identity


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory, identity: tuple[bytes, bytes]) -> Iterator[Emulated]:
    """An emulator for the tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        yield from start(tmp_path_factory.mktemp("emulator"), identity, patch.setenv)


def start(root: Path, identity: tuple[bytes, bytes], setenv: Callable[[str, str], None]) -> Iterator[Emulated]:
    from trilho.backends.local.store import LocalStore
    from trilho.pipeline.places import Place, Places
    from trilho.testing.emulator.http import Router, Server
    from trilho.testing.emulator.proxy import Proxy
    from trilho.testing.emulator.resources import Resources
    from trilho.testing.emulator.rpc import RpcServer
    from trilho.testing.emulator.rules import Rules
    from trilho.testing.emulator.storage import StorageService
    from trilho.testing.emulator.vertex import Vertex

    rules, python = Rules(), Path(sys.executable)
    storage = StorageService(root, rules, project=PROJECT, location=LOCATION)
    http = Server(Router(storage.routes, rules))
    mounts = f'{{"gs://": "{root / "buckets"}/"}}'
    places = Places(
        python=python,
        source=None,
        folder=root,
        platform=python,
        images={"": Place(python)},
        install=False,
        environment={"TRILHO_MOUNTS": mounts, "TRILHO_PLATFORM_PYTHON": sys.executable},
    )
    server, tasks = RpcServer(Resources(), rules, identity=identity), list[tuple[str, str, str]]()
    logs = type("Logs", (), {"append": lambda _, job, task, line: tasks.append((job, task, line))})()
    vertex = Vertex(
        server,
        places=lambda: places,
        folder=root,
        store=LocalStore(root / "store"),
        local=places.local,
        logs=logs,
    )
    http.start()
    server.start()
    vertex.start()
    proxy = Proxy(server.port)
    proxy.start()
    for name, value in proxy.environment.items():
        setenv(name, value)
    setenv("STORAGE_EMULATOR_HOST", http.address)
    setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
    make_bucket("staging", http.address)
    yield Emulated(vertex, rules, server.operations, root, f"localhost:{server.port}", tasks)
    vertex.close()
    server.stop()
    proxy.stop()
    http.stop()
    storage.close()
