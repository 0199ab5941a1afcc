"""A real server process with all protocols over a plane that needs no libraries: y = 2 * x + count.

python -m tests.runtime.protocol_server --ready-file FILE [--kind probabilities] [--decide] [--key-env NAME] ...
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from trilho_runtime.prediction.job import Job, Outcome
from trilho_runtime.prediction.log import LineLog
from trilho_runtime.protocols.inference import Inference
from trilho_runtime.protocols.labelling import Labelling
from trilho_runtime.protocols.openapi import OpenApi, Served
from trilho_runtime.protocols.vertex import Platform, Vertex
from trilho_runtime.schema.signature import RowError, Signature
from trilho_runtime.web.access import AccessError, check_exposure, open_access
from trilho_runtime.web.http import Answer, App, HttpError, Request
from trilho_runtime.web.notes import RequestNotes, use_format
from trilho_runtime.web.service import Service, bind, serve

FIELDS: list[dict[str, Any]] = [
    {"name": "x", "type": "number", "nullable": False, "minimum": -2.0, "maximum": 3.5},
    {"name": "count", "type": "integer", "nullable": False},
    {"name": "level", "type": "number", "nullable": True},
    {"name": "kind", "type": "string", "nullable": True, "categories": ["new", "<b>used</b>"]},
    {"name": "flag", "type": "boolean", "nullable": False},
    {"name": "at", "type": "timestamp", "nullable": True},
]
ROW: dict[str, Any] = {
    "x": 1.5,
    "count": 2,
    "level": None,
    "kind": "new",
    "flag": True,
    "at": "2026-01-31T12:00:00",
}
ANSWER = 5.0
CLASSES = ("cat", "dog", "owl")


@dataclass
class Plane:
    """A data plane without a model behind it."""

    kind: str = "value"
    fields: list[dict[str, Any]] = field(default_factory=lambda: FIELDS)
    decides: bool = False
    logged: bool = True
    refuse_extra: bool = False
    version: int = 3
    warm: bool = True
    history: bool = False
    jobs: list[Job] = field(default_factory=list)

    def __post_init__(self) -> None:
        classes = {"probability": [0, 1], "probabilities": list(CLASSES), "class": list(CLASSES)}.get(self.kind, [])
        task = "regression" if self.kind == "value" else "classification"
        outputs = {"kind": self.kind, "classes": classes}
        manifest = {"name": "tiny", "task": task, "signature": self.fields, "outputs": outputs}
        signature = Signature.from_json(self.fields)
        rows = [{name: ROW.get(name, 1.5) for name in (f["name"] for f in self.fields)}]
        self.model: Any = SimpleNamespace(
            package=SimpleNamespace(manifest=manifest, sample=lambda: (rows, [ANSWER])),
            predictor=SimpleNamespace(signature=signature, history=None),
            names=signature.names,
        )

    def ready(self) -> Any:
        """Give the model."""
        if not self.warm:
            raise HttpError(503, f"version {self.version} is loading", headers=[("retry-after", "1")])
        return self.model

    async def answer(self, job: Job) -> Outcome:
        """Answer rows."""
        self.jobs.append(job)
        if job.past and not self.history:
            raise HttpError(422, "past: this model looks at no past rows", field="past")
        try:
            columns = self.model.predictor.signature.columns(job.rows)
            if self.refuse_extra:
                for row, given in enumerate(job.rows):
                    for name in given.keys() - self.model.names:
                        raise RowError(f"row {row}: {name} is not a field of this model", name, row)
        except RowError as error:
            raise HttpError(422, str(error), field=error.field, row=error.row) from None
        with np.errstate(over="ignore"):
            y = 2 * columns["x"] + columns.get("count", 0)
        ids = [f"{job.identity}.{index}" for index in range(job.size)]
        decisions = [bool(value > 4) for value in y] if self.decides else None
        version = "d1" if self.decides else None
        return Outcome(ids, self._scores(np.nan_to_num(y)), self.version, decisions, version, self.logged)

    def _scores(self, y: Any) -> list[Any]:
        if self.kind == "value":
            return [float(value) for value in y]
        one = 1 / (1 + np.exp(-np.clip(y, -30, 30)))
        if self.kind == "probability":
            return [float(value) for value in one]
        if self.kind == "class":
            return [1.0 for _ in y]
        return [[float(p) / 2, 1 - float(p), float(p) / 2] for p in one]


async def metrics(request: Request) -> Answer:
    """Give a counter."""
    return Answer(200, b"up 1\n", content_type="text/plain; version=0.0.4; charset=utf-8")


async def fail(request: Request) -> Answer:
    """Fail as a mistake of ours would."""
    raise RuntimeError("a mistake")


def make_app(plane: Plane, given: argparse.Namespace) -> App:
    """Mount all protocols as the prediction server does."""
    access = open_access(
        [f"env:{given.key_env}"] if given.key_env else [],
        os.environ,
        audience=given.audience,
        callers=given.caller,
        certificates=given.certificates,
    )
    said = check_exposure(given.host, access, opened=given.open, on_vertex=Platform.read(os.environ) is not None)
    if said:
        sys.stderr.write(f"{said}\n")
    inference = Inference(plane, max_rows=given.max_rows)
    vertex = Vertex(plane, max_rows=given.max_rows, tensors=inference)
    labels = Labelling(
        LineLog(Path(given.ready_file).parent / "labels"),
        classes=lambda: plane.ready().package.manifest.get("outputs", {}).get("classes", ()),
    )
    routes = {**vertex.routes(), **inference.routes(), **labels.routes(), ("GET", "/metrics"): metrics}
    served = Served(
        routes=[*routes, ("GET", "/openapi.json"), ("GET", "/docs")],
        keys=bool(given.key_env),
        tokens=bool(given.audience),
        refuse_extra=plane.refuse_extra,
        max_rows=given.max_rows,
        hidden=given.hide,
    )
    routes |= {**OpenApi(plane, served).routes(), ("GET", "/fail"): fail}
    notes = RequestNotes(given.log_requests) if given.log_requests else None
    headers = [("x-trilho-version", str(plane.version))]
    return App(routes, headers, guard=access, notes=notes, max_body=given.max_body)


async def run(given: argparse.Namespace) -> int:
    """Serve until stopped."""
    use_format(given.log_format)
    plane = Plane(given.kind, decides=given.decide, refuse_extra=given.refuse, warm=not given.cold)
    try:
        app = make_app(plane, given)
    except AccessError as error:
        sys.stderr.write(f"{error}\nHint: {error.hint}\n")
        return 2
    service = Service(app, bind(given.host, given.port), 256)
    if given.cold:
        asyncio.get_running_loop().call_later(given.cold, lambda: setattr(plane, "warm", True))
    return await service.run(Path(given.ready_file), None)


def main() -> int:
    """Serve."""
    parser = argparse.ArgumentParser()
    platform = Platform.read(os.environ)
    parser.add_argument("--ready-file", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=platform.port if platform else 0)
    parser.add_argument("--kind", default="value")
    parser.add_argument("--decide", action="store_true")
    parser.add_argument("--refuse", action="store_true")
    parser.add_argument("--cold", type=float, default=0.0)
    parser.add_argument("--key-env")
    parser.add_argument("--audience")
    parser.add_argument("--caller", action="append", default=[])
    parser.add_argument("--certificates")
    parser.add_argument("--open", action="store_true")
    parser.add_argument("--hide", action="append", default=[])
    parser.add_argument("--max-rows", type=int, default=100)
    parser.add_argument("--max-body", type=int, default=200_000)
    parser.add_argument("--log-format", default="text")
    parser.add_argument("--log-requests")
    return serve(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
