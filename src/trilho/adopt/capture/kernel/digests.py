"""Digests of what a value holds, and of what it shares with others: the mutable parts it is made of.

Two names are checked together when their parts overlap: `a = df`, a view, a list in two dicts.
"""

from __future__ import annotations

import ctypes
import datetime
import decimal
import enum
import fractions
import hashlib
import pathlib
import re
import sys
import types
import uuid
import zlib
from typing import Any, Callable

SIZE = 16
DEPTH = 40
PLAIN = (type(None), bool, int, float, complex, str, bytes, datetime.date, datetime.time, datetime.timedelta,
         datetime.tzinfo, decimal.Decimal, fractions.Fraction, pathlib.PurePath, uuid.UUID, re.Pattern, range,
         type(Ellipsis))  # fmt: skip
OPAQUE = (types.ModuleType, types.BuiltinFunctionType, type, types.GeneratorType, types.CoroutineType)
OPAQUE_LIBRARIES = ("matplotlib", "mpl_toolkits", "seaborn", "plotly", "altair", "bokeh", "google", "logging",
                    "threading", "sqlite3", "_io", "io", "requests", "urllib3", "tqdm", "IPython", "shap",
                    "_trilho_kernel")  # fmt: skip
OBJECTS = 20_000  # that are looked into, for one value
CACHED_BYTES = 1 << 16
CACHED_BUFFERS = 4096
SCALARS = {str, int, float, bool, type(None), complex, bytes}
Buffers = "dict[tuple[int, int, str], tuple[int, bytes]]"


class Digester:
    """Computes one digest after another; what two values share is hashed once."""

    def __init__(self, version: Callable[[Any], int] = lambda _: 0, buffers: Any = None) -> None:
        self.version = version  # of objects whose content is out of reach: how often they were changed
        self.buffers = {} if buffers is None else buffers  # big buffers that were hashed before: checked by checksum
        self.objects = 0
        self.memo: dict[int, tuple[bytes, set[int], Any]] = {}
        self.open: set[int] = set()

    def of(self, value: Any) -> tuple[str, set[int]]:
        """Give a value's digest, and the identities of its mutable parts."""
        self.objects = 0
        try:
            digest, parts = self._of(value, 0)
        except Exception as error:  # noqa: BLE001  a value of the notebook's can do anything when looked at
            digest, parts = _hash("unknown", type(error).__name__, id(value)), {id(value)}
        return digest.hex(), parts

    def _of(self, value: Any, depth: int) -> tuple[bytes, set[int]]:
        if isinstance(value, PLAIN):
            return _hash(type(value).__name__, repr(value)), set()
        key = id(value)
        if key in self.memo:
            return self.memo[key][0], self.memo[key][1]
        if key in self.open or depth > DEPTH:
            return _hash("again"), {key}
        self.open.add(key)
        try:
            result = self._content(value, depth + 1)
        finally:
            self.open.discard(key)
        self.memo[key] = (*result, value)
        return result

    def _content(self, value: Any, depth: int) -> tuple[bytes, set[int]]:
        kind = type(value)
        if isinstance(value, enum.Enum):
            return _hash("enum", kind.__qualname__, value.name), set()
        if isinstance(value, OPAQUE):
            return _hash("opaque", kind.__qualname__, id(value)), set()
        for library, read in (("numpy", self._numpy), ("pandas", self._pandas), ("scipy.sparse", self._sparse)):
            module = sys.modules.get(library)
            found = read(value, module, depth) if module else None
            if found:
                return found
        if isinstance(value, (list, tuple)):
            return self._join(value, kind.__qualname__, list(value), depth)
        if isinstance(value, dict):
            return self._join(value, kind.__qualname__, [part for item in value.items() for part in item], depth)
        if isinstance(value, (set, frozenset)):
            digests = [self._of(item, depth) for item in value]
            parts = set().union({id(value)}, *(found for _, found in digests))
            return _hash(kind.__qualname__, *sorted(digest for digest, _ in digests)), parts
        if isinstance(value, (bytearray, memoryview)):
            return _hash(kind.__qualname__, bytes(value)), {id(value)}
        return self._object(value, depth)

    def _join(self, value: Any, name: str, items: list[Any], depth: int) -> tuple[bytes, set[int]]:
        hasher = hashlib.blake2b(name.encode(), digest_size=SIZE)
        parts = set() if isinstance(value, tuple) else {id(value)}
        if len(items) > 16 and set(map(type, items)) <= SCALARS:
            hasher.update(repr(items).encode("utf-8", "surrogatepass"))
            return hasher.digest(), parts
        for item in items:
            digest, found = self._of(item, depth)
            hasher.update(digest)
            parts |= found
        return hasher.digest(), parts

    def _object(self, value: Any, depth: int) -> tuple[bytes, set[int]]:
        """Digest an object by its attributes, a function by its code, defaults and closure."""
        name = f"{type(value).__module__}.{type(value).__qualname__}"
        self.objects += 1
        if name.split(".")[0] in OPAQUE_LIBRARIES or self.objects > OBJECTS:
            return _hash(name, id(value), self.version(value)), {id(value)}
        if isinstance(value, types.FunctionType):
            held: list[Any] = [value.__code__.co_code, value.__defaults__, value.__dict__]
            held += [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
            return self._join(value, name, held, depth)
        if isinstance(value, types.MethodType):
            return self._join(value, name, [value.__self__, value.__name__], depth)
        attributes = dict(getattr(value, "__dict__", {}))
        for kind in type(value).__mro__:
            slots = kind.__dict__.get("__slots__", ())
            for slot in [slots] if isinstance(slots, str) else slots:
                if isinstance(slot, str) and slot not in ("__dict__", "__weakref__") and hasattr(value, slot):
                    attributes[slot] = getattr(value, slot)
        held = [part for key in sorted(attributes, key=str) for part in (key, attributes[key])]
        return self._join(value, name, [*held, id(value), self.version(value)], depth)

    def _numpy(self, value: Any, np: Any, depth: int) -> tuple[bytes, set[int]] | None:
        if isinstance(value, np.generic):
            return _hash(str(value.dtype), repr(value)), set()
        if isinstance(value, (np.random.Generator, np.random.RandomState)):
            state = value.bit_generator.state if hasattr(value, "bit_generator") else value.get_state()
            return self._join(value, "random", [state], depth)
        if not isinstance(value, np.ndarray):
            return None
        digest = self._buffer(value, np, depth)
        return _hash(str(value.dtype), value.shape, digest), {_base(value)}

    def _buffer(self, array: Any, np: Any, depth: int) -> bytes:
        """Hash an array's content; a big one that was hashed before only when its checksum is another."""
        plain = array.view("i8") if array.dtype.kind in "mM" else array
        raw = flat_bytes(np.asarray(plain), np)
        if array.nbytes < CACHED_BYTES or not array.flags.c_contiguous:
            return self._objects(array, depth)[0] if array.dtype.hasobject else hash_bytes(raw)
        key = (array.__array_interface__["data"][0], array.nbytes, str(array.dtype))
        checksum = zlib.crc32(raw)
        known = self.buffers.get(key)
        if known is not None and known[0] == checksum:
            return bytes(known[1])
        digest, safe = self._objects(array, depth) if array.dtype.hasobject else (hash_bytes(raw), True)
        if len(self.buffers) > CACHED_BUFFERS:
            self.buffers.clear()
        if safe:
            self.buffers[key] = (checksum, digest)
        return digest

    def _objects(self, array: Any, depth: int) -> tuple[bytes, bool]:
        """Hash an array of Python objects; give too whether they are all of kinds that can't change."""
        hasher = hashlib.blake2b(digest_size=SIZE)
        safe = True
        flat = array.ravel().tolist()
        for start in range(0, len(flat), 4096):
            chunk = flat[start : start + 4096]
            if set(map(type, chunk)) <= SCALARS:
                hasher.update(repr(chunk).encode("utf-8", "surrogatepass"))
            else:
                safe = safe and all(isinstance(item, PLAIN) for item in chunk)
                for item in chunk:
                    hasher.update(self._of(item, depth)[0])
        return hasher.digest(), safe

    def _pandas(self, value: Any, pd: Any, depth: int) -> tuple[bytes, set[int]] | None:
        if isinstance(value, pd.DataFrame):
            columns = [value.iloc[:, i] for i in range(value.shape[1])]
            digests = [self._of(column.array, depth) for column in columns]
            index, _ = self._of(value.index, depth)
            labels = [repr(label) for label in value.columns]
            parts = set().union({id(value)}, *(found for _, found in digests))
            return _hash("frame", index, repr(value.columns.names), *labels, *(d for d, _ in digests)), parts
        if isinstance(value, pd.Series):
            digest, parts = self._of(value.array, depth)
            index, _ = self._of(value.index, depth)
            return _hash("series", repr(value.name), index, digest), {id(value), *parts}
        if isinstance(value, pd.RangeIndex):
            return _hash("range", value.start, value.stop, value.step, repr(value.name)), set()
        if isinstance(value, pd.MultiIndex):
            return self._join((), "multi", [repr(value.names), *value.levels, *value.codes], depth)
        if isinstance(value, pd.Index):
            digest, parts = self._of(value.array, depth)
            return _hash("index", repr(value.name), digest), parts
        if isinstance(value, pd.api.extensions.ExtensionArray):
            return self._extension(value, pd, depth)
        return None

    def _extension(self, value: Any, pd: Any, depth: int) -> tuple[bytes, set[int]]:
        name = str(value.dtype)
        if isinstance(value, pd.Categorical):
            codes, parts = self._of(value.codes, depth)
            categories, _ = self._of(value.categories, depth)
            return _hash("category", value.ordered, categories, codes), {id(value), *parts}
        arrow = getattr(value, "_pa_array", None)
        if arrow is not None:
            hasher = hashlib.blake2b(name.encode(), digest_size=SIZE)
            for chunk in arrow.chunks:
                hasher.update(self._arrow(chunk))
            return hasher.digest(), {id(value)}
        held = [getattr(value, field) for field in ("_data", "_mask", "_ndarray") if hasattr(value, field)]
        arrays = [part for part in held if hasattr(part, "dtype")] or [value.to_numpy()]
        digests = [self._of(part, depth) for part in arrays]
        return _hash(name, *(d for d, _ in digests)), set().union({id(value)}, *(p for _, p in digests))

    def _arrow(self, chunk: Any) -> bytes:
        """Hash what an arrow array says, not how: a slice holds its parent's buffers. Its memory never changes."""
        hasher = hashlib.blake2b(digest_size=SIZE)
        whole = chunk if not chunk.offset and not _is_slice(chunk) else _compacted(chunk)
        for buffer in whole.buffers():
            hasher.update(b"-" if buffer is None else memoryview(buffer))
        return hasher.digest()

    def _sparse(self, value: Any, sparse: Any, depth: int) -> tuple[bytes, set[int]] | None:
        if not sparse.issparse(value):
            return None
        held = [getattr(value, field) for field in ("data", "indices", "indptr", "row", "col") if hasattr(value, field)]
        return self._join(value, f"sparse {value.format} {value.shape}", held, depth)


def _hash(*parts: Any) -> bytes:
    hasher = hashlib.blake2b(digest_size=SIZE)
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
        hasher.update(b"%d:" % len(data))
        hasher.update(data)
    return hasher.digest()


def flat_bytes(array: Any, np: Any) -> Any:
    """Give an array's memory, or a copy of it in order; of objects their addresses."""
    flat = array if array.flags.c_contiguous else np.ascontiguousarray(array)
    if not flat.size:
        return b""
    if flat.dtype.hasobject:
        return memoryview((ctypes.c_char * flat.nbytes).from_address(flat.__array_interface__["data"][0]))
    return flat.reshape(-1).view("u1").data


def hash_bytes(raw: Any) -> bytes:
    """Hash memory."""
    return hashlib.blake2b(raw, digest_size=SIZE).digest()


def _is_slice(chunk: Any) -> bool:
    return any(buffer is not None and buffer.size > 2 * chunk.nbytes + 1024 for buffer in chunk.buffers())


def _compacted(chunk: Any) -> Any:
    arrow = sys.modules["pyarrow"]
    return arrow.concat_arrays([chunk.slice(0, 0), chunk]) if len(chunk) else chunk.slice(0, 0)


def _base(array: Any) -> int:
    """Give the address of the memory that an array looks at, the same for all its views."""
    while getattr(array, "base", None) is not None and hasattr(array.base, "__array_interface__"):
        array = array.base
    address: int = array.__array_interface__["data"][0]
    return address


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
