"""All services of the emulator, started and stopped together, and the environment that makes clients find them."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING

from trilho.core.ports import ArtifactStore
from trilho.errors import UsageError
from trilho.pipeline.places import MOUNTS_VARIABLE, Places
from trilho.testing.emulator.rules import Rules

if TYPE_CHECKING:
    from trilho.testing.emulator.rpc import RpcServer

PROJECT = "trilho-emulated"
LOCATION = "southamerica-east1"
PORTS = 3  # Vertex AI's, the REST services', Pub/Sub's
LIBRARIES = {
    "cryptography": "cryptography", "sqlglot": "sqlglot", "grpc": "grpcio",
    "google.cloud.aiplatform_v1": "google-cloud-aiplatform",
    "google.cloud.secretmanager_v1": "google-cloud-secret-manager",
    "google_crc32c": "google-crc32c",
}  # fmt: skip


def require_libraries() -> None:
    """Raise UsageError where a library that the emulator needs is not installed."""
    missing = [name for module, name in LIBRARIES.items() if not _is_installed(module)]
    if missing:
        raise UsageError(f"trilho emulate needs {', '.join(missing)}", hint='pip install "trilho[emulate]"')


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is not installed either
        return False


class Emulator:
    """Vertex AI, Storage, BigQuery, Secret Manager, Logging, Kubeflow Pipelines; Pub/Sub where Google's emulator is.

    All state is below `root`; an emulator that is started there again finds buckets, tables and secrets as they were.
    Pipeline jobs and containers run with the interpreters of `places`. With `port` the services take that one and those
    after it, otherwise free ones.
    """

    def __init__(
        self,
        root: Path,
        *,
        places: Places,
        store: ArtifactStore,
        project: str = PROJECT,
        location: str = LOCATION,
        rules: Rules | None = None,
        port: int = 0,
        pubsub: bool = True,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        require_libraries()
        self.root, self.project, self.location = root.resolve(), project, location
        self.rules = rules or Rules()
        self._given, self._store, self._port, self._pubsub, self._say = places, store, port, pubsub, say
        self._closing = ExitStack()
        self.environment: dict[str, str] = {}
        self.aiplatform = ""

    def __enter__(self) -> Emulator:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> dict[str, str]:
        """Serve from now on; give the environment for the clients. Raises UsageError when a port or `root` is taken."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self.environment

    def stop(self) -> None:
        """Stop jobs, containers and services, and wait until nothing of them is left.

        What cannot be stopped does not keep the rest going; its error is raised in the end.
        """
        self._closing.pop_all().close()

    @property
    def places(self) -> Places:
        """Where steps and containers run: as they were given, with gs:// mounted and the emulator's environment."""
        mounts = {"gs://": f"{self.root / 'buckets'}/"}
        own = {MOUNTS_VARIABLE: json.dumps(mounts), "TRILHO_PLATFORM_PYTHON": str(self._given.platform)}
        environment = {**self._given.environment, **self.environment, **own}
        kept = self._given.environments or self.root  # shared by all projects and regions
        return replace(self._given, environment=environment, environments=kept)

    def _start(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        lock = _lock(self.root)
        self._closing.callback(lock.close)
        for number in range(PORTS if self._port else 0):
            _require_free(self._port + number)
        pubsub = self._start_pubsub()
        self._start_rest()
        self._start_rpc()
        self._add_kubeflow()
        if pubsub is not None:
            pubsub()
        self._make_buckets()

    def _port_after(self, number: int) -> int:
        return self._port + number if self._port else 0

    def _start_rest(self) -> None:
        from trilho.testing.emulator.bigquery import BigQueryService
        from trilho.testing.emulator.credentials import make_credentials
        from trilho.testing.emulator.http import Router, Server
        from trilho.testing.emulator.logging import Logs
        from trilho.testing.emulator.storage import StorageService

        where = {"project": self.project, "location": self.location}
        self.storage = StorageService(self.root, self.rules, **where)
        self._closing.callback(self.storage.close)
        self.bigquery = BigQueryService(self.root, self.rules, self.storage.objects, **where)
        self._closing.callback(self.bigquery.close)
        self.logs = Logs(self.project)
        self._router = Router([*self.storage.routes, *self.bigquery.routes, *self.logs.routes()], self.rules)
        server = Server(self._router, self._port_after(1))
        self.credentials = make_credentials(
            self.root / "credentials", project=self.project, token_uri=f"{server.address}/token"
        )
        self._router.add(self.credentials.routes())
        server.start()
        self._closing.callback(server.stop)
        self.environment |= self._rest_environment(server.address)

    def _rest_environment(self, address: str) -> dict[str, str]:
        found = {
            "STORAGE_EMULATOR_HOST": address, "BIGQUERY_EMULATOR_HOST": address, "TRILHO_LOGGING": address,
            "GOOGLE_APPLICATION_CREDENTIALS": str(self.credentials.account), "GOOGLE_CLOUD_PROJECT": self.project,
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(self.credentials.authority),
            "REQUESTS_CA_BUNDLE": str(self.credentials.bundle()), "TRILHO_PROJECT": self.project,
            "TRILHO_REGION": self.location, "TRILHO_BUCKET": f"gs://{self.project}-trilho",
        }  # fmt: skip
        if any(os.environ.get(name) for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")):
            known = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
            found["NO_PROXY"] = found["no_proxy"] = ",".join([*filter(None, [known]), "localhost", "127.0.0.1"])
        return found

    def _start_rpc(self) -> None:
        from trilho.testing.emulator.resources import Resources
        from trilho.testing.emulator.rpc import RpcServer, transport_of
        from trilho.testing.emulator.secrets import PERMISSIONS, Secrets
        from trilho.testing.emulator.vertex import Vertex

        server = RpcServer(Resources(), self.rules, identity=self.credentials.identity)
        secrets = Secrets(self.root / "secrets" / "secrets.sqlite")
        self._closing.callback(secrets.close)
        transport = transport_of("secret_manager_service", "google.cloud.secretmanager_v1")
        server.add(transport, secrets.handlers(), permissions=PERMISSIONS)
        self.vertex = Vertex(
            server, places=lambda: self.places, folder=self.root / "vertex", store=self._store,
            local=lambda uri: self.places.local(uri), logs=self.logs,
        )  # fmt: skip
        server.start()
        self._closing.callback(server.stop)
        self._start_front(server)
        self.vertex.start()
        self._closing.callback(self.vertex.close)

    def _start_front(self, server: RpcServer) -> None:
        """Serve the same methods over REST, and both on one port."""
        from trilho.testing.emulator.front import Front
        from trilho.testing.emulator.http import Server
        from trilho.testing.emulator.rest import Rest

        rest = Server(Rest(server), identity=self.credentials.server)
        rest.start()
        self._closing.callback(rest.stop)
        front = Front(self._port_after(0), grpc=server.port, rest=rest.port)
        front.start()
        self._closing.callback(front.stop)
        self.aiplatform = f"localhost:{front.port}"
        self.environment["TRILHO_AIPLATFORM"] = self.aiplatform
        self._start_proxy(front.port)

    def _start_proxy(self, port: int) -> None:
        """Lead gRPC clients that nobody told an address here: Google's hosts are this server for them."""
        from trilho.testing.emulator.proxy import Proxy

        proxy = Proxy(port)
        proxy.start()
        self._closing.callback(proxy.stop)
        self.environment |= proxy.environment

    def _add_kubeflow(self) -> None:
        from trilho.testing.emulator.kubeflow import KubeflowService, executor

        self.environment["TRILHO_KUBEFLOW"] = self.environment["STORAGE_EMULATOR_HOST"]
        places = replace(self.places, direct=False)
        kubeflow = KubeflowService(executor(self.root / "kubeflow", self._store, places), self.rules)
        self._router.add(kubeflow.routes)
        self._closing.callback(kubeflow.close)

    def _start_pubsub(self) -> Callable[[], None] | None:
        """Start Google's emulator; give what waits until it answers, since it takes longest."""
        from trilho.testing.emulator.pubsub import PubSub, find_jar

        jar = find_jar() if self._pubsub else None
        if jar is None:
            if self._pubsub:
                self._say("Pub/Sub is not emulated: Google's own emulator is not installed "
                          "(gcloud components install pubsub-emulator).")  # fmt: skip
            return None
        child = PubSub(jar, self.root / "pubsub", self._port_after(2))
        child.start()
        self._closing.callback(child.stop)

        def ready() -> None:
            child.wait()
            self.environment["PUBSUB_EMULATOR_HOST"] = child.address

        return ready

    def _make_buckets(self) -> None:
        """Make the buckets that trilho and the SDK use where they are told no other."""
        for name in (f"{self.project}-trilho", f"{self.project}-vertex-staging-{self.location}"):
            if name not in (bucket["name"] for bucket in self.storage.objects.buckets(name)):
                self.storage.objects.create_bucket({"name": name})


def _lock(root: Path) -> IO[str]:
    """Hold the folder, so that two emulators never write one state."""
    file = (root / "emulator.lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise UsageError(
            f"another emulator has its state in {root}", hint="stop it, or give another --data DIR"
        ) from None
    return file


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            hint = "trilho emulate takes --port and the two after it; without --port it takes free ones"
            raise UsageError(f"port {port} cannot be used: {error.strerror}", hint=hint) from None
