"""The log of predictions where the disk dies with the instance: an acknowledged publish to Pub/Sub, before the answer.

A message holds the columns of Vertex AI's own request-response log, so that a BigQuery subscription writes one table
for both. Requests that come while a publish is on its way go together with the next. A topic that does not answer costs
no prediction: what cannot be published in time is shed and counted, and for a while nobody waits for the topic at all.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import Any

import orjson

from trilho_runtime.prediction.log import now

ADDRESS = "pubsub.googleapis.com"
METADATA = "metadata.google.internal"
TOKEN_PATH = "/computeMetadata/v1/instance/service-accounts/default/token"  # noqa: S105  where a token is asked for
WAIT_SECONDS = 2.0
REST_SECONDS = 5.0
AT_ONCE = 4  # publishes on their way
MOST_MESSAGES = 1000
MOST_BYTES = 7_000_000  # of messages before base64; a request may have 10 MB
EARLY_SECONDS = 60.0


def request_message(
    endpoint: str, version: int, identity: str, rows: Sequence[Mapping[str, Any]], entries: Sequence[Any]
) -> bytes:
    """Give a request's message: `rows` as the log may hold them, `entries` as they are answered in full.

    >>> orjson.loads(request_message("bike", 3, "ff", [{"x": 1}], [{"id": "ff.0", "score": 2.0}]))["request_id"]
    '255'
    """
    return orjson.dumps(
        {
            "endpoint": endpoint,
            "deployed_model_id": str(version),
            "logging_time": now(),
            "request_id": str(request_number(identity)),
            "request_payload": [orjson.dumps({"instances": rows}).decode()],
            "response_payload": [orjson.dumps({"predictions": entries}).decode()],
        }
    )


def request_number(identity: str) -> int:
    """Give the number that stands for a request's identity in a column of NUMERIC, of at most 38 digits."""
    try:
        number = int(identity, 16)
    except ValueError:
        number = 10**30
    return (
        number if 0 <= number < 10**29 else int.from_bytes(blake2b(identity.encode(), digest_size=12).digest(), "big")
    )


class Publisher:
    """One topic, for the requests of one event loop."""

    def __init__(
        self,
        topic: str,
        *,
        wait_seconds: float = WAIT_SECONDS,
        rest_seconds: float = REST_SECONDS,
        token: Callable[[], str] | None = None,
    ) -> None:
        """`topic` is projects/PROJECT/topics/NAME; PUBSUB_EMULATOR_HOST says where another Pub/Sub answers."""
        if topic.count("/") != 3 or not topic.startswith("projects/") or topic.split("/")[2] != "topics":
            raise ValueError(f"the topic is {topic!r}; wanted projects/PROJECT/topics/NAME")
        self.topic, self.published, self.shed, self.why = topic, 0, 0, ""
        self._emulator = os.environ.get("PUBSUB_EMULATOR_HOST", "").removeprefix("http://")
        self._wait, self._rest = wait_seconds, rest_seconds
        self._token = token or (MetadataToken() if not self._emulator else None)
        self._resting_until = 0.0
        self._waiting: list[tuple[bytes, asyncio.Future[bool]]] = []
        self._sending: set[asyncio.Task[None]] = set()
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="publish")
        self._connections = threading.local()

    async def publish(self, message: bytes) -> bool:
        """Publish a message; True once the topic has acknowledged it, False where it is shed."""
        if time.monotonic() < self._resting_until or len(message) > MOST_BYTES:
            self.shed += 1
            return False
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((message, answer))
        if len(self._sending) < AT_ONCE:
            self._send()
        return await answer

    def close(self) -> None:
        """Let the threads end; what is on its way is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _send(self) -> None:
        task = asyncio.get_running_loop().create_task(self._send_soon())
        self._sending.add(task)
        task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        if self._waiting and len(self._sending) < AT_ONCE:
            self._send()

    async def _send_soon(self) -> None:
        await asyncio.sleep(0)  # the requests of this turn go together
        batch = self._next_batch()
        if not batch:
            return
        said = "the server is stopping"
        try:
            call = asyncio.get_running_loop().run_in_executor(self._pool, self._post, [item[0] for item in batch])
            said = await asyncio.wait_for(call, self._wait)
        except asyncio.TimeoutError:  # noqa: UP041  another class in Python 3.10
            said = f"no answer in {self._wait:g} s"
        except (OSError, ValueError, RuntimeError) as error:
            said = f"{type(error).__name__}: {error}"
        finally:
            self._settle(batch, said)

    def _settle(self, batch: list[tuple[bytes, asyncio.Future[bool]]], said: str) -> None:
        if said:
            self.why = said
            if not said.startswith("400"):  # what is wrong with these messages is not wrong with the next
                self._resting_until = time.monotonic() + self._rest
                batch = [*batch, *self._waiting]
                self._waiting = []
            self.shed += len(batch)
        else:
            self.published += len(batch)
        for _, answer in batch:
            if not answer.done():
                answer.set_result(not said)

    def _next_batch(self) -> list[tuple[bytes, asyncio.Future[bool]]]:
        size = taken = 0
        for message, _ in self._waiting[:MOST_MESSAGES]:
            size += len(message)
            if taken and size > MOST_BYTES:
                break
            taken += 1
        batch, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return batch

    def _post(self, messages: list[bytes]) -> str:
        """Publish messages over a thread's own connection; "" once all are acknowledged, else what was said."""
        body = orjson.dumps({"messages": [{"data": b64encode(message).decode()} for message in messages]})
        headers = {"content-type": "application/json"}
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token()}"
        status, data = self._ask(body, headers)
        if status != 200:
            return f"{status} {data[:200].decode(errors='replace')}"
        return (
            "" if len(orjson.loads(data).get("messageIds", [])) == len(messages) else "fewer messages were acknowledged"
        )

    def _ask(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        from http.client import HTTPException

        fresh = not hasattr(self._connections, "one")
        try:
            return self._ask_once(body, headers)
        except (OSError, HTTPException):
            self._forget_connection()
            if fresh:
                raise
        return self._ask_once(body, headers)  # the other side had closed an idle connection

    def _ask_once(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        from http.client import HTTPConnection, HTTPException, HTTPSConnection

        if not hasattr(self._connections, "one"):
            kind = HTTPConnection if self._emulator else HTTPSConnection
            self._connections.one = kind(self._emulator or ADDRESS, timeout=self._wait)
        try:
            self._connections.one.request("POST", f"/v1/{self.topic}:publish", body, dict(headers))
            answer = self._connections.one.getresponse()
            return answer.status, answer.read()
        except HTTPException as error:
            raise OSError(str(error) or type(error).__name__) from error

    def _forget_connection(self) -> None:
        self._connections.one.close()
        del self._connections.one


class MetadataToken:
    """The token of the service account that the instance runs as, asked for again a minute before it ends."""

    def __init__(self) -> None:
        self._host = os.environ.get("GCE_METADATA_HOST", METADATA)
        self._lock, self._token, self._ends = threading.Lock(), "", 0.0

    def __call__(self) -> str:
        """Give the token. Raises OSError where there is none."""
        with self._lock:
            if time.monotonic() >= self._ends:
                self._token, seconds = self._ask()
                self._ends = time.monotonic() + max(seconds - EARLY_SECONDS, 1.0)
            return self._token

    def _ask(self) -> tuple[str, float]:
        from http.client import HTTPConnection, HTTPException

        connection = HTTPConnection(self._host, timeout=WAIT_SECONDS)
        try:
            connection.request("GET", TOKEN_PATH, headers={"Metadata-Flavor": "Google"})
            answer = connection.getresponse()
            data = answer.read()
            if answer.status != 200:
                raise OSError(f"the metadata server answered {answer.status}")
            found = orjson.loads(data)
            return str(found["access_token"]), float(found["expires_in"])
        except (HTTPException, KeyError, TypeError, ValueError) as error:
            raise OSError(f"the metadata server gave no token: {error}") from error
        finally:
            connection.close()
