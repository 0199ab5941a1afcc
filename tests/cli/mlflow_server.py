"""A loopback server with the shapes of MLflow's REST API 2.0, as far as mirroring uses it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

API = "/api/2.0/mlflow/"
Body = dict[str, Any]


class Refused(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class FakeMlflow:
    """Experiments, runs, registered models. `fail_at` is the call that is answered with 500, counted from 1."""

    def __init__(self) -> None:
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, Body] = {}
        self.models: dict[str, Body] = {}
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, Body]] = []
        self.tokens: set[str | None] = set()
        self.fail_at = 0
        self.keep_then_fail = False  # what the failing call asks for is done all the same
        self.location = ""  # where every call is sent to, when set
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"fake": self}))
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, body: Body) -> Body:
        name = f"_{method.lower()}_{path.replace('/', '_').replace('-', '_')}"
        handler: Callable[[Body], Body] | None = getattr(self, name, None)
        if handler is None:
            raise Refused(404, "ENDPOINT_NOT_FOUND", f"{method} {path}")
        return handler(body)

    def _get_experiments_get_by_name(self, body: Body) -> Body:
        name = body["experiment_name"]
        if name not in self.experiments:
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"no experiment {name}")
        return {"experiment": {"experiment_id": self.experiments[name], "name": name, "lifecycle_stage": "active"}}

    def _post_experiments_create(self, body: Body) -> Body:
        self.experiments[body["name"]] = str(len(self.experiments) + 1)
        return {"experiment_id": self.experiments[body["name"]]}

    def _post_runs_search(self, body: Body) -> Body:
        wanted = body["filter"].split("'")[1] if body.get("filter") else None
        found = [r for r in self.runs.values() if wanted in (None, _tags(r["data"]).get("trilho.run"))]
        return {"runs": [r for r in found if r["info"]["experiment_id"] in body["experiment_ids"]]}

    def _post_runs_create(self, body: Body) -> Body:
        number = f"{len(self.runs) + 1:032x}"
        info = {"run_id": number, "run_uuid": number, "run_name": body["run_name"], "status": "RUNNING",
                "experiment_id": body["experiment_id"], "start_time": body["start_time"], "lifecycle_stage": "active",
                "artifact_uri": f"mlflow-artifacts:/{body['experiment_id']}/{number}/artifacts"}  # fmt: skip
        self.runs[number] = {"info": info, "data": {"metrics": [], "params": [], "tags": body["tags"]}}
        return {"run": self.runs[number]}

    def _post_runs_log_batch(self, body: Body) -> Body:
        data = self.runs[body["run_id"]]["data"]
        for what in ("params", "tags"):
            kept = {one["key"]: one for one in data[what]}
            for one in body[what]:
                if what == "params" and kept.get(one["key"], one) != one:
                    raise Refused(400, "INVALID_PARAMETER_VALUE", f"{one['key']} was logged otherwise")
                kept[one["key"]] = one
            data[what] = list(kept.values())
        data["metrics"] += [one for one in body["metrics"] if one not in data["metrics"]]
        return {}

    def _post_runs_update(self, body: Body) -> Body:
        info = self.runs[body["run_id"]]["info"]
        info.update(status=body["status"], end_time=body["end_time"])
        return {"run_info": info}

    def _post_registered_models_create(self, body: Body) -> Body:
        if body["name"] in self.models:
            raise Refused(400, "RESOURCE_ALREADY_EXISTS", f"{body['name']} is there")
        self.models[body["name"]] = {"versions": [], "aliases": {}}
        return {"registered_model": {"name": body["name"]}}

    def _get_model_versions_search(self, body: Body) -> Body:
        """Give one version a page, so that whoever reads has to turn it."""
        versions = self.models[body["filter"].split("'")[1]]["versions"]
        at = int(body.get("page_token", 0))
        more = {"next_page_token": str(at + 1)} if at + 1 < len(versions) else {}
        return {"model_versions": versions[at : at + 1], **more}

    def _post_model_versions_create(self, body: Body) -> Body:
        versions = self.models[body["name"]]["versions"]
        made = {**body, "version": str(len(versions) + 1), "status": "READY", "current_stage": "None"}
        versions.append(made)
        return {"model_version": made}

    def _post_model_versions_set_tag(self, body: Body) -> Body:
        version = self.models[body["name"]]["versions"][int(body["version"]) - 1]
        kept = [tag for tag in version["tags"] if tag["key"] != body["key"]]
        version["tags"] = [*kept, {"key": body["key"], "value": body["value"]}]
        return {}

    def _post_registered_models_alias(self, body: Body) -> Body:
        self.models[body["name"]]["aliases"][body["alias"]] = body["version"]
        return {}

    def _get_registered_models_alias(self, body: Body) -> Body:
        model = self.models[body["name"]]
        return {"model_version": model["versions"][int(model["aliases"][body["alias"]]) - 1]}

    def _delete_registered_models_alias(self, body: Body) -> Body:
        self.models[body["name"]]["aliases"].pop(body["alias"], None)
        return {}


def _tags(data: Body) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in data["tags"]}


class _Handler(BaseHTTPRequestHandler):
    fake: FakeMlflow

    def _go(self) -> None:
        fake, url = self.fake, urlsplit(self.path)
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fake.tokens.add(self.headers.get("Authorization"))
        if fake.location:
            self.send_response(302)
            self.send_header("Location", fake.location + self.path)
            self.end_headers()
            return
        if self.command == "PUT":
            fake.files[url.path.removeprefix("/api/2.0/mlflow-artifacts/artifacts/")] = content
            self._send(200, {})
            return
        path = url.path.removeprefix(API)
        body = json.loads(content) if content else {key: values[0] for key, values in parse_qs(url.query).items()}
        fake.asked.append((self.command, path, body))
        fails = len(fake.asked) == fake.fail_at
        try:
            found = fake.answer(self.command, path, body) if not fails or fake.keep_then_fail else {}
            self._send(500 if fails else 200, {"error_code": "INTERNAL_ERROR", "message": "no"} if fails else found)
        except Refused as error:
            self._send(error.status, {"error_code": error.code, "message": str(error)})

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _go  # noqa: N815

    def _send(self, status: int, body: Body) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass
