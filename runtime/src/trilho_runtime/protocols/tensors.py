"""Tensors of the Open Inference Protocol v2, as JSON or as bytes after it: read with every length checked, written.

Binary data is little-endian, row by row, without padding; a text is its length in four bytes, then UTF-8.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from trilho_runtime.schema.rows import shown
from trilho_runtime.web.http import HttpError

NUMPY = {
    "BOOL": "?",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
    "BYTES": "O",
}
LENGTH = struct.Struct("<I")
LARGEST_DIMENSION = 2**31


@dataclass(frozen=True)
class Tensor:
    """An input: its values in a flat list, None for a null or a NaN, and the shape they have."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: list[Any]

    @property
    def rows(self) -> int:
        """Give the number of rows: the first dimension."""
        return self.shape[0]


def wrong(message: str, field: str | None = None) -> HttpError:
    """Give the error of a request that is malformed; in this protocol that is 400."""
    return HttpError(400, message, field=field)


class Binary:
    """The bytes after the JSON of a request, taken in the order of its inputs."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: Any, name: str) -> bytes:
        """Give the next so many bytes."""
        if type(size) is not int or not 0 <= size <= len(self._data) - self._at:
            left = len(self._data) - self._at
            raise wrong(f"input {name}: binary_data_size is {_short(size)}; {left} bytes of the body are left")
        self._at += size
        return self._data[self._at - size : self._at]

    def check_end(self) -> None:
        """Refuse bytes that belong to no input."""
        if self._at < len(self._data):
            raise wrong(f"{len(self._data) - self._at} bytes after the JSON belong to no input")


def read_tensor(told: Any, binary: Binary, most: int) -> Tensor:
    """Read an input of at most so many rows. Raises HttpError 400, or 413 for too many.

    >>> read_tensor({"name": "x", "datatype": "FP64", "shape": [2, 1], "data": [[1.5], [None]]}, Binary(b""), 9).values
    [1.5, None]
    """
    if not isinstance(told, dict) or not isinstance(told.get("name"), str):
        raise wrong('an input is not an object with a "name"; wanted {"name", "shape", "datatype", "data"}', "inputs")
    name, datatype = told["name"][:200], told.get("datatype")
    if not isinstance(datatype, str) or datatype not in NUMPY:
        raise wrong(f"input {name}: datatype is {_short(datatype)}; allowed: {', '.join(NUMPY)}", name)
    shape = _shape(name, told.get("shape"))
    if shape[0] > most:
        raise HttpError(413, f"input {name} has {shape[0]} rows; at most {most} are taken", field=name)
    parameters = told.get("parameters") or {}
    if not isinstance(parameters, dict) or any(key.startswith("shared_memory") for key in parameters):
        raise wrong(f"input {name}: its parameters may hold binary_data_size; shared memory is not supported", name)
    if "binary_data_size" in parameters:
        data = binary.take(parameters["binary_data_size"], name)
        return Tensor(name, datatype, shape, _decode(name, datatype, prod(shape), data))
    values = _flat(name, told.get("data"), shape)
    _check_values(name, datatype, values, shape[1] if len(shape) == 2 else 1)
    return Tensor(name, datatype, shape, _without_nan(values) if datatype.startswith("FP") else values)


def _shape(name: str, told: Any) -> tuple[int, ...]:
    right = isinstance(told, list) and len(told) in (1, 2)
    if not right or any(type(d) is not int or not 0 < d < LARGEST_DIMENSION for d in told):
        raise wrong(f"input {name}: shape is {_short(told)}; wanted [rows] or [rows, columns], one at least", name)
    return tuple(told)


def _decode(name: str, datatype: str, count: int, data: bytes) -> list[Any]:
    if datatype == "BYTES":
        return _texts(name, count, data)
    numpy = np.dtype(NUMPY[datatype])
    if len(data) != count * numpy.itemsize:
        raise wrong(f"input {name}: {len(data)} bytes; {count} values of {datatype} are {count * numpy.itemsize}", name)
    values: list[Any] = np.frombuffer(data, numpy).tolist()
    return _without_nan(values) if numpy.kind == "f" else values


def _without_nan(values: list[Any]) -> list[Any]:
    return [None if value != value else value for value in values]


def _texts(name: str, count: int, data: bytes) -> list[Any]:
    texts: list[str] = []
    at = 0
    try:
        while at < len(data) and len(texts) < count:
            (size,) = LENGTH.unpack_from(data, at)
            at += LENGTH.size
            if at + size > len(data):
                raise wrong(f"input {name}: text {len(texts)} is cut: {size} bytes, {len(data) - at} are left", name)
            texts.append(data[at : at + size].decode())
            at += size
    except (struct.error, UnicodeDecodeError):
        raise wrong(f"input {name}: text {len(texts)} is not a length in four bytes and UTF-8", name) from None
    if len(texts) != count or at != len(data):
        raise wrong(f"input {name}: {len(data)} bytes hold {len(texts)} texts or more; its shape holds {count}", name)
    return texts


def _flat(name: str, data: Any, shape: tuple[int, ...]) -> list[Any]:
    """Give data in one list, whether it came nested as its shape is or flat."""
    if not isinstance(data, list):
        raise wrong(f"input {name}: data is {_short(data)}; wanted an array", name)
    if len(shape) == 2 and len(data) == shape[0] and all(isinstance(row, list) for row in data):
        if any(len(row) != shape[1] for row in data):
            raise wrong(f"input {name}: a row of data has not {shape[1]} values", name)
        data = [value for row in data for value in row]
    if len(data) != prod(shape):
        raise wrong(f"input {name}: data has {len(data)} values; its shape {list(shape)} holds {prod(shape)}", name)
    return list(data)


def _check_values(name: str, datatype: str, values: list[Any], width: int) -> None:
    kinds = set(map(type, values)) - {type(None)}
    allowed = (
        {bool} if datatype == "BOOL" else {str} if datatype == "BYTES" else {int, float} if "FP" in datatype else {int}
    )
    if not kinds <= allowed:
        place = next(at for at, value in enumerate(values) if value is not None and type(value) not in allowed)
        raise _beyond(name, datatype, values[place], place // width)
    if "INT" in datatype and kinds:
        whole = [value for value in values if value is not None]
        limits = np.iinfo(NUMPY[datatype])
        if not limits.min <= min(whole) <= max(whole) <= limits.max:
            place = next(at for at, v in enumerate(values) if v is not None and not limits.min <= v <= limits.max)
            raise _beyond(name, datatype, values[place], place // width)


def _beyond(name: str, datatype: str, value: Any, row: int) -> HttpError:
    """Give the refusal of a value that a datatype cannot carry."""
    limits = np.iinfo(NUMPY[datatype]) if "INT" in datatype else None
    said = f", {limits.min} to {limits.max}" if limits is not None else ""
    return HttpError(400, f"row {row}: input {name} is {shown(value)}; wanted {datatype}{said}", field=name, row=row)


def write_tensor(name: str, datatype: str, values: Sequence[Any], width: int = 0) -> dict[str, Any]:
    """Give an output as JSON; `width` columns make it two-dimensional, its values flat in either case.

    >>> write_tensor("prediction", "FP64", [1.5])
    {'name': 'prediction', 'datatype': 'FP64', 'shape': [1], 'data': [1.5]}
    """
    shape = [len(values) // width, width] if width else [len(values)]
    return {"name": name, "datatype": datatype, "shape": shape, "data": list(values)}


def write_binary(tensor: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Give an output without its data, and the data as bytes.

    >>> write_binary(write_tensor("label", "BYTES", ["no"]))[1]
    b'\\x02\\x00\\x00\\x00no'
    """
    if tensor["datatype"] == "BYTES":
        texts = [text.encode() for text in tensor["data"]]
        data = b"".join(LENGTH.pack(len(text)) + text for text in texts)
    else:
        data = np.array(tensor["data"], NUMPY[tensor["datatype"]]).tobytes()
    told = {key: value for key, value in tensor.items() if key != "data"}
    return {**told, "parameters": {"binary_data_size": len(data)}}, data


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)  # orjson writes no integer beyond 64 bits
    return text if len(text) <= 60 else text[:57] + "..."
