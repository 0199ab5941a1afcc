"""The endpoint's part of the check: the prediction server on a free port, asked over HTTP as any caller would."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from trilho.errors import Unreachable
from trilho.pipeline.workers.environment import clean

ALONE = 20
TOGETHER = 100
START_SECONDS = 120.0
ANSWER_SECONDS = 60.0
END_SECONDS = 10.0
LOOK_SECONDS = 0.02


class Answered(Exception):
    """The server answered something else than predictions."""


def ask_endpoint(
    package: Path, digest: str, rows: Sequence[Any], *, python: Path, folder: Path, task: str,
    pasts: Sequence[Any] = (),
) -> list[float]:  # fmt: skip
    """Serve a package, ask for the rows, the first of them one at a time and the others in batches, and stop.

    `pasts` are those of as many rows at the end, which are asked one at a time, each with its past.

    Raises Unreachable for a server that does not come up, Answered for one that refuses a row.
    """
    plain = len(rows) - len(pasts)
    batches = [[row] for row in rows[: min(ALONE, plain)]]
    batches += [list(rows[at : min(at + TOGETHER, plain)]) for at in range(ALONE, plain, TOGETHER)]
    requests: list[tuple[list[Any], list[Any]]] = [(batch, []) for batch in batches]
    requests += [([row], past) for row, past in zip(rows[plain:], pasts, strict=True)]
    found: list[float] = []
    with _served(package, digest, python, folder) as address:
        connection = http.client.HTTPConnection(address[0], address[1], timeout=ANSWER_SECONDS)
        with contextlib.closing(connection):
            for batch, past in requests:
                found += [_number(told, task) for told in _predict(connection, batch, len(found), past)]
    return found


def _predict(connection: http.client.HTTPConnection, rows: Sequence[Any], first: int, past: Sequence[Any]) -> list[Any]:
    parameters = {"parameters": {"past": past}} if past else {}
    body = json.dumps({"instances": rows, **parameters}, ensure_ascii=False).encode()
    try:
        connection.request("POST", "/predict", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        told = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise Answered(
            f"no answer to rows {first} to {first + len(rows) - 1}: {error or type(error).__name__}"
        ) from None
    if answer.status != 200:
        words = told.decode("utf-8", errors="replace")[:300]
        raise Answered(f"status {answer.status} to rows {first} to {first + len(rows) - 1} of the sample: {words}")
    predictions: list[Any] = json.loads(told)["predictions"]
    if len(predictions) != len(rows):
        raise Answered(f"{len(predictions)} predictions for {len(rows)} rows")
    return predictions


def _number(told: Any, task: str) -> float:
    return float(told["1"] if task == "classification" else told)


@contextlib.contextmanager
def _served(package: Path, digest: str, python: Path, folder: Path) -> Iterator[tuple[str, int]]:
    ready, log = folder / "server.ready.json", folder / "server.log"
    ready.unlink(missing_ok=True)
    reads, ours = os.pipe()  # the server ends when our end closes, whatever becomes of this process
    command = [str(python), "-m", "trilho_runtime.server", str(package), "--version", "1", "--digest", digest]
    command += ["--port", "0", "--ready-file", str(ready), "--parent-pipe", str(reads)]
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=(reads,),
                env={name: value for name, value in clean(os.environ).items() if not name.startswith("AIP_")},
            )  # fmt: skip
    except OSError as error:
        os.close(ours)
        raise Unreachable(f"{python} cannot be started: {error.strerror}") from None
    finally:
        os.close(reads)
    try:
        yield _wait(process, ready, log)
    finally:
        os.close(ours)
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], ready: Path, log: Path) -> tuple[str, int]:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        address = _address(ready)
        if address is not None and _is_well(*address):
            return address
        time.sleep(LOOK_SECONDS)
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    said = lines[-1].strip() if lines else "it said nothing"
    how = "was not ready in time" if process.poll() is None else f"ended with exit code {process.returncode}"
    raise Unreachable(f"the prediction server {how}: {said}")


def _address(ready: Path) -> tuple[str, int] | None:
    try:
        parts = urlsplit(json.loads(ready.read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError, KeyError):
        return None
    return parts.hostname or "127.0.0.1", parts.port or 0


def _is_well(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=1)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/health")
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            return False
        return answer.status == 200
