"""Tensorboard, as far as experiments need it: what it holds is CRUD, scalars of time series are kept and given back.

Not emulated: tensors and blobs, exports, usage figures, the web pages.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from google.cloud import aiplatform_v1 as v1

from trilho.testing.emulator.checks import invalid
from trilho.testing.emulator.resources import Resources
from trilho.testing.emulator.rules import Refusal

MOST_POINTS = 1000
SCALAR: Any = v1.TensorboardTimeSeries.ValueType.SCALAR


class Tensorboards:
    """The handlers of the tensorboard service that are more than CRUD."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self._lock = threading.Lock()
        self._points: defaultdict[str, dict[int, v1.TimeSeriesDataPoint]] = defaultdict(dict)

    def handlers(self) -> Mapping[str, Callable[[Any, Any], Any]]:
        """Give the handlers by method; what is not here is CRUD."""
        return {
            "WriteTensorboardRunData": self.write,
            "ReadTensorboardTimeSeriesData": self.read,
            "BatchReadTensorboardTimeSeriesData": self.read_several,
        }

    def write(self, _: Any, request: v1.WriteTensorboardRunDataRequest) -> v1.WriteTensorboardRunDataResponse:
        """Answer WriteTensorboardRunData; a step that is written again is replaced."""
        self.resources.get(request.tensorboard_run, v1.TensorboardRun)
        for data in request.time_series_data:
            name = f"{request.tensorboard_run}/timeSeries/{data.tensorboard_time_series_id}"
            series = self.resources.get(name, v1.TensorboardTimeSeries)
            if series.value_type != SCALAR or data.value_type != SCALAR:
                raise Refusal("UNIMPLEMENTED", "trilho emulate keeps scalars of a Tensorboard only.")
            with self._lock:
                self._points[name].update({point.step: point for point in data.values})
        return v1.WriteTensorboardRunDataResponse()

    def read(
        self, _: Any, request: v1.ReadTensorboardTimeSeriesDataRequest
    ) -> v1.ReadTensorboardTimeSeriesDataResponse:
        """Answer ReadTensorboardTimeSeriesData: every point, though the real service may thin them out."""
        if request.filter:
            raise Refusal("UNIMPLEMENTED", "trilho emulate does not filter time series.")
        data = self._data(request.tensorboard_time_series, request.max_data_points or MOST_POINTS)
        return v1.ReadTensorboardTimeSeriesDataResponse(time_series_data=data)

    def read_several(
        self, _: Any, request: v1.BatchReadTensorboardTimeSeriesDataRequest
    ) -> v1.BatchReadTensorboardTimeSeriesDataResponse:
        """Answer BatchReadTensorboardTimeSeriesData."""
        for name in request.time_series:
            if not name.startswith(f"{request.tensorboard}/"):
                raise invalid("time_series", f"{name!r} is not in {request.tensorboard}.")
        data = [self._data(name, MOST_POINTS) for name in request.time_series]
        return v1.BatchReadTensorboardTimeSeriesDataResponse(time_series_data=data)

    def _data(self, name: str, most: int) -> v1.TimeSeriesData:
        series = self.resources.get(name, v1.TensorboardTimeSeries)
        with self._lock:
            points = [self._points[name][step] for step in sorted(self._points[name])]
        found = v1.TimeSeriesData(tensorboard_time_series_id=name.rpartition("/")[2], values=points[-most:])
        found.value_type = series.value_type
        return found
