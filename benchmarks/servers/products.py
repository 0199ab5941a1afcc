"""The products: what they need, how they are started, what a request looks like to each and where its answer is.

Each is started as its own documentation says for production, with one worker, for it has one core. Where a product can
put waiting requests together (adaptive batching), it is there twice: as it comes, and with that switched on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

APPS = Path(__file__).parent / "apps"
LARGEST_BATCH = 32
Row = Mapping[str, Any]
Types = Mapping[str, str]
Body = Callable[[Sequence[Row], Types], Any]
Read = Callable[[Any], list[float]]


@dataclass(frozen=True)
class Place:
    """Where one start of a server happens: programs of the environment, the model's folder, its own, its ports."""

    programs: Path
    model: Path
    own: Path
    ports: tuple[int, int, int]


def instances(rows: Sequence[Row], types: Types) -> Any:
    """Give the rows as objects.

    >>> instances([{"a": 1.5, "b": None}], {"a": "float64", "b": "str"})
    {'instances': [{'a': 1.5, 'b': None}]}
    """
    return {"instances": list(rows)}


def split(rows: Sequence[Row], types: Types) -> Any:
    """Give the rows as MLflow recommends: the columns named once.

    >>> split([{"a": 1.5, "b": None}], {"a": "float64", "b": "str"})
    {'dataframe_split': {'columns': ['a', 'b'], 'data': [[1.5, None]]}}
    """
    data = [[row.get(name) for name in types] for row in rows]
    return {"dataframe_split": {"columns": list(types), "data": data}}


def tensors(rows: Sequence[Row], types: Types) -> Any:
    """Give a tensor for each column, as the Open Inference Protocol has it, to be put together to a table."""
    numbers = {"datatype": "FP64"}
    texts = {"datatype": "BYTES", "parameters": {"content_type": "str"}}
    inputs = [
        {"name": name, "shape": [len(rows), 1], "data": [row.get(name) for row in rows]}
        | (texts if kind == "str" else numbers)
        for name, kind in types.items()
    ]
    return {"parameters": {"content_type": "pd"}, "inputs": inputs, "outputs": [{"name": "predict_proba"}]}


def listed(told: Any) -> list[float]:
    """Read a list, or the list under `predictions`, of probabilities, of pairs of them, or of objects by class.

    >>> listed([0.25]), listed({"predictions": [[0.75, 0.25]]}), listed({"predictions": [{"0": 0.75, "1": 0.25}]})
    ([0.25], [0.25], [0.25])
    """
    values = told["predictions"] if isinstance(told, dict) else told
    return [float(v["1"] if isinstance(v, dict) else v[1] if isinstance(v, list) else v) for v in values]


def tensor(told: Any) -> list[float]:
    """Read the second column of the first tensor.

    >>> tensor({"outputs": [{"shape": [2, 2], "data": [0.75, 0.25, 0.5, 0.5]}]})
    [0.25, 0.5]
    """
    return [float(value) for value in told["outputs"][0]["data"][1::2]]


@dataclass(frozen=True)
class Product:
    """A server of somebody else's: `package` gives its version, `needs` is installed beside the model's libraries."""

    name: str
    package: str
    needs: tuple[str, ...]
    path: str
    start: Callable[[Place], list[str]]
    body: Body = instances
    read: Read = listed
    prepare: Callable[[Place], list[str] | None] = lambda place: None
    settings: Mapping[str, str] = field(default_factory=dict)


def _uvicorn(place: Place) -> list[str]:
    command = [str(place.programs / "uvicorn"), "fastapi_app:app", "--host", "127.0.0.1", "--port", str(place.ports[0])]
    return [*command, "--workers", "1", "--no-access-log"]


def _mlflow_save(place: Place) -> list[str] | None:
    out = place.model / "mlflow"
    return None if out.exists() else [str(place.programs / "python"), "mlflow_save.py", str(place.model), str(out)]


def _mlflow(place: Place) -> list[str]:
    command = [str(place.programs / "mlflow"), "models", "serve", "-m", str(place.model / "mlflow")]
    return [*command, "--env-manager", "local", "-h", "127.0.0.1", "-p", str(place.ports[0]), "-w", "1"]


def _script(name: str, largest: int) -> Callable[[Place], list[str]]:
    return lambda place: [str(place.programs / "python"), name, str(place.ports[0]), str(largest)]


def _bentoml(service: str) -> Callable[[Place], list[str]]:
    def start(place: Place) -> list[str]:
        command = [str(place.programs / "bentoml"), "serve", f"bentoml_app:{service}"]
        return [*command, "--host", "127.0.0.1", "--port", str(place.ports[0])]

    return start


def _mlserver_settings(largest: int) -> Callable[[Place], list[str] | None]:
    """Write the two files that MLServer reads. Inference stays in the server's process: it has one core."""

    def prepare(place: Place) -> None:
        http, grpc, metrics = place.ports
        server = {
            "debug": False, "host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics,
            "parallel_workers": 0,
        }  # fmt: skip
        model: dict[str, Any] = {
            "name": "thirty", "implementation": "mlserver_sklearn.SKLearnModel",
            "parameters": {"uri": str(place.model / "model.joblib")},
        }  # fmt: skip
        if largest > 1:
            model |= {"max_batch_size": largest, "max_batch_time": 0.001}
        (place.own / "settings.json").write_text(json.dumps(server))
        (place.own / "model-settings.json").write_text(json.dumps(model))

    return prepare


def _mlserver(place: Place) -> list[str]:
    return [str(place.programs / "mlserver"), "start", str(place.own)]


_LITSERVE, _BENTOML, _RAY, _MLSERVER = ("litserve",), ("bentoml",), ("ray[serve]",), ("mlserver", "mlserver-sklearn")
_INFER = "/v2/models/thirty/infer"
_QUIET_RAY = {"RAY_USAGE_STATS_ENABLED": "0"}
_QUIET_BENTO = {"BENTOML_DO_NOT_TRACK": "True"}
PRODUCTS = (
    Product("FastAPI and uvicorn", "fastapi", ("fastapi", "uvicorn[standard]"), "/predict", _uvicorn),
    Product(
        "MLflow", "mlflow-skinny", ("mlflow-skinny", "fastapi", "uvicorn[standard]"), "/invocations", _mlflow, split,
        prepare=_mlflow_save, settings={"UVICORN_ACCESS_LOG": "false"},
    ),
    Product("BentoML", "bentoml", _BENTOML, "/predict", _bentoml("Single"), settings=_QUIET_BENTO),
    Product("BentoML, batching", "bentoml", _BENTOML, "/predict", _bentoml("Batching"), settings=_QUIET_BENTO),
    Product("MLServer", "mlserver", _MLSERVER, _INFER, _mlserver, tensors, tensor, _mlserver_settings(1)),
    Product(
        "MLServer, batching", "mlserver", _MLSERVER, _INFER, _mlserver, tensors, tensor,
        _mlserver_settings(LARGEST_BATCH),
    ),
    Product("LitServe", "litserve", _LITSERVE, "/predict", _script("litserve_app.py", 1)),
    Product("LitServe, batching", "litserve", _LITSERVE, "/predict", _script("litserve_app.py", LARGEST_BATCH)),
    Product("Ray Serve", "ray", _RAY, "/predict", _script("ray_app.py", 1), settings=_QUIET_RAY),
    Product("Ray Serve, batching", "ray", _RAY, "/predict", _script("ray_app.py", LARGEST_BATCH), settings=_QUIET_RAY),
)  # fmt: skip
