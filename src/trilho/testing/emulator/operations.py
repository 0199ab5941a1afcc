"""Long-running operations: work that goes on after the call was answered, looked up by name.

With a delay every operation is unfinished at first, and its work begins when the delay is over. Without, an operation
whose work is quick is answered as done at once, as the real services may. Metadata holds the times only; progress is
not reported.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf import any_pb2, empty_pb2

from trilho.testing.emulator.listing import page
from trilho.testing.emulator.resources import Message, new_id
from trilho.testing.emulator.rules import Refusal

QUICK_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30.0


@dataclass
class _Held:
    operation: Any
    done: threading.Event = field(default_factory=threading.Event)
    begun: bool = False


class Operations:
    """The operations of all services; threads may share it."""

    def __init__(self, delay_seconds: float = 0.0) -> None:
        self.delay_seconds = delay_seconds
        self._held: dict[str, _Held] = {}
        self._lock = threading.Lock()

    def start(self, resource: str, work: Callable[[], Any], metadata: Message | None = None) -> Any:
        """Do work in the background; what it gives, or the Refusal that it raises, is the operation's end."""
        held = _Held(operations_pb2.Operation(name=f"{resource}/operations/{new_id()}"))
        if metadata is not None:
            held.operation.metadata.CopyFrom(packed(_stamped(metadata)))
        with self._lock:
            self._held[held.operation.name] = held
        threading.Thread(target=self._work, args=(held, work), daemon=True, name="operation").start()
        if not self.delay_seconds:
            held.done.wait(QUICK_SECONDS)
        return self._copy(held)

    def _work(self, held: _Held, work: Callable[[], Any]) -> None:
        if self.delay_seconds:
            held.done.wait(self.delay_seconds)
        with self._lock:
            if held.done.is_set():
                return
            held.begun = True
        try:
            result, refusal = work(), None
        except Refusal as error:
            refusal = error
        except Exception as error:  # noqa: BLE001  an operation that nobody ends would be waited for for ever
            refusal = Refusal("INTERNAL", f"The emulator failed: {type(error).__name__}: {error}")
        with self._lock:
            if refusal is None:
                held.operation.response.CopyFrom(packed(empty_pb2.Empty() if result is None else result))
            else:
                held.operation.error.code, held.operation.error.message = refusal.code, refusal.message
            held.operation.done = True
        held.done.set()

    def _copy(self, held: _Held) -> Any:
        copy = operations_pb2.Operation()
        with self._lock:
            copy.CopyFrom(held.operation)
        return copy

    def _find(self, name: str) -> _Held:
        with self._lock:
            found = self._held.get(name)
        if found is None:
            raise Refusal("NOT_FOUND", f"Operation `{name}` not found.")
        return found

    def get(self, _: Any, request: Any) -> Any:
        """Answer GetOperation."""
        return self._copy(self._find(request.name))

    def wait(self, _: Any, request: Any) -> Any:
        """Answer WaitOperation: as soon as it is done, or the request's timeout is over."""
        held = self._find(request.name)
        asked = request.timeout.ToTimedelta().total_seconds() if request.HasField("timeout") else LONGEST_WAIT_SECONDS
        held.done.wait(min(max(asked, 0.0), LONGEST_WAIT_SECONDS))
        return self._copy(held)

    def list_all(self, _: Any, request: Any) -> Any:
        """Answer ListOperations: those of a resource and of what is under it."""
        with self._lock:
            names = [name for name in self._held if name.startswith(f"{request.name}/")]
        found, token = page(names, request.page_size, request.page_token)
        held = [self._copy(self._find(name)) for name in found]
        return operations_pb2.ListOperationsResponse(operations=held, next_page_token=token)

    def cancel(self, _: Any, request: Any) -> Any:
        """Answer CancelOperation: work that has not begun is not done; what goes on goes on."""
        held = self._find(request.name)
        with self._lock:
            if not held.begun and not held.done.is_set():
                held.operation.error.code, held.operation.error.message = 1, "The operation was cancelled."
                held.operation.done = True
                held.done.set()
        return empty_pb2.Empty()

    def delete(self, _: Any, request: Any) -> Any:
        """Answer DeleteOperation: it is forgotten."""
        self._find(request.name)
        with self._lock:
            self._held.pop(request.name, None)
        return empty_pb2.Empty()

    def handlers(self) -> Mapping[str, tuple[Any, Callable[[Any, Any], Any]]]:
        """Give request type and handler of each method of google.longrunning.Operations."""
        return {
            "GetOperation": (operations_pb2.GetOperationRequest, self.get),
            "WaitOperation": (operations_pb2.WaitOperationRequest, self.wait),
            "ListOperations": (operations_pb2.ListOperationsRequest, self.list_all),
            "CancelOperation": (operations_pb2.CancelOperationRequest, self.cancel),
            "DeleteOperation": (operations_pb2.DeleteOperationRequest, self.delete),
        }


def packed(message: Any) -> Any:
    """Put a message into an Any."""
    inner = type(message).pb(message) if isinstance(message, Message) else message
    result = any_pb2.Any()
    result.Pack(inner)
    return result


def _stamped(metadata: Message) -> Message:
    if "generic_metadata" in type(metadata).meta.fields:
        now = datetime.fromtimestamp(time.time(), UTC)
        metadata.generic_metadata = {"create_time": now, "update_time": now}
    return metadata
