# mypy: ignore-errors
"""Ray Serve with one replica: `ray_app.py PORT LARGEST_BATCH`."""

import os
import sys
from pathlib import Path

import ray
from model import Model
from ray import serve
from starlette.requests import Request

OPTIONS = {"num_replicas": 1, "max_ongoing_requests": 32, "logging_config": {"enable_access_log": False}}


@serve.deployment(**OPTIONS)
class Single:
    """One request at a time."""

    def __init__(self, folder: str) -> None:
        self.kept = Model(Path(folder))

    async def __call__(self, request: Request):
        return {"predictions": self.kept.predict((await request.json())["instances"])}


@serve.deployment(**OPTIONS)
class Batching(Single.func_or_class):
    """The requests that wait, together."""

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.001)
    async def together(self, requests):
        return self.kept.predict_all(requests)

    async def __call__(self, request: Request):
        return {"predictions": await self.together((await request.json())["instances"])}


if __name__ == "__main__":
    port, largest = int(sys.argv[1]), int(sys.argv[2])
    here = str(Path(__file__).parent)
    ray.init(address="local", num_cpus=1, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": here}})
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    app = (Batching if largest > 1 else Single).bind(os.environ["BENCH_FOLDER"])
    serve.run(app, name="thirty", route_prefix="/predict", blocking=True)
