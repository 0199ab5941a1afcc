"""Predictions: each request goes to one deployed model, drawn by the endpoint's traffic split, and to its container.

The draws are seeded, so the same calls in the same order are shared in the same way. What a container answers with an
error status comes back under the gRPC status of that HTTP status, its body as the message. Not emulated: streaming,
direct (gRPC) predictions, explanations, request logging to BigQuery.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
from collections.abc import Callable, Mapping
from typing import Any

from google.api import httpbody_pb2
from google.cloud import aiplatform_v1 as v1
from google.protobuf import json_format

from trilho.testing.emulator.containers import Container
from trilho.testing.emulator.endpoints import Endpoints
from trilho.testing.emulator.models import Models
from trilho.testing.emulator.resources import Resources
from trilho.testing.emulator.rules import Refusal

MOST_BYTES = 1_572_864  # of a request to a shared endpoint: https://cloud.google.com/vertex-ai/docs/quotas
STATUSES = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 409: "ABORTED",
    422: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 501: "UNIMPLEMENTED", 503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}  # fmt: skip


class Predictions:
    """The handlers of the prediction service."""

    def __init__(self, resources: Resources, models: Models, endpoints: Endpoints, seed: int = 0) -> None:
        self.resources, self.models, self.endpoints = resources, models, endpoints
        self._random, self._lock = random.Random(seed), threading.Lock()

    def handlers(self) -> Mapping[str, Callable[[Any, Any], Any]]:
        """Give the handlers by method."""
        return {"Predict": self.predict, "RawPredict": self.raw_predict}

    def predict(self, _: Any, request: v1.PredictRequest) -> v1.PredictResponse:
        """Answer Predict: instances and parameters as JSON, predictions (and metadata) from it."""
        _check_size(v1.PredictRequest.pb(request).ByteSize())
        whole = json_format.MessageToDict(v1.PredictRequest.pb(request))
        body = {key: whole[key] for key in ("instances", "parameters") if key in whole}
        deployed, container = self._drawn(request.endpoint)
        said = _asked(container, json.dumps({"instances": [], **body}).encode(), "application/json")[0]
        try:
            answer = json.loads(said)
            predictions = answer["predictions"]
        except (ValueError, KeyError, TypeError):
            raise Refusal(
                "INTERNAL", f"The container did not answer with JSON that has predictions: {said[:300]!r}."
            ) from None
        response = {
            "predictions": predictions,
            "deployedModelId": deployed.id,
            "model": deployed.model.partition("@")[0],
            "modelVersionId": deployed.model_version_id,
            "modelDisplayName": self.models.resolve(deployed.model).display_name,
            **({"metadata": answer["metadata"]} if "metadata" in answer else {}),
        }
        result = v1.PredictResponse()
        json_format.ParseDict(response, v1.PredictResponse.pb(result))
        return result

    def raw_predict(self, call: Any, request: v1.RawPredictRequest) -> httpbody_pb2.HttpBody:
        """Answer RawPredict: the body as it is; the headers say which model answered."""
        _check_size(len(request.http_body.data))
        deployed, container = self._drawn(request.endpoint)
        kind = request.http_body.content_type or "application/json"
        data, answered = _asked(container, request.http_body.data, kind)
        endpoint = request.endpoint.rpartition("/")[2]
        call.answer_headers.update({"x-vertex-ai-endpoint-id": endpoint, "x-vertex-ai-deployed-model-id": deployed.id})
        return httpbody_pb2.HttpBody(content_type=answered, data=data)

    def _drawn(self, name: str) -> tuple[v1.DeployedModel, Container]:
        endpoint = self.resources.get(name, v1.Endpoint)
        split = {key: value for key, value in sorted(endpoint.traffic_split.items()) if value}
        if not split:
            raise Refusal("FAILED_PRECONDITION", f"Endpoint {name} doesn't have traffic_split.")
        with self._lock:
            chosen = self._random.choices(list(split), list(split.values()))[0]
        deployed = next(one for one in endpoint.deployed_models if one.id == chosen)
        container = self.endpoints.container(name, chosen)
        if container is None:
            image = self.models.resolve(deployed.model).container_spec.image_uri
            hint = "give the model a container command, or an artifact that is a trilho package or model.joblib"
            raise Refusal("FAILED_PRECONDITION", f"{deployed.model}: trilho emulate cannot run image {image}; {hint}.")
        return deployed, container


def _asked(container: Container, body: bytes, content_type: str) -> tuple[bytes, str]:
    """Ask a container; give the body of its answer and its type."""
    try:
        status, data, kind = container.request("POST", container.predict, body, content_type)
    except TimeoutError:
        raise Refusal("DEADLINE_EXCEEDED", "The container did not answer in time.") from None
    except (OSError, http.client.HTTPException) as error:
        why = f"it has ended ({container.ended})" if container.ended else f"{type(error).__name__}: {error}"
        raise Refusal("UNAVAILABLE", f"The container does not answer: {why}.") from None
    if 200 <= status < 300:
        return data, kind
    default = "INVALID_ARGUMENT" if status < 500 else "INTERNAL"
    raise Refusal(STATUSES.get(status, default), data.decode(errors="replace") or f"The container answered {status}.")


def _check_size(size: int) -> None:
    if size > MOST_BYTES:
        raise Refusal("INVALID_ARGUMENT", f"The request size ({size} bytes) exceeds 1.500MB limit.")
