"""A trial of a version: the real server, apart from all traffic, asked what it must answer and loaded.

The server that will answer users is started once more, on a port of its own, with a log and a live profile that are
thrown away. It is asked every row that the package keeps, alone and with others, and must give the answers that the
package keeps; then one row after the other, which gives the wait of 99 in 100 and how sure that is; then
`[serve] peak` rows a second whether it keeps up or not; then as much as it takes, for the record. It runs at a lower
priority than what serves.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import comb, isclose
from pathlib import Path
from typing import Any

from trilho.config import Serve
from trilho.core.checks import Check
from trilho.errors import PackageError
from trilho.serve.asking import Told, ask_at_rate, ask_in_turn, requests_for
from trilho.serve.endpoint import read_json
from trilho.serve.flags import environment, server_flags, server_module
from trilho.serve.process import Child

LATENCY_MS = 1000.0  # that 99 in 100 may wait at the peak, where [gate] latency says nothing
CONFIDENCE = 0.95
FEW, MANY = 300, 1500  # one-row requests: fewer than 299 cannot bound the wait of 99 in 100 from above
LATENCY_SECONDS, PATIENCE_SECONDS, ROUNDS = 3.0, 45.0, 3
RECORD_SECONDS, PEAK_SECONDS = 1.0, 3.0
CALLERS, FEWEST_CALLERS = 64, 8
TOGETHER = 7  # rows in a request of some
TOLERANCE = 1e-9
START_SECONDS = 120.0
NICE = "5"
LOOK_SECONDS = 0.02
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A package, and how its server is to be started and asked."""

    package: Path
    version: int
    python: Path
    settings: Serve
    home: Path
    latency: float | None = None
    """The milliseconds that 99 in 100 one-row requests may take."""
    server: str = "trilho_runtime.server"
    workers: str = "trilho_runtime.workers"

    def run(self, say: Say = lambda _: None) -> tuple[list[Check], dict[str, Any]]:
        """Start the server, ask it, load it, end it; give what was held against it, and the figures.

        A server that does not start, or answers otherwise than the package's own rows, is a failed check.
        """
        try:
            asked = _Sample.read(self.package)
        except PackageError as error:
            return [Check("answers", "fail", error.fact)], {}
        with tempfile.TemporaryDirectory(prefix="trilho-trial-") as name, self._running(Path(name)) as started:
            if isinstance(started, Check):
                return [started], {}
            child, seconds = started
            say(
                f"version {self.version} was ready after {seconds:.1f} s; it is asked its {len(asked.rows)} stored rows"
            )
            checks, figures = _ask(str(child.address), asked, self.settings, self.latency, say)
            return checks, {"start_seconds": round(seconds, 3), **figures, "memory_bytes": _memory(child.pid)}

    def _command(self, folder: Path, ready_file: Path) -> list[str]:
        return [
            *(["nice", "-n", NICE] if shutil.which("nice") else []),
            *(str(self.python), "-m", *server_module(self.settings, self.server, self.workers)),
            *(str(self.package), "--version", str(self.version)),
            *("--host", "127.0.0.1", "--port", "0", "--ready-file", str(ready_file)),
            *server_flags(self.settings, folder / "log"),
            *("--requests", "none"),  # so that its last words are its own
        ]

    @contextmanager
    def _running(self, folder: Path) -> Iterator[tuple[Child, float] | Check]:
        """Run the server; give it with the seconds until it was ready, or say why it did not start."""
        ends, held = os.pipe()
        env = {**ONE_THREAD, "PYTHONDONTWRITEBYTECODE": "1", **environment(self.settings, self.home)}
        child = Child("server", folder, partial(self._command, folder), check="/health", pipe=ends, env=env)
        began = time.monotonic()
        try:
            while child.state != "ready" and not child.failed_starts and time.monotonic() - began < START_SECONDS:
                child.keep()
                time.sleep(LOOK_SECONDS)
            if child.state == "ready":
                yield child, time.monotonic() - began
            else:
                why = child.problem or f"it was not ready after {START_SECONDS:.0f} s: {child.last_words()}"
                yield Check("answers", "fail", f"its server did not start: {why}")
        finally:
            child.leave()
            os.close(held)
            child.wait(15.0)
            os.close(ends)


@dataclass(frozen=True)
class _Sample:
    """The rows that a package keeps, and the entries that it must be answered with."""

    rows: list[Any]
    entries: list[Any]

    @classmethod
    def read(cls, package: Path) -> _Sample:
        """Read the rows off a package. Raises PackageError where it keeps none."""
        from trilho_runtime.prediction.entries import Telling

        manifest, sample = read_json(package / "manifest.json"), read_json(package / "sample.json")
        rows, told = (list((sample or {}).get(key) or []) for key in ("rows", "predictions"))
        if manifest is None or not rows or len(rows) != len(told):
            raise PackageError(
                f"{package} keeps no rows with their predictions, so that nobody can say what it must answer",
                hint="trilho train packages the model again",
            )
        return cls(rows, Telling.of(manifest).plain(told))


def _ask(
    address: str, asked: _Sample, settings: Serve, latency: float | None, say: Say
) -> tuple[list[Check], dict[str, Any]]:
    checks = [_query(address, asked, settings)]
    figures: dict[str, Any] = {"rows": len(asked.rows)}
    if checks[0].verdict == "fail":
        return checks, figures
    one = requests_for(asked.rows, 1)
    say("it is asked one row after the other")
    alone = _alone(address, one, latency)
    figures["alone"] = _figures(alone)
    checks += _whole(alone, asked, "one row after the other")
    if latency is not None:
        checks.append(latency_check(alone.waits, latency))
    if settings.peak is not None:
        say(f"it is asked {settings.peak:g} rows a second for {PEAK_SECONDS:g} s")
        limit = latency or LATENCY_MS
        peak = ask_at_rate(address, one, rate=settings.peak, seconds=PEAK_SECONDS, patience=1 + limit / 1000)
        figures["peak"] = _figures(peak)
        checks.append(_peak(peak, asked, settings.peak, limit))
    say("it is asked as much as it answers")
    callers = min(CALLERS, max(FEWEST_CALLERS, int(1000 * RECORD_SECONDS / (alone.milliseconds(0.5) or 1000.0))))
    most = ask_in_turn(address, one, seconds=RECORD_SECONDS, callers=callers)
    figures["most"] = {
        **_figures(most),
        "callers": callers,
        "rows_per_second": round(len(most.waits) / most.seconds, 1),
    }
    return [*checks, *_whole(most, asked, f"by {callers} callers at once")], figures


def _alone(address: str, requests: Sequence[bytes], latency: float | None) -> Told:
    """Ask one row after the other, until the waits tell whether they keep within `latency`, or patience ends."""
    if latency is None:
        return ask_in_turn(address, requests, seconds=RECORD_SECONDS, most=FEW)
    told = ask_in_turn(address, requests, seconds=LATENCY_SECONDS, most=MANY)
    for _ in range(ROUNDS):  # what holds up a few requests is often gone a moment later
        if told.errors or latency_check(told.waits, latency).verdict != "not enough data":
            return told
        lacking = FEW - len(told.waits)
        most, seconds = (lacking, PATIENCE_SECONDS) if lacking > 0 else (MANY, LATENCY_SECONDS)
        told += ask_in_turn(address, requests, seconds=seconds, most=most)
    return told


def _query(address: str, asked: _Sample, settings: Serve) -> Check:
    """Ask each row alone, with some others, and with all others."""
    count = 0
    for size in sorted({1, min(TOGETHER, len(asked.rows), settings.max_rows), min(len(asked.rows), settings.max_rows)}):
        requests = requests_for(asked.rows, size)
        if max(map(len, requests)) > settings.max_body:
            continue
        told = ask_in_turn(address, requests, seconds=0.0, least=len(requests), most=len(requests))
        count += len(requests)
        wrong = _wrong(told, asked, size)
        if wrong:
            return Check("answers", "fail", f"{wrong}, asked {size} row{'s' if size > 1 else ''} at a time")
    note = f"{len(asked.rows)} stored rows, alone and with others, in {count} requests: each answered as it was stored"
    return Check("answers", "pass", note)


def _whole(told: Told, asked: _Sample, how: str) -> list[Check]:
    wrong = _wrong(told, asked, 1)
    return [Check("answers under load", "fail", f"{wrong}, asked {how}")] if wrong else []


def _wrong(told: Told, asked: _Sample, size: int) -> str:
    """Say what was not answered as it should be; nothing where all was."""
    if told.errors:
        statuses = (
            ", ".join(f"{count} with {status}" for status, count in sorted(told.refused.items())) or "no answer in time"
        )
        return f"{told.errors} of {told.asked} requests failed ({statuses})"
    for place, body in told.bodies:
        expected = asked.entries[place * size : place * size + size]
        try:
            found = json.loads(body)["predictions"]
        except (ValueError, KeyError, TypeError):
            return f"an answer is none: {body[:80].decode(errors='replace')}"
        for at, wanted in enumerate(expected):
            entry = _plain(found[at]) if at < len(found) else None
            if not same(entry, wanted):
                return f"stored row {place * size + at} is answered with {entry!r:.80}, the package has {wanted!r:.80}"
    return ""


def _plain(entry: Any) -> Any:
    """Give the prediction of an entry that also says its id and versions."""
    if isinstance(entry, dict) and {"id", "score"} <= entry.keys():
        return entry.get("probabilities", entry["score"])
    return entry


def same(found: Any, wanted: Any) -> bool:
    """Say whether an answer is the stored one, numbers within 1e-9.

    >>> same({"0": 0.25, "1": 0.75 + 1e-12}, {"0": 0.25, "1": 0.75}), same(1.0, 1.1), same("a", "a")
    (True, False, True)
    """
    if isinstance(wanted, Mapping):
        return (
            isinstance(found, Mapping)
            and found.keys() == wanted.keys()
            and all(same(found[key], value) for key, value in wanted.items())
        )
    number = isinstance(wanted, int | float) and not isinstance(wanted, bool)
    if number and isinstance(found, int | float) and not isinstance(found, bool):
        return isclose(found, wanted, rel_tol=TOLERANCE, abs_tol=1e-12)
    return bool(found == wanted)


def latency_check(waits: Sequence[float], limit: float) -> Check:
    """Hold the wait of 99 in 100 one-row requests against `gate.latency`, by bounds that rest on order alone."""
    low, high = bounds_of_p99(sorted(waits), CONFIDENCE)
    middle = sorted(waits)[min(len(waits) - 1, int(0.99 * len(waits)))] if waits else None
    figures = {name: None if x is None else round(1000 * x, 3) for name, x in (("low", low), ("high", high))}
    told = f"99 in 100 of {len(waits)} one-row requests took up to {_ms(middle)}, between {_ms(low)} and {_ms(high)}"
    note = f"{told}, each end with {100 * CONFIDENCE:g}% confidence; allowed: {limit:g} ms"
    if low is not None and 1000 * low > limit:
        return Check("latency", "fail", note, figures=figures)
    if high is not None and 1000 * high <= limit:
        return Check("latency", "pass", note, figures=figures)
    return Check("latency", "not enough data", f"the waits cannot tell: {note}", figures=figures)


def bounds_of_p99(waits: Sequence[float], confidence: float) -> tuple[float | None, float | None]:
    """Give one-sided bounds of the wait that 99 in 100 requests stay within, of sorted waits; None where too few.

    Which place in the order holds the bound follows from the binomial, whatever the waits look like.

    >>> bounds_of_p99([float(x) for x in range(1, 301)], 0.95)
    (294.0, 300.0)
    >>> bounds_of_p99([1.0] * 298, 0.95)[1] is None
    True
    """
    count, tail = len(waits), 0.0
    low = high = None
    for over in range(count):  # so many waits are longer than the true one
        tail += comb(count, over) * 0.01**over * 0.99 ** (count - over)
        if tail <= 1 - confidence:
            high = waits[count - 1 - over]
        if low is None and tail >= confidence:
            low = waits[count - 1 - over]
            break
    return low, high


def _peak(told: Told, asked: _Sample, peak: float, limit: float) -> Check:
    """Say whether the peak is borne: all that was due is answered rightly, and 99 in 100 within the limit."""
    wrong = _wrong(told, asked, 1)
    in_time = sum(end <= PEAK_SECONDS + limit / 1000 for end in told.ends)
    borne = in_time / max(told.asked, 1) * peak
    p99 = told.milliseconds(0.99)
    note = f"{borne:.4g} of {peak:g} rows a second answered, 99 in 100 within {_ms(p99 and p99 / 1000)}"
    note += f"; allowed: {limit:g} ms"
    bad = bool(wrong) or in_time < told.asked or p99 is None or p99 > limit
    return Check("peak", "fail" if bad else "pass", f"{wrong}; {note}" if wrong else note)


def _ms(seconds: float | None) -> str:
    return "an unknown time" if seconds is None else f"{1000 * seconds:.3g} ms"


def _figures(told: Told) -> dict[str, Any]:
    p50, p99 = told.milliseconds(0.5), told.milliseconds(0.99)
    return {
        "requests": told.asked,
        "errors": told.errors,
        "seconds": round(told.seconds, 3),
        "p50_ms": None if p50 is None else round(p50, 3),
        "p99_ms": None if p99 is None else round(p99, 3),
    }


def _memory(pid: int | None) -> int | None:
    """Give the memory of a server with all its workers; None where nobody says."""
    from trilho_runtime.web.memory import memory_bytes

    if pid is None:
        return None
    found = [memory_bytes(each) for each in (pid, *_children(pid))]
    return sum(x for x in found if x is not None) if any(found) else None


def _children(pid: int) -> list[int]:
    try:
        return [int(x) for x in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    except (OSError, ValueError):
        return []
